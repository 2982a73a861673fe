// Package lineedit edits one line on a terminal: cursor keys, history,
// completion, and hidden input for passwords. It is pure: bytes come in by Feed,
// and what is to be sent to the terminal goes to an io.Writer.
//
// It is made for a serial line on which anything may arrive: NUL bytes, noise,
// half escape sequences, lines without end. Its memory is bounded, and Enter
// and Ctrl-C always work. (golang.org/x/term stops reading for good after an
// escape sequence of 256 bytes.)
//
// The terminal is taken to be a VT100 that shows UTF-8 with one column for each
// character; a line that is wider than the terminal scrolls sideways.
package lineedit

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Event is what a byte led to.
type Event int

// The events.
const (
	None      Event = iota
	Enter           // the line is complete
	Interrupt       // Ctrl-C
	EOF             // Ctrl-D in an empty line
	Overflow        // Enter after more than MaxLine characters: the line is lost
)

// MaxLine is the longest line in characters.
const MaxLine = 512

// AskSize has a terminal tell its size: it sends the cursor to the far corner,
// asks where it is, and sends it back. A terminal that does not know this prints
// nothing. The answer is found among what is typed; see Editor.Size.
const AskSize = "\x1b7\x1b[999;999H\x1b[6n\x1b8"

// maxHistory is how many lines are remembered.
const maxHistory = 50

// Editor edits a line. Its zero value is not ready; use New.
type Editor struct {
	// Complete returns the words that the last word of head may become.
	Complete func(head string) []string

	w       io.Writer
	dec     decoder
	prompt  []rune
	line    []rune
	pos     int // cursor in line
	off     int // first character shown
	width   int // columns
	usual   int // width until the terminal tells another
	hidden  bool
	over    bool
	afterCR bool

	history []string
	recall  int // index in history; len(history) is the line being typed
	typed   []rune
}

// New returns an editor for a terminal of width columns (at least 20).
func New(w io.Writer, width int) *Editor {
	width = max(width, 20)
	return &Editor{w: w, width: width, usual: width}
}

// Size returns what the terminal told of its size since the last Reset; 0, 0
// is nothing.
func (e *Editor) Size() (columns, lines int) { return e.dec.columns, e.dec.lines }

// Start begins a new line and shows the prompt. Hidden input is not shown and
// not remembered, and has no history or completion.
func (e *Editor) Start(prompt string, hidden bool) {
	e.prompt = []rune(prompt)
	e.cutPrompt()
	e.hidden = hidden
	e.recall = len(e.history)
	e.clear()
	e.Redraw()
}

// cutPrompt leaves half of the width for the line.
func (e *Editor) cutPrompt() {
	if room := e.width / 2; len(e.prompt) > room {
		e.prompt = e.prompt[len(e.prompt)-room:]
	}
}

func (e *Editor) clear() {
	clear(e.line) // it may have been a password
	e.line, e.pos, e.off, e.over = e.line[:0], 0, 0, false
}

// Empty reports whether nothing has been typed.
func (e *Editor) Empty() bool { return len(e.line) == 0 && !e.over }

// Reset forgets what was typed, the history, and what the terminal told of its
// size: another one may be at the line.
func (e *Editor) Reset() {
	e.clear()
	e.dec.columns, e.dec.lines, e.width = 0, 0, e.usual
	e.history = nil
	e.recall = 0
}

// Line returns the line and forgets it. A visible, non-empty line goes into the
// history.
func (e *Editor) Line() string {
	s := string(e.line)
	if !e.hidden && strings.TrimSpace(s) != "" && (len(e.history) == 0 || e.history[len(e.history)-1] != s) {
		if len(e.history) == maxHistory {
			e.history = slices.Delete(e.history, 0, 1)
		}
		e.history = append(e.history, s)
	}
	e.clear()
	return s
}

// Hide removes the prompt and the line from the screen, so that something else
// can be printed; Redraw brings them back.
func (e *Editor) Hide() { io.WriteString(e.w, "\r\x1b[K") }

// Redraw shows the prompt, the line and the cursor.
func (e *Editor) Redraw() {
	var b strings.Builder
	b.WriteByte('\r')
	b.WriteString(string(e.prompt))
	if !e.hidden {
		room := e.room()
		if e.pos < e.off {
			e.off = e.pos
		}
		if e.pos > e.off+room {
			e.off = e.pos - room
		}
		end := min(len(e.line), e.off+room)
		b.WriteString(string(e.line[e.off:end]))
		b.WriteString("\x1b[K")
		if back := end - e.pos; back > 0 {
			b.WriteString("\x1b[" + strconv.Itoa(back) + "D")
		}
	} else {
		b.WriteString("\x1b[K")
	}
	io.WriteString(e.w, b.String())
}

// room is how many characters of the line fit: the last column stays free, so
// that the terminal never wraps.
func (e *Editor) room() int { return e.width - len(e.prompt) - 1 }

// decode returns the key that b completes. CR LF and CR NUL (telnet) are one
// Enter.
func (e *Editor) decode(b byte) key {
	wasCR := e.afterCR
	e.afterCR = b == '\r'
	if wasCR && (b == '\n' || b == 0) {
		return keyNone
	}
	k := e.dec.feed(b)
	if k == keyReport {
		e.width = e.dec.columns
		e.cutPrompt()
	}
	return k
}

// Key takes one byte and returns the character or control character that it
// completes, for questions that are answered with one key. Keys that are
// neither are none.
func (e *Editor) Key(b byte) (r rune, ok bool) {
	k := e.decode(b)
	return rune(k), k > 0
}

// Feed takes one byte from the terminal.
func (e *Editor) Feed(b byte) Event {
	switch k := e.decode(b); k {
	case '\r', '\n':
		io.WriteString(e.w, "\n")
		if e.over {
			e.clear()
			return Overflow
		}
		return Enter
	case 'C' - '@':
		io.WriteString(e.w, "\n")
		e.clear()
		return Interrupt
	case 'D' - '@':
		if e.Empty() {
			io.WriteString(e.w, "\n")
			return EOF
		}
		e.remove(e.pos, e.pos+1)
	case 'H' - '@', 0x7f:
		e.over = false
		e.remove(e.pos-1, e.pos)
	case keyDelete:
		e.remove(e.pos, e.pos+1)
	case 'U' - '@':
		e.over = false
		e.remove(0, e.pos)
	case 'K' - '@':
		e.remove(e.pos, len(e.line))
	case 'W' - '@':
		e.remove(e.wordStart(), e.pos)
	case 'A' - '@', keyHome:
		e.move(0)
	case 'E' - '@', keyEnd:
		e.move(len(e.line))
	case 'B' - '@', keyLeft:
		e.move(e.pos - 1)
	case 'F' - '@', keyRight:
		e.move(e.pos + 1)
	case 'L' - '@', keyReport:
		e.Redraw()
	case 'P' - '@', keyUp:
		e.recallLine(e.recall - 1)
	case 'N' - '@', keyDown:
		e.recallLine(e.recall + 1)
	case '\t':
		e.complete()
	default:
		if k >= ' ' && unicode.IsPrint(rune(k)) {
			e.insert([]rune{rune(k)})
		}
	}
	return None
}

func (e *Editor) wordStart() int {
	i := e.pos
	for i > 0 && e.line[i-1] == ' ' {
		i--
	}
	for i > 0 && e.line[i-1] != ' ' {
		i--
	}
	return i
}

func (e *Editor) insert(r []rune) {
	if len(e.line)+len(r) > MaxLine {
		if !e.over {
			io.WriteString(e.w, "\a")
		}
		e.over = true
		return
	}
	atEnd := e.pos == len(e.line)
	e.line = slices.Insert(e.line, e.pos, r...)
	e.pos += len(r)
	switch {
	case e.hidden:
	case atEnd && e.pos-e.off <= e.room():
		io.WriteString(e.w, string(r))
	default:
		e.Redraw()
	}
}

func (e *Editor) remove(from, to int) {
	from, to = max(from, 0), min(to, len(e.line))
	if from >= to {
		return
	}
	e.line = slices.Delete(e.line, from, to)
	e.pos = from
	if !e.hidden {
		e.Redraw()
	}
}

func (e *Editor) move(pos int) {
	if pos = min(max(pos, 0), len(e.line)); pos != e.pos {
		e.pos = pos
		if !e.hidden {
			e.Redraw()
		}
	}
}

func (e *Editor) recallLine(i int) {
	if e.hidden || i < 0 || i > len(e.history) {
		return
	}
	if e.recall == len(e.history) {
		e.typed = slices.Clone(e.line)
	}
	e.recall = i
	if i == len(e.history) {
		e.line = append(e.line[:0], e.typed...)
	} else {
		e.line = append(e.line[:0], []rune(e.history[i])...)
	}
	e.pos, e.off = len(e.line), 0
	e.Redraw()
}

func (e *Editor) complete() {
	if e.hidden || e.Complete == nil || e.pos != len(e.line) {
		return
	}
	head := string(e.line)
	words := e.Complete(head)
	if len(words) == 0 {
		return
	}
	last := []rune(head[strings.LastIndexByte(head, ' ')+1:])
	common := []rune(words[0])
	for _, w := range words[1:] {
		n := 0
		for r := []rune(w); n < len(common) && n < len(r) && common[n] == r[n]; {
			n++
		}
		common = common[:n]
	}
	if len(words) == 1 {
		common = append(common, ' ')
	}
	if len(common) > len(last) {
		e.insert(common[len(last):])
		return
	}
	if len(words) > 1 {
		io.WriteString(e.w, "\n"+strings.Join(words, "  ")+"\n")
		e.Redraw()
	}
}

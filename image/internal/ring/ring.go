// Package ring keeps the appliance's log in RAM: a bounded lane of lines for
// each source (a service, "init", "kernel"), so that one that talks much never
// pushes out what the others said.
//
// Limits: Lines of at most MaxLine bytes (more is cut), Budget bytes in each
// lane (the oldest lines go first). Text is made safe for a terminal: control
// characters and bytes that are not UTF-8 become U+FFFD. A follower has a queue
// of followDepth lines; when it is full, new lines are dropped for that
// follower alone and their number is told with the next one that fits. Nothing
// here waits for anybody.
package ring

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/parley-meet/parley/image/control"
)

// MaxLine is the longest line in bytes that is kept.
const MaxLine = 8 << 10

// Overhead is what a line costs in a lane beside its text, in bytes.
const Overhead = 64

// firstSeq leaves numbers below the first line of this boot for lines of the
// boot before it.
const firstSeq = 1 << 20

// followDepth is the length of a follower's queue in lines.
const followDepth = 256

// Ring is the log. Its methods may be called from several goroutines.
type Ring struct {
	budget int

	mu        sync.Mutex
	next      uint64
	first     uint64
	lanes     map[string]*lane
	followers map[*Follower]struct{}
}

// lane holds the lines of one source, oldest first.
type lane struct {
	lines []control.Log
	bytes int
}

// New returns an empty ring that keeps budget bytes of each source.
func New(budget int) *Ring {
	return &Ring{
		budget:    max(budget, MaxLine+Overhead),
		next:      firstSeq,
		first:     firstSeq,
		lanes:     make(map[string]*lane),
		followers: make(map[*Follower]struct{}),
	}
}

// Add appends one line that source wrote.
func (r *Ring) Add(at time.Time, source, text string) {
	text = clean(text)
	r.mu.Lock()
	defer r.mu.Unlock()
	l := control.Log{Seq: r.next, At: at, Service: source, Text: text}
	r.next++
	ln := r.laneLocked(source)
	ln.lines = append(ln.lines, l)
	ln.bytes += len(text) + Overhead
	drop := 0
	for ln.bytes > r.budget {
		ln.bytes -= len(ln.lines[drop].Text) + Overhead
		ln.lines[drop] = control.Log{}
		drop++
	}
	// Slicing the front off is cheap; append moves the rest when it runs out of
	// room, so the array stays within about twice the lane.
	ln.lines = ln.lines[drop:]
	for f := range r.followers {
		f.offer(l)
	}
}

// Prepend puts lines of an earlier boot in front of everything, in the order
// given. What does not fit the lanes beside this boot's lines is left out.
func (r *Ring) Prepend(lines []control.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	room := make(map[string]int)
	var keep []control.Log
	for _, l := range slices.Backward(lines) {
		left, ok := room[l.Service]
		if !ok {
			left = r.budget - r.laneLocked(l.Service).bytes
		}
		l.Text = clean(l.Text)
		left -= len(l.Text) + Overhead
		room[l.Service] = left
		if left < 0 || r.first == 0 {
			continue
		}
		r.first--
		l.Seq = r.first
		keep = append(keep, l)
	}
	slices.Reverse(keep)
	old := make(map[string][]control.Log)
	for _, l := range keep {
		old[l.Service] = append(old[l.Service], l)
		r.laneLocked(l.Service).bytes += len(l.Text) + Overhead
	}
	for name, ls := range old {
		ln := r.laneLocked(name)
		ln.lines = append(ls, ln.lines...)
	}
}

func (r *Ring) laneLocked(source string) *lane {
	ln := r.lanes[source]
	if ln == nil {
		ln = &lane{}
		r.lanes[source] = ln
	}
	return ln
}

// Lines returns the newest n lines of source ("" is all sources), oldest first;
// n = 0 is all that are kept.
func (r *Ring) Lines(source string, n int) []control.Log {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.linesLocked(source, n, 0)
}

// Since returns all lines with a number of at least seq, oldest first, and the
// number that the next line will have.
func (r *Ring) Since(seq uint64) ([]control.Log, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.linesLocked("", 0, seq), r.next
}

// First returns the number of the first line of this boot.
func (r *Ring) First() uint64 { return firstSeq }

func (r *Ring) linesLocked(source string, n int, seq uint64) []control.Log {
	var out []control.Log
	for name, ln := range r.lanes {
		if source != "" && source != name {
			continue
		}
		from, _ := slices.BinarySearchFunc(ln.lines, seq, func(l control.Log, s uint64) int { return cmp.Compare(l.Seq, s) })
		lines := ln.lines[from:]
		if n > 0 && len(lines) > n {
			lines = lines[len(lines)-n:]
		}
		out = append(out, lines...)
	}
	slices.SortFunc(out, func(a, b control.Log) int { return cmp.Compare(a.Seq, b.Seq) })
	if n > 0 && len(out) > n {
		out = out[len(out)-n:]
	}
	return out
}

// Follower receives lines as they come.
type Follower struct {
	// C carries the lines. It is never closed.
	C <-chan control.Log

	c      chan control.Log
	source string
	lost   int
	ring   *Ring
}

// Follow returns the past lines that Lines would and a Follower for those after
// them. The caller calls Close when it is done.
func (r *Ring) Follow(source string, n int) ([]control.Log, *Follower) {
	c := make(chan control.Log, followDepth)
	f := &Follower{C: c, c: c, source: source, ring: r}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.followers[f] = struct{}{}
	return r.linesLocked(source, n, 0), f
}

// Close ends the following.
func (f *Follower) Close() {
	f.ring.mu.Lock()
	defer f.ring.mu.Unlock()
	delete(f.ring.followers, f)
}

// offer queues a line. The policy of a full queue is to drop the new line and
// to count it; the count goes in front of the next line for which there is room
// for both. The ring's lock is held.
func (f *Follower) offer(l control.Log) {
	if f.source != "" && f.source != l.Service {
		return
	}
	if f.lost > 0 {
		if cap(f.c)-len(f.c) < 2 {
			f.lost++
			return
		}
		f.c <- control.Log{Seq: l.Seq, At: l.At, Service: "init", Text: fmt.Sprintf("%d lines lost: the reader is too slow", f.lost)}
		f.lost = 0
	}
	select {
	case f.c <- l:
	default:
		f.lost++
	}
}

// clean replaces what could move a terminal's cursor or is not UTF-8, and cuts
// the result to MaxLine bytes: U+FFFD is longer than the byte that it stands for.
func clean(text string) string {
	text = strings.TrimRight(text, "\r\n")
	if len(text) > MaxLine {
		text = text[:MaxLine]
	}
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' && c != '\t' || c >= 0x7f {
			return cut(strings.Map(func(c rune) rune {
				if c < ' ' && c != '\t' || c >= 0x7f && c < 0xa0 || c == 0x2028 || c == 0x2029 {
					return utf8.RuneError
				}
				return c
			}, text))
		}
	}
	return text
}

// cut returns the longest start of the UTF-8 text that has whole characters and
// at most MaxLine bytes.
func cut(text string) string {
	if len(text) <= MaxLine {
		return text
	}
	n := MaxLine
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

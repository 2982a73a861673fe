package lineedit

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// key is a decoded key: a printable rune, a control character, or one of the
// constants below.
type key rune

const (
	keyNone key = -1 - iota
	keyUp
	keyDown
	keyLeft
	keyRight
	keyHome
	keyEnd
	keyDelete
	keyInvalid // bytes that are not UTF-8
	keyReport  // the terminal told its size: see decoder.columns
)

// Sizes that a terminal is believed to have, in columns and lines: what noise
// makes up is mostly not within.
const (
	minColumns, maxColumns = 40, 400
	minLines, maxLines     = 10, 200
)

// maxSequence is the longest escape sequence in bytes that is waited for: line
// noise after an ESC must not swallow what is typed later.
const maxSequence = 16

type decodeState int

const (
	ground decodeState = iota
	escape             // after ESC
	csi                // after ESC [
	ss3                // after ESC O
	runes              // within a UTF-8 sequence
	linux              // after ESC [ [, a function key of the Linux console
)

// decoder turns bytes into keys (ECMA-48 5.4 for control sequences). Whatever
// comes in, it is back at ground after maxSequence bytes.
type decoder struct {
	state decodeState
	buf   [maxSequence]byte
	n     int
	// columns and lines are the size that the last keyReport told.
	columns, lines int
}

func (d *decoder) feed(b byte) key {
	// A control byte ends whatever was begun: Enter always works.
	if b < ' ' && b != 0x1b {
		d.state, d.n = ground, 0
		return key(b)
	}
	switch d.state {
	case ground:
		switch {
		case b == 0x1b:
			d.state = escape
			return keyNone
		case b < utf8.RuneSelf:
			return key(b)
		}
		d.buf[0], d.n, d.state = b, 1, runes
		return d.rune()
	case runes:
		if b&0xc0 != 0x80 {
			d.state, d.n = ground, 0
			return d.feed(b) // the sequence was cut short; b may be good
		}
		d.buf[d.n] = b
		d.n++
		return d.rune()
	case escape:
		d.n = 0
		switch b {
		case '[':
			d.state = csi
		case 'O':
			d.state = ss3
		case 0x1b:
		default: // Alt and a key: nothing
			d.state = ground
		}
		return keyNone
	case ss3:
		d.state = ground
		return final(b, nil)
	case linux:
		d.state = ground
		return keyNone
	}
	// csi
	switch {
	case b == 0x1b:
		d.state = escape
	case b == '[' && d.n == 0:
		d.state = linux
	case b >= 0x40 && b <= 0x7e:
		d.state = ground
		if (b == 'R' || b == 't') && d.report(b, string(d.buf[:d.n])) {
			return keyReport
		}
		return final(b, d.buf[:d.n])
	case b >= 0x7f || d.n == maxSequence:
		d.state = ground
	default:
		d.buf[d.n] = b
		d.n++
	}
	return keyNone
}

// report reads the answer to AskSize: CSI lines ; columns R is where the cursor
// is after it was sent to the far corner (ECMA-48 8.3.14), CSI 8 ; lines ;
// columns t the size of the text area (xterm).
func (d *decoder) report(final byte, params string) bool {
	if final == 't' {
		var ok bool
		if params, ok = strings.CutPrefix(params, "8;"); !ok {
			return false
		}
	}
	l, c, ok := strings.Cut(params, ";")
	lines, err := strconv.Atoi(l)
	columns, err2 := strconv.Atoi(c)
	if !ok || err != nil || err2 != nil || lines < minLines || lines > maxLines || columns < minColumns || columns > maxColumns {
		return false
	}
	d.lines, d.columns = lines, columns
	return true
}

func (d *decoder) rune() key {
	if !utf8.FullRune(d.buf[:d.n]) {
		return keyNone
	}
	r, size := utf8.DecodeRune(d.buf[:d.n])
	d.state, d.n = ground, 0
	if r == utf8.RuneError && size <= 1 {
		return keyInvalid
	}
	return key(r)
}

// final names the key of a control sequence with the given last byte.
func final(b byte, params []byte) key {
	switch b {
	case 'A':
		return keyUp
	case 'B':
		return keyDown
	case 'C':
		return keyRight
	case 'D':
		return keyLeft
	case 'H':
		return keyHome
	case 'F':
		return keyEnd
	case '~':
		switch string(params) {
		case "1", "7":
			return keyHome
		case "4", "8":
			return keyEnd
		case "3":
			return keyDelete
		}
	}
	return keyNone
}

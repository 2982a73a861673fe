// Package font loads a console font into a virtual terminal.
//
// It reads PC Screen Font files, version 1 and 2, with a Unicode table: 8 pixels
// wide, at most 32 high, 256 or 512 glyphs. The table's sequences (a letter and
// its accents as several characters) are skipped: the kernel has no use for them.
package font

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits of what the kernel takes from us.
const (
	Width     = 8
	MaxHeight = 32
	MaxGlyphs = 512
	maxPairs  = 65535
)

// Font is a console font.
type Font struct {
	Height int    // rows, a byte each
	Glyphs int    // 256 or 512
	Bitmap []byte // Glyphs × Height
	Chars  []Char
}

// Char says which glyph shows a character.
type Char struct {
	Rune  uint16 // the kernel's map holds the basic plane only
	Glyph uint16
}

var errShort = errors.New("file is too short")

var le = binary.LittleEndian

// Parse reads a PSF file.
func Parse(b []byte) (*Font, error) {
	switch {
	case len(b) >= 4 && b[0] == 0x36 && b[1] == 0x04:
		return parse1(b)
	case len(b) >= 32 && le.Uint32(b) == 0x864ab572:
		return parse2(b)
	}
	return nil, errors.New("font: no PSF signature")
}

func parse1(b []byte) (*Font, error) {
	const (
		mode512 = 1
		hasTab  = 2
		hasSeq  = 4
	)
	mode := b[2]
	f := &Font{Height: int(b[3]), Glyphs: 256}
	if mode&mode512 != 0 {
		f.Glyphs = 512
	}
	rest, err := f.take(b[4:])
	if err != nil {
		return nil, err
	}
	if mode&(hasTab|hasSeq) == 0 {
		return f, nil
	}
	for g := range f.Glyphs {
		inSequence := false
		for {
			if len(rest) < 2 {
				return nil, fmt.Errorf("font: Unicode table at glyph %d: %w", g, errShort)
			}
			c := le.Uint16(rest)
			rest = rest[2:]
			if c == 0xffff {
				break
			}
			if c == 0xfffe {
				inSequence = true
			} else if !inSequence {
				if err := f.add(rune(c), g); err != nil {
					return nil, err
				}
			}
		}
	}
	return f, nil
}

func parse2(b []byte) (*Font, error) {
	const hasTab = 1
	head := int64(le.Uint32(b[8:]))
	flags := le.Uint32(b[12:])
	f := &Font{Height: int(le.Uint32(b[24:])), Glyphs: int(le.Uint32(b[16:]))}
	if v := le.Uint32(b[4:]); v != 0 {
		return nil, fmt.Errorf("font: PSF2 version %d, want 0", v)
	}
	if w := le.Uint32(b[28:]); w != Width {
		return nil, fmt.Errorf("font: %d pixels wide, want %d", w, Width)
	}
	if size := le.Uint32(b[20:]); int64(size) != int64(f.Height) {
		return nil, fmt.Errorf("font: glyphs of %d bytes for %d rows", size, f.Height)
	}
	if head < 32 || head > int64(len(b)) {
		return nil, fmt.Errorf("font: header of %d bytes: %w", head, errShort)
	}
	rest, err := f.take(b[head:])
	if err != nil {
		return nil, err
	}
	if flags&hasTab == 0 {
		return f, nil
	}
	for g := range f.Glyphs {
		inSequence := false
		for {
			if len(rest) == 0 {
				return nil, fmt.Errorf("font: Unicode table at glyph %d: %w", g, errShort)
			}
			if rest[0] == 0xff {
				rest = rest[1:]
				break
			}
			if rest[0] == 0xfe {
				inSequence = true
				rest = rest[1:]
				continue
			}
			c, n := utf8.DecodeRune(rest)
			if c == utf8.RuneError && n == 1 {
				return nil, fmt.Errorf("font: Unicode table at glyph %d: byte %#x is not UTF-8", g, rest[0])
			}
			rest = rest[n:]
			if !inSequence {
				if err := f.add(c, g); err != nil {
					return nil, err
				}
			}
		}
	}
	return f, nil
}

// take splits off the bitmap.
func (f *Font) take(b []byte) (rest []byte, err error) {
	if f.Height < 1 || f.Height > MaxHeight {
		return nil, fmt.Errorf("font: %d rows, want 1 to %d", f.Height, MaxHeight)
	}
	if f.Glyphs != 256 && f.Glyphs != MaxGlyphs {
		return nil, fmt.Errorf("font: %d glyphs, want 256 or %d", f.Glyphs, MaxGlyphs)
	}
	n := f.Glyphs * f.Height
	if len(b) < n {
		return nil, fmt.Errorf("font: bitmap of %d bytes, want %d: %w", len(b), n, errShort)
	}
	f.Bitmap = b[:n:n]
	return b[n:], nil
}

func (f *Font) add(c rune, glyph int) error {
	if c > 0xffff {
		return nil
	}
	if len(f.Chars) == maxPairs {
		return fmt.Errorf("font: more than %d characters", maxPairs)
	}
	f.Chars = append(f.Chars, Char{Rune: uint16(c), Glyph: uint16(glyph)})
	return nil
}

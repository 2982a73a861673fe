package font

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
)

const shipped = "../../boot/uni2-fixed16.psf"

// What the consoles write: Cyrillic, Latin, boxes, and the signs of their texts.
func TestShippedFont(t *testing.T) {
	b, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if f.Height != 16 || f.Glyphs != 512 || len(f.Bitmap) != 512*16 {
		t.Errorf("%d rows, %d glyphs, %d bytes", f.Height, f.Glyphs, len(f.Bitmap))
	}
	glyph := make(map[rune]uint16)
	for _, c := range f.Chars {
		glyph[rune(c.Rune)] = c.Glyph
	}
	need := "Ёё" + "─│┌┐└┘├┤┬┴┼═║╔╗╚╝█▒░" + "…–—«»„“”№·•×±°©→←↑↓"
	for c := '!'; c <= '~'; c++ {
		need += string(c)
	}
	for c := 'А'; c <= 'я'; c++ {
		need += string(c)
	}
	shapes := make(map[string]rune)
	for _, c := range need {
		g, ok := glyph[c]
		if !ok {
			t.Errorf("no %c (%U)", c, c)
			continue
		}
		shape := string(f.Bitmap[int(g)*f.Height:][:f.Height])
		if strings.Trim(shape, "\x00") == "" {
			t.Errorf("%c (%U) is blank", c, c)
		}
		// Letters that look alike share a glyph; others must not.
		if other, ok := shapes[shape]; ok && c < 128 && other < 128 {
			t.Errorf("%c and %c look the same", c, other)
		}
		shapes[shape] = c
	}
}

// psf1 and psf2 make files.
func psf1(mode, rows byte, bitmap int, table ...uint16) []byte {
	b := append([]byte{0x36, 0x04, mode, rows}, make([]byte, bitmap)...)
	for _, c := range table {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

func psf2(version, head, flags, glyphs, size, rows, width uint32, bitmap int, table string) []byte {
	b := []byte{0x72, 0xb5, 0x4a, 0x86}
	for _, v := range []uint32{version, head, flags, glyphs, size, rows, width} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	if head > 32 && head < 1<<20 {
		b = append(b, make([]byte, head-32)...)
	}
	return append(append(b, make([]byte, bitmap)...), table...)
}

// empty ends the entries of glyphs from n on.
func empty1(n int) (t []uint16) {
	for range n {
		t = append(t, 0xffff)
	}
	return t
}

func TestParse(t *testing.T) {
	seq := append([]uint16{'a', 'b', 0xfffe, 'c', 'd', 0xfffe, 'e', 0xffff, 'x', 0xffff}, empty1(254)...)
	for name, x := range map[string]struct {
		file           []byte
		glyphs, height int
		chars          []Char
	}{
		"1, no table":    {psf1(0, 8, 256*8), 256, 8, nil},
		"1, 512":         {psf1(1, 14, 512*14), 512, 14, nil},
		"1, table":       {psf1(2, 16, 256*16, seq...), 256, 16, []Char{{'a', 0}, {'b', 0}, {'x', 1}}},
		"1, sequences":   {psf1(4, 1, 256, seq...), 256, 1, []Char{{'a', 0}, {'b', 0}, {'x', 1}}},
		"2, no table":    {psf2(0, 32, 0, 256, 16, 16, 8, 256*16, ""), 256, 16, nil},
		"2, long header": {psf2(0, 40, 0, 512, 32, 32, 8, 512*32, ""), 512, 32, nil},
		"2, table": {psf2(0, 32, 1, 256, 1, 1, 8, 256, "aЯ\xfea\u0301\xfeb\xff"+"\U0001F600z\xff"+strings.Repeat("\xff", 254)), 256, 1,
			[]Char{{'a', 0}, {'Я', 0}, {'z', 1}}},
	} {
		f, err := Parse(x.file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f.Glyphs != x.glyphs || f.Height != x.height || len(f.Bitmap) != x.glyphs*x.height || len(f.Chars) != len(x.chars) {
			t.Errorf("%s: %d glyphs of %d rows, %v", name, f.Glyphs, f.Height, f.Chars)
			continue
		}
		for i := range x.chars {
			if f.Chars[i] != x.chars[i] {
				t.Errorf("%s: %v, want %v", name, f.Chars, x.chars)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	many := make([]uint16, 0, 70_000)
	for range 66_000 {
		many = append(many, 'a')
	}
	for name, x := range map[string]struct {
		file []byte
		want string
	}{
		"empty":           {nil, "no PSF signature"},
		"text":            {[]byte(strings.Repeat("x", 100)), "no PSF signature"},
		"gzip":            {[]byte("\x1f\x8b\x08\x00"), "no PSF signature"},
		"1, cut":          {psf1(0, 8, 256*8-1), "bitmap of 2047 bytes, want 2048: file is too short"},
		"1, no rows":      {psf1(0, 0, 4096), "0 rows, want 1 to 32"},
		"1, high":         {psf1(0, 33, 256*33), "33 rows"},
		"1, table cut":    {psf1(2, 1, 256, empty1(255)...), "at glyph 255: file is too short"},
		"1, too many":     {psf1(2, 1, 256, many...), "more than 65535 characters"},
		"2, version":      {psf2(1, 32, 0, 256, 16, 16, 8, 4096, ""), "version 1, want 0"},
		"2, wide":         {psf2(0, 32, 0, 256, 32, 16, 16, 8192, ""), "16 pixels wide, want 8"},
		"2, size":         {psf2(0, 32, 0, 256, 17, 16, 8, 8192, ""), "glyphs of 17 bytes for 16 rows"},
		"2, short header": {psf2(0, 31, 0, 256, 16, 16, 8, 4096, ""), "header of 31 bytes"},
		"2, long header":  {psf2(0, 1<<31, 0, 256, 16, 16, 8, 4096, ""), "header of 2147483648 bytes"},
		"2, glyphs":       {psf2(0, 32, 0, 257, 16, 16, 8, 8192, ""), "257 glyphs, want 256 or 512"},
		"2, huge":         {psf2(0, 32, 0, 1<<32-1, 1<<32-1, 1<<32-1, 8, 100, ""), "rows, want 1 to 32"},
		"2, table cut":    {psf2(0, 32, 1, 256, 1, 1, 8, 256, "a"), "at glyph 0: file is too short"},
		"2, not UTF-8":    {psf2(0, 32, 1, 256, 1, 1, 8, 256, "\xff\xc3("), "at glyph 1: byte 0xc3 is not UTF-8"},
	} {
		if f, err := Parse(x.file); err == nil || !strings.Contains(err.Error(), x.want) || f != nil {
			t.Errorf("%s: %v, want an error about %q alone", name, err, x.want)
		}
	}
	if _, err := Parse(psf1(0, 8, 1)); !errors.Is(err, errShort) {
		t.Error(err)
	}
}

// Whatever the file, what is taken fits what the kernel is handed.
func FuzzParse(f *testing.F) {
	b, err := os.ReadFile(shipped)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(psf1(2, 1, 256, append([]uint16{'a', 0xfffe, 'b', 0xffff}, empty1(255)...)...))
	f.Add(psf2(0, 32, 1, 256, 1, 1, 8, 256, "a\xfeb\xff"+strings.Repeat("\xff", 255)))
	f.Add(psf2(0, 32, 0, 1<<32-1, 1<<32-1, 1<<32-1, 8, 100, ""))
	f.Add([]byte{0x36, 0x04})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := Parse(b)
		if err != nil {
			return
		}
		if x.Height < 1 || x.Height > MaxHeight || x.Glyphs != 256 && x.Glyphs != MaxGlyphs || len(x.Bitmap) != x.Height*x.Glyphs || len(x.Chars) > maxPairs {
			t.Fatalf("%d rows, %d glyphs, %d bytes, %d characters", x.Height, x.Glyphs, len(x.Bitmap), len(x.Chars))
		}
		for _, c := range x.Chars {
			if int(c.Glyph) >= x.Glyphs {
				t.Fatalf("%+v of %d glyphs", c, x.Glyphs)
			}
		}
	})
}

func TestLoadRefuses(t *testing.T) {
	b, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := Load(t.TempDir()+"/tty", f); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := Load(os.DevNull, f); err == nil || !strings.Contains(err.Error(), "KDFONTOP(/dev/null, 512 glyphs of 16 rows)") {
		t.Errorf("no terminal: %v", err)
	}
}

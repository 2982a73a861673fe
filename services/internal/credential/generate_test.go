package credential

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

func TestGenerate(t *testing.T) {
	if bits := groups * groupSize * math.Log2(float64(len(alphabet))); bits < 96 {
		t.Errorf("%.1f bits, want at least 96", bits)
	}
	for i, r := range alphabet {
		if strings.ContainsRune("ilo01yz", r) || r > 'z' || strings.IndexRune(alphabet, r) != i {
			t.Errorf("%q is in the alphabet, or twice", r)
		}
	}
	seen := map[string]bool{}
	for range 1000 {
		s, err := Generate(rand.Reader)
		if err != nil || !isGenerated(s) || seen[s] {
			t.Fatalf("%q, %v, seen before: %v", s, err, seen[s])
		}
		if compact(s) != strings.ReplaceAll(s, "-", "") {
			t.Errorf("%q is compact %q", s, compact(s))
		}
		if err := Judge(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		seen[s] = true
	}
}

// Each byte from 0 to 255 once gives each character equally often.
func TestGenerateIsUniform(t *testing.T) {
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	source := bytes.NewReader(bytes.Repeat(all, 100))
	count := map[rune]int{}
	for range 100 * 232 / (groups * groupSize) {
		s, err := Generate(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range s {
			count[r]++
		}
	}
	for _, r := range alphabet {
		if count[r] != 800 {
			t.Errorf("%q comes %d times, want 800", r, count[r])
		}
	}
}

func TestGenerateWithoutRandomness(t *testing.T) {
	broken := errors.New("broken")
	for _, r := range []io.Reader{iotest.ErrReader(broken), strings.NewReader("too short")} {
		if s, err := Generate(r); err == nil || s != "" {
			t.Errorf("%q, %v, want an error", s, err)
		}
	}
}

func TestIsGenerated(t *testing.T) {
	for s, want := range map[string]bool{
		"abcde-fghjk-mnpqr-stuvw": true, "22222-33333-44444-55555": true,
		"abcde-fghjk-mnpqr-stuv": false, "abcde-fghjk-mnpqr-stuvwx": false, "abcdefghjkmnpqrstuvwxxx": false,
		"abcdi-fghjk-mnpqr-stuvw": false, "ABCDE-fghjk-mnpqr-stuvw": false, "-----------------------": false, "": false,
	} {
		if got := isGenerated(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestJudge(t *testing.T) {
	for password, want := range map[string]error{
		"correct horse battery":                 nil,
		"длинная фраза":                         nil,
		"abcdefghijkl":                          nil,
		"abcdefghijk":                           ErrShort,
		"пароль12345":                           ErrShort, // 11 characters of 17 bytes
		"":                                      ErrShort,
		strings.Repeat("abcdefgh", 32):          nil,
		strings.Repeat("abcdefgh", 32) + "a":    ErrLong,
		strings.Repeat("ы", 128) + "а":          ErrLong,
		"abcdabcdabcdabcd":                      ErrSimple,
		"aaaaaaaaaaaa":                          ErrSimple,
		"parleyparley":                          ErrGuessable,
		"Password1234":                          ErrGuessable,
		"ADMINistrator-1":                       ErrGuessable,
		"Йцукен123456":                          ErrGuessable,
		"parley is a long word":                 nil,
		"tab\tin a password":                    ErrText,
		"line\nin a password":                   ErrText,
		"escape \x1b[2J password":               ErrText,
		"zero\u200bwidth password":              ErrText,
		"not UTF-8 \xff password":               ErrText,
		"\xff" + strings.Repeat("abcdefgh", 33): ErrLong, // the bound is looked at first
	} {
		if err := Judge(password); !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", password, err, want)
		}
	}
	if got := ErrShort.Error(); got != "password refused: short" {
		t.Errorf("text %q", got)
	}
}

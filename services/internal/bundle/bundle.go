// Package bundle writes a support bundle: a .tar.gz of text files from which
// secrets have been taken out, so that it can be given to whoever helps.
//
// Limits: MaxLines and MaxFile for a file, of which the newest count, and
// MaxTotal before compression. A file is held in memory while it is written.
package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Bounds of a bundle.
const (
	MaxLines = 20_000
	MaxFile  = 4 << 20  // bytes
	MaxTotal = 32 << 20 // bytes
	maxLine  = 8 << 10  // bytes
)

// File is a text that goes into the bundle.
type File struct {
	Name  string // "logs/zctrl.log"
	About string // what it is, for README.txt
	// Write calls line for each line. Its error is told in README.txt, and what
	// came until then is there.
	Write func(ctx context.Context, line func(string) error) error
}

// Stamped returns a line func for texts with a time: what is split over lines
// is found in the texts, and the time stands before what is left.
func Stamped(line func(string) error) func(time.Time, string) error {
	red := &Redactor{}
	return func(at time.Time, text string) error {
		return line(at.UTC().Format(time.RFC3339Nano) + " " + red.Line(clean(text)))
	}
}

// Lines returns a file's Write for a text that is at hand.
func Lines(text func() (string, error)) func(context.Context, func(string) error) error {
	return func(_ context.Context, line func(string) error) error {
		s, err := text()
		if err != nil {
			return err
		}
		for l := range strings.SplitSeq(strings.TrimSuffix(s, "\n"), "\n") {
			if err := line(l); err != nil {
				return err
			}
		}
		return nil
	}
}

// tail holds the newest lines.
type tail struct {
	lines []string
	size  int
	cut   int // lines that were dropped
}

func (t *tail) add(s string) {
	t.lines = append(t.lines, s)
	t.size += len(s) + 1
	for len(t.lines) > MaxLines || t.size > MaxFile {
		t.size -= len(t.lines[0]) + 1
		t.lines[0] = "" // the array lives on
		t.lines = t.lines[1:]
		t.cut++
	}
}

// Write writes the bundle to w. Its folder is called after the machine and the
// time. An error is w's or ctx's alone.
func Write(ctx context.Context, w io.Writer, machine string, now time.Time, files []File) error {
	folder := fmt.Sprintf("parley-%s-%s", strings.Map(plainName, machine), now.UTC().Format("20060102-150405"))
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	put := func(name string, b []byte) error {
		h := &tar.Header{Name: path.Join(folder, name), Mode: 0o600, Size: int64(len(b)), ModTime: now.UTC().Truncate(time.Second), Typeflag: tar.TypeReg}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err := t.Write(b)
		return err
	}
	var readme strings.Builder
	fmt.Fprintf(&readme, "Support bundle of the appliance %q, made on %s.\n\n", machine, now.UTC().Format(time.RFC3339))
	readme.WriteString("Passwords, tokens, private keys, password hashes, cookies and secrets of second factors have been\n" +
		"taken out; \"" + removed + "\" stands in their place. Names, addresses and what people did are still in it:\n" +
		"look through it before you give it away.\n\n")
	total := 0
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if total >= MaxTotal {
			fmt.Fprintf(&readme, "%s: LEFT OUT, the bundle has %d MiB already\n", f.Name, MaxTotal>>20)
			continue
		}
		var held tail
		red := &Redactor{}
		ferr := f.Write(ctx, func(s string) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			// What is cut off is cut off before a secret in it could be halved.
			s = red.Line(clean(s))
			held.add(s[:min(len(s), maxLine)])
			return nil
		})
		if err := ctx.Err(); err != nil {
			return err
		}
		fmt.Fprintf(&readme, "%s: %s (%d lines)\n", f.Name, f.About, len(held.lines))
		if held.cut > 0 {
			fmt.Fprintf(&readme, "    LEFT OUT: the %d oldest lines\n", held.cut)
		}
		if ferr != nil {
			fmt.Fprintf(&readme, "    NOT WHOLE: %s\n", (&Redactor{}).Line(clean(ferr.Error())))
		}
		if len(held.lines) == 0 {
			continue
		}
		var b bytes.Buffer
		for _, l := range held.lines {
			b.WriteString(l)
			b.WriteByte('\n')
		}
		total += b.Len()
		if err := put(f.Name, b.Bytes()); err != nil {
			return err
		}
	}
	if err := put("README.txt", []byte(readme.String())); err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

// plainName leaves of a name what every file system takes.
func plainName(r rune) rune {
	if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-') {
		return r
	}
	return '-'
}

// escape is a control sequence of a terminal (ECMA-48, 5.4).
var escape = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]`)

// clean takes out what does something to a screen; a secret could hide behind it.
func clean(s string) string {
	if strings.ContainsRune(s, 0x1b) {
		s = escape.ReplaceAllString(s, "")
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsPrint(r):
			return r
		case r < ' ', r == 0x7f, unicode.Is(unicode.Cf, r):
			return -1
		}
		return '\uFFFD'
	}, s)
}

package ring

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/control"
)

// StoreSize is the length in bytes at which the stored log is rotated. Two
// files are kept, so it takes at most about twice as much.
const StoreSize = 1 << 20

// Store keeps the log in two files of a folder: "ring" and, before it,
// "ring.old". A line is "TIME SOURCE TEXT". The files are not synced but by
// Sync: a lost tail costs nothing but itself.
type Store struct {
	dir  string
	next uint64 // the first line that is not stored yet
	size int64
}

// OpenStore returns a Store over the folder dir, and the newest lines that an
// earlier boot left there, at most limit bytes of them.
func OpenStore(dir string, limit int64) (*Store, []control.Log, error) {
	s := &Store{dir: dir, next: firstSeq}
	var lines []control.Log
	for _, name := range []string{"ring.old", "ring"} {
		ls, size, err := readTail(filepath.Join(dir, name), limit)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		lines = append(lines, ls...)
		s.size = size
	}
	total := int64(0)
	for i := len(lines) - 1; i >= 0; i-- {
		total += int64(len(lines[i].Text)) + Overhead
		if total > limit {
			return s, lines[i+1:], nil
		}
	}
	return s, lines, nil
}

// readTail parses the last limit bytes of a file, and returns its length.
func readTail(path string, limit int64) ([]control.Log, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	skip := fi.Size() - limit
	if skip > 0 {
		if _, err := f.Seek(skip, io.SeekStart); err != nil {
			return nil, 0, err
		}
	}
	var lines []control.Log
	br := bufio.NewReaderSize(io.LimitReader(f, limit), maxStored)
	damaged := skip > 0 // the rest of a line whose start is not here
	for {
		line, err := br.ReadSlice('\n')
		whole := err == nil
		if whole && !damaged {
			if l, ok := parseLine(string(bytes.TrimSuffix(line, []byte("\n")))); ok {
				lines = append(lines, l)
			}
		}
		// A line that is too long was not written by Append: what a power cut
		// leaves is passed over up to the next line, and what is newer is read.
		damaged = errors.Is(err, bufio.ErrBufferFull)
		if !whole && !damaged {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return lines, fi.Size(), err
		}
	}
}

// maxStored is the longest stored line: time, source and text.
const maxStored = MaxLine + 1024

// stamp is RFC 3339 with a fixed number of digits.
const stamp = "2006-01-02T15:04:05.000000Z07:00"

func appendLine(b []byte, l control.Log) []byte {
	b = l.At.UTC().AppendFormat(b, stamp)
	b = append(b, ' ')
	b = append(b, l.Service...)
	b = append(b, ' ')
	b = append(b, l.Text...)
	return append(b, '\n')
}

// parseLine reads one stored line. A damaged one is not ok.
func parseLine(s string) (control.Log, bool) {
	when, rest, ok1 := strings.Cut(s, " ")
	source, text, ok2 := strings.Cut(rest, " ")
	at, err := time.Parse(stamp, when)
	if !ok1 || !ok2 || err != nil || source == "" || len(source) > 64 || clean(source) != source {
		return control.Log{}, false
	}
	return control.Log{At: at, Service: source, Text: clean(text)}, true
}

// Continue lets a store over the folder that earlier was over go on where that
// stopped: the lines of this boot up to there are in it already.
func (s *Store) Continue(earlier *Store) { s.next = earlier.next }

// Append writes the ring's new lines behind the stored ones.
func (s *Store) Append(r *Ring) error {
	lines, next := r.Since(s.next)
	if len(lines) == 0 {
		return nil
	}
	path := filepath.Join(s.dir, "ring")
	if s.size > StoreSize {
		if err := os.Rename(path, path+".old"); err != nil {
			return fmt.Errorf("log rotation: %w", err)
		}
		s.size = 0
	}
	var b []byte
	for _, l := range lines {
		b = appendLine(b, l)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	n, err := f.Write(b)
	s.size += int64(n)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return fmt.Errorf("log of %d bytes: %w", len(b), err)
	}
	s.next = next
	return nil
}

// Sync brings the stored lines to the disk.
func (s *Store) Sync() error {
	f, err := os.Open(filepath.Join(s.dir, "ring"))
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/statefile"
)

// The audit log is lines of JSON in two files: the newer one is appended to, and
// when it is full it takes the place of the older one.
const (
	auditName  = "audit.jsonl"
	auditOlder = "audit.1.jsonl"
	maxAudit   = 1 << 20 // bytes of a file, about 5,000 lines
	maxLine    = 4 << 10 // bytes, the newline included
	maxEntries = 10_000  // that Audit returns
)

// What comes without bound, because whoever can reach the console or may only
// look can cause it, must not push everything else out of the log: of each such kind so many lines
// are written in an hour, then one at each power of ten, and the rest are
// counted.
const (
	floodLines  = 20
	floodWindow = time.Hour
)

// floods are kinds of lines that strangers cause, whoever is named in them.
var floods = []string{"login.failed"}

// auditLog writes and reads the log. It is safe for concurrent use.
type auditLog struct {
	folder *statefile.Folder

	mu   sync.Mutex
	kind map[string]*flood
}

// flood counts lines of a kind in the hour that began at since.
type flood struct {
	since   time.Time
	count   int
	skipped int // since the last line that was written
	last    Entry
}

// Note writes a line into the audit log, and into the process's log, which has
// it when nothing can be saved.
func (a *Admin) Note(who Actor, what, detail string, err error) {
	e := Entry{At: a.cfg.Now().UTC().Truncate(time.Millisecond), Who: who.Name, From: who.From, Via: who.Via, What: what, Detail: detail}
	if err != nil {
		e.Error = err.Error()
	}
	e = e.cleaned()
	flooding := who.Authority != account.Operate || slices.Contains(floods, what)
	kind := what
	if errors.Is(err, ErrDenied) {
		kind, flooding = "denied", true
	}
	if flooding {
		var write bool
		if e, write = a.audit.count(kind, e); !write {
			return
		}
	}
	a.cfg.Log.Info("audit", "what", e.What, "who", e.Who, "from", e.From, "via", e.Via, "detail", e.Detail, "error", e.Error)
	for _, e := range append(a.audit.rest(e.At), e) {
		if werr := a.audit.append(e); werr != nil {
			a.cfg.Log.Error("audit log", "error", werr)
			return
		}
	}
}

// count counts a line of a kind that may flood, and says whether it is written.
func (l *auditLog) count(kind string, e Entry) (Entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kind == nil {
		l.kind = map[string]*flood{}
	}
	f := l.kind[kind]
	if f == nil || e.At.Sub(f.since) >= floodWindow && f.skipped == 0 || e.At.Before(f.since) {
		f = &flood{since: e.At}
		l.kind[kind] = f
	}
	f.count++
	if over := f.count - floodLines; over > 0 && !powerOfTen(over) {
		f.skipped, f.last = f.skipped+1, e
		return e, false
	}
	if f.skipped > 0 {
		e.Detail = strings.TrimSpace(e.Detail + " " + more(f.skipped))
		f.skipped = 0
	}
	return e, true
}

// rest returns lines that count what was left out in hours that are over.
func (l *auditLog) rest(now time.Time) []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Entry
	for kind, f := range l.kind {
		if now.Sub(f.since) < floodWindow {
			continue
		}
		if f.skipped > 0 {
			e := f.last
			e.Detail = strings.TrimSpace(e.Detail + " " + more(f.skipped-1))
			out = append(out, e)
		}
		delete(l.kind, kind)
	}
	return out
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("(+%d)", n)
}

func powerOfTen(n int) bool {
	for n%10 == 0 {
		n /= 10
	}
	return n == 1
}

// append writes a line, durably.
func (l *auditLog) append(e Entry) error {
	line := e.line()
	unlock, err := l.folder.Lock(context.Background())
	if err != nil {
		return err
	}
	defer unlock()
	path := l.folder.Path(auditName)
	f, err := openAppend(path)
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: is no regular file", path)
	}
	if info.Size() > 0 && info.Size()+int64(len(line)) > maxAudit {
		if err := os.Rename(path, l.folder.Path(auditOlder)); err != nil {
			return err
		}
		f.Close()
		if f, err = openAppend(path); err != nil {
			return err
		}
	} else if torn(f, info.Size()) {
		line = append([]byte("\n"), line...)
	}
	if _, err := f.Write(line); err != nil {
		return err
	}
	return f.Sync()
}

// openAppend opens the log for both processes, whichever makes it.
func openAppend(path string) (*os.File, error) {
	const flags = os.O_RDWR | os.O_APPEND | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	f, err := os.OpenFile(path, flags, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if f, err = os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o660); err != nil {
		return nil, err
	}
	if err := f.Chmod(0o660); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// torn reports whether the last line has no end: the power was cut in it.
func torn(f *os.File, size int64) bool {
	var last [1]byte
	if size == 0 {
		return false
	}
	_, err := f.ReadAt(last[:], size-1)
	return err == nil && last[0] != '\n'
}

// cleaned cuts every field to its bound and takes out what no terminal or page
// should be sent.
func (e Entry) cleaned() Entry {
	e.Who, e.From, e.Via, e.What = clean(e.Who, 64), clean(e.From, 64), clean(e.Via, 16), clean(e.What, 64)
	e.Detail, e.Error = clean(e.Detail, 2000), clean(e.Error, 400)
	return e
}

// line encodes an entry that is clean, in at most maxLine bytes.
func (e Entry) line() []byte {
	for {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(e); err != nil {
			panic(err) // strings and a time that came from a clock always encode
		}
		if b.Len() <= maxLine {
			return b.Bytes()
		}
		e.Detail = clean(e.Detail, len(e.Detail)/2) // quotes are doubled
	}
}

// clean takes characters that are no text out of s and cuts it to n bytes.
func clean(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	if len(s) <= n {
		return s
	}
	s = s[:max(0, n-len("…"))]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// parseEntry reads a line of the log, which the other process may have written.
func parseEntry(line []byte) (Entry, error) {
	var e Entry
	if len(line) > maxLine {
		return e, fmt.Errorf("line of %d bytes, want at most %d", len(line), maxLine)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return Entry{}, err
	}
	if e.What == "" || e.At.IsZero() {
		return Entry{}, errors.New("no time, or no code")
	}
	return e.cleaned(), nil
}

// Audit returns the newest lines, newest first; lines that are damaged are left
// out. Without a number it is the last 200.
func (a *Admin) Audit(ctx context.Context, lines int) ([]Entry, error) {
	if lines <= 0 {
		lines = 200
	}
	lines = min(lines, maxEntries)
	for _, e := range a.audit.rest(a.cfg.Now()) {
		if err := a.audit.append(e); err != nil {
			a.cfg.Log.Error("audit log", "error", err)
		}
	}
	out := []Entry{}
	for _, name := range []string{auditName, auditOlder} {
		b, err := a.audit.read(name)
		if err != nil {
			return nil, err
		}
		for len(b) > 0 && len(out) < lines {
			b = bytes.TrimSuffix(b, []byte("\n"))
			i := bytes.LastIndexByte(b, '\n') + 1
			if e, err := parseEntry(b[i:]); err == nil {
				out = append(out, e)
			}
			b = b[:i]
		}
	}
	return out, nil
}

// read returns a file's content; one that is not there is empty.
func (l *auditLog) read(name string) ([]byte, error) {
	f, err := durable.Open(l.folder.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAudit+maxLine))
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return b, nil
}

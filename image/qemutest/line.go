package qemutest

import (
	"fmt"
	"net"
	"regexp"
	"sync"
	"time"
)

// Line is the machine's serial line. Everything it said is kept.
type Line struct {
	conn net.Conn

	mu   sync.Mutex
	all  []byte
	from int // where the next Expect starts
	more chan struct{}
	err  error
}

func newLine(c net.Conn) *Line {
	l := &Line{conn: c, more: make(chan struct{})}
	go l.read()
	return l
}

func (l *Line) read() {
	buf := make([]byte, 4096)
	for {
		n, err := l.conn.Read(buf)
		l.mu.Lock()
		l.all = append(l.all, buf[:n]...)
		l.err = err
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (l *Line) close() { l.conn.Close() }

// Send types.
func (l *Line) Send(s string) error {
	_, err := l.conn.Write([]byte(s))
	return err
}

// Text is everything the line said.
func (l *Line) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.all)
}

// Expect waits until what came after the last match matches, and returns the
// match and its groups.
func (l *Line) Expect(pattern string, timeout time.Duration) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	deadline := time.After(timeout)
	for {
		l.mu.Lock()
		rest, more, lerr := l.all[l.from:], l.more, l.err
		if loc := re.FindSubmatchIndex(rest); loc != nil {
			groups := make([]string, len(loc)/2)
			for i := range groups {
				if loc[2*i] >= 0 {
					groups[i] = string(rest[loc[2*i]:loc[2*i+1]])
				}
			}
			l.from += loc[1]
			l.mu.Unlock()
			return groups, nil
		}
		tail := string(rest[max(0, len(rest)-2000):])
		l.mu.Unlock()
		if lerr != nil {
			return nil, fmt.Errorf("serial line ended (%w) before %q; last:\n%s", lerr, pattern, tail)
		}
		select {
		case <-more:
		case <-deadline:
			return nil, fmt.Errorf("serial line: no %q within %v; last:\n%s", pattern, timeout, tail)
		}
	}
}

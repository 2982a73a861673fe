// Package liveness is the line between PID 1 and a service: the service says
// when it is ready, and answers when it is asked whether it still works.
//
// The line is one end of a SOCK_SEQPACKET socket pair that the service
// inherits: there is no path, nobody else can connect, and the end of the
// process is the end of the line. Each packet is one JSON Message of at most
// MaxMessage bytes. PID 1 sends Pings; the service sends one Message with Ready
// set, then one for each ping with the ping's Seq.
//
//	service            PID 1
//	ready       ────▶  starting → ready
//	            ◀────  ping 1
//	ok 1        ────▶  stays ready (or unhealthy, when Error is set)
//
// A service that does not answer is hung: if it is essential, the hardware
// watchdog is no longer fed.
package liveness

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-meet/parley/image/layout"
)

// MaxMessage is the longest packet in bytes, in either direction.
const MaxMessage = 2048

// MaxText is the longest Detail or Error that a service sends, in bytes as JSON
// spells it, so that both fit into a packet whatever they hold; more is cut off.
const MaxText = 512

// Ping is what PID 1 asks.
type Ping struct {
	Seq uint64 `json:"seq"`
}

// Message is what a service says.
type Message struct {
	Ready  bool   `json:"ready,omitempty"`  // the first message only
	Seq    uint64 `json:"seq,omitempty"`    // of the ping that is answered
	Detail string `json:"detail,omitempty"` // one line for operators: "not configured"
	Error  string `json:"error,omitempty"`  // why the service cannot do its work
}

// CheckLimit is how long a Check that hears nothing waits before it says so. It
// is less than what PID 1 takes for silence, and long for a machine that is fast:
// on one that is short of CPU a service must not look unhealthy.
const CheckLimit = 3 * time.Second

// Check says in one line what the service is doing, or why it cannot do its
// work. It is called from one goroutine and must return soon after
// CheckLimit.
type Check func() (detail string, err error)

// Line is a service's end.
type Line struct {
	conn *net.UnixConn // nil when nobody supervises

	mu sync.Mutex
}

// Open takes the line that PID 1 left in the environment. Without one (the
// program was started by hand) it returns a Line that does nothing.
func Open() (*Line, error) {
	v := os.Getenv(layout.LivenessEnv)
	if v == "" {
		return &Line{}, nil
	}
	fd, err := strconv.ParseUint(v, 10, 16)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q: want a file descriptor number from 3", layout.LivenessEnv, v)
	}
	f := os.NewFile(uintptr(fd), "liveness")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("file descriptor %d of %s: %w", fd, layout.LivenessEnv, err)
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("file descriptor %d of %s is a %T, want a unix socket", fd, layout.LivenessEnv, c)
	}
	return &Line{conn: uc}, nil
}

// New returns a Line over an own socket, for tests and other supervisors.
func New(c *net.UnixConn) *Line { return &Line{conn: c} }

// Ready says that the service can be used.
func (l *Line) Ready(detail string) error {
	return l.send(Message{Ready: true, Detail: detail})
}

// Run answers pings with check until ctx ends (it then returns nil) or PID 1
// goes away.
func (l *Line) Run(ctx context.Context, check Check) error {
	if l.conn == nil {
		<-ctx.Done()
		return nil
	}
	stop := context.AfterFunc(ctx, func() { l.conn.Close() })
	defer stop()
	buf := make([]byte, MaxMessage)
	for {
		n, err := l.conn.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("supervisor: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("supervisor closed the line")
		}
		var p Ping
		if err := json.Unmarshal(buf[:n], &p); err != nil {
			return fmt.Errorf("supervisor sent %q: %w", buf[:n], err)
		}
		m := Message{Seq: p.Seq}
		m.Detail, err = check()
		if err != nil {
			m.Error = err.Error()
		}
		if err := l.send(m); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (l *Line) send(m Message) error {
	if l.conn == nil {
		return nil
	}
	m.Detail, m.Error = cut(m.Detail), cut(m.Error)
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.conn.Write(b); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	return nil
}

// cut makes one printable line of s that takes at most MaxText bytes in JSON.
func cut(s string) string {
	var b strings.Builder
	size := 0
	for _, r := range s {
		if !unicode.IsPrint(r) {
			r = ' '
		}
		n := utf8.RuneLen(r) // that of U+FFFD for a byte that is not UTF-8
		switch r {
		case '"', '\\':
			n = 2
		case '<', '>', '&':
			n = 6 // encoding/json spells them \u003c
		}
		if size += n; size > MaxText {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

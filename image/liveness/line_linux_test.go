package liveness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/layout"
)

// pair returns the service's end as a file, and PID 1's.
func pair(t testing.TB) (*os.File, *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	service := os.NewFile(uintptr(fds[0]), "service")
	f := os.NewFile(uintptr(fds[1]), "supervisor")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Close(); c.Close() })
	// A line that says nothing must fail a test, not hang it.
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return service, c.(*net.UnixConn)
}

// line returns a Line and PID 1's end.
func line(t testing.TB) (*Line, *net.UnixConn) {
	t.Helper()
	f, c := pair(t)
	own, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close() // or PID 1 would not see that the other descriptor was closed
	t.Cleanup(func() { own.Close() })
	return New(own.(*net.UnixConn)), c
}

func receive(t testing.TB, c *net.UnixConn) Message {
	t.Helper()
	b := make([]byte, MaxMessage+1)
	n, err := c.Read(b)
	if err != nil || n > MaxMessage {
		t.Fatalf("packet of %d bytes, %v", n, err)
	}
	var m Message
	d := json.NewDecoder(bytes.NewReader(b[:n]))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%q: %v", b[:n], err)
	}
	return m
}

func send(t testing.TB, c *net.UnixConn, packet string) {
	t.Helper()
	if _, err := c.Write([]byte(packet)); err != nil {
		t.Fatal(err)
	}
}

// run starts l.Run and returns how it ended.
func run(t testing.TB, ctx context.Context, l *Line, check Check) func() error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx, check) }()
	return func() error {
		t.Helper()
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("Run does not end")
			return nil
		}
	}
}

func fine() (string, error) { return "in order", nil }

func TestLine(t *testing.T) {
	l, c := line(t)
	if err := l.Ready("listening"); err != nil {
		t.Fatal(err)
	}
	if got, want := receive(t, c), (Message{Ready: true, Detail: "listening"}); got != want {
		t.Errorf("first message %+v, want %+v", got, want)
	}
	asked := 0
	ctx, cancel := context.WithCancel(t.Context())
	ended := run(t, ctx, l, func() (string, error) {
		asked++
		if asked == 2 {
			return "tired", errors.New("no address")
		}
		return "in order", nil
	})
	for _, want := range []Message{
		{Seq: 7, Detail: "in order"},
		{Seq: 1 << 63, Detail: "tired", Error: "no address"},
		{Seq: 0, Detail: "in order"},
	} {
		send(t, c, `{"seq":`+strconv.FormatUint(want.Seq, 10)+`}`)
		if got := receive(t, c); got != want {
			t.Errorf("answer %+v, want %+v", got, want)
		}
	}
	cancel()
	if err := ended(); err != nil {
		t.Errorf("Run after its context: %v, want nil", err)
	}
	// The service's end of the line is how PID 1 learns of it.
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after Run: %d bytes, %v; want the end", n, err)
	}
}

// The longest texts in their longest spelling still arrive whole.
func TestLongTexts(t *testing.T) {
	for _, s := range []string{"a", "\xff", `"`, "<", "\x00", "ж", "\u2028"} {
		l, c := line(t)
		text := strings.Repeat(s, 10*MaxMessage)
		if err := l.Ready(text); err != nil {
			t.Fatal(err)
		}
		if m := receive(t, c); m.Detail != cut(text) || m.Detail == "" {
			t.Errorf("%q: detail of %d bytes arrived", s, len(m.Detail))
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := run(t, ctx, l, func() (string, error) { return text, errors.New(text) })
		send(t, c, `{"seq":18446744073709551615}`)
		if m := receive(t, c); m.Error != cut(text) || m.Detail != cut(text) {
			t.Errorf("%q: answer %+v", s, m)
		}
		cancel()
		if err := ended(); err != nil {
			t.Error(err)
		}
	}
}

func TestSupervisorGone(t *testing.T) {
	l, c := line(t)
	ended := run(t, t.Context(), l, fine)
	c.Close()
	if err := ended(); err == nil || !strings.Contains(err.Error(), "supervisor") {
		t.Errorf("Run: %v, want an error that names the supervisor", err)
	}
	if err := l.Ready("too late"); err == nil {
		t.Error("Ready over a closed line: no error")
	}
}

func TestRunRefuses(t *testing.T) {
	for _, packet := range []string{"x", "[]", `{"seq":-1}`, `{"seq":"1"}`, `{"seq":1}{}`, strings.Repeat(" ", MaxMessage) + `{"seq":1}`} {
		l, c := line(t)
		ended := run(t, t.Context(), l, fine)
		send(t, c, packet)
		if err := ended(); err == nil || len(err.Error()) > 4*MaxMessage {
			t.Errorf("packet %.20q: %v, want an error of readable length", packet, err)
		}
	}
}

func TestContextEndsAnUnsupervisedRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := run(t, ctx, new(Line), fine)
	cancel()
	if err := ended(); err != nil {
		t.Error(err)
	}
}

func TestOpen(t *testing.T) {
	f, c := pair(t)
	// Open owns the descriptor it is told of and closes it.
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(layout.LivenessEnv, strconv.Itoa(fd))
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer l.conn.Close()
	if err := l.Ready(""); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, c); !got.Ready {
		t.Errorf("got %+v, want ready", got)
	}
}

func TestOpenRefusesOtherDescriptors(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tcp, err := conn.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for _, f := range []*os.File{f, tcp} {
		fd, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(layout.LivenessEnv, strconv.Itoa(fd))
		if l, err := Open(); err == nil {
			t.Errorf("%s was opened as a line: %+v", f.Name(), l)
		}
	}
}

// Whatever packet arrives, Run answers it or ends with an error.
func FuzzRun(f *testing.F) {
	for _, s := range []string{`{"seq":1}`, `{}`, `null`, `{"seq":1.5}`, `{"seq":1,"seq":2}`, "\xff", "[[[[", `{"SEQ":3}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > 4*MaxMessage {
			return // longer than the socket's buffer may be
		}
		l, c := line(t)
		ended := make(chan error, 1)
		go func() {
			ended <- l.Run(t.Context(), fine)
			l.conn.Close() // so that the read below ends
		}()
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, MaxMessage)
		n, err := c.Read(b)
		switch {
		case err == nil && n > 0: // answered
			var p Ping
			if json.Unmarshal(packet, &p) != nil {
				t.Fatalf("%q was answered with %q", packet, b[:n])
			}
			c.Close()
		case json.Valid(packet) && len(packet) > 0 && len(packet) <= MaxMessage && json.Unmarshal(packet, new(Ping)) == nil:
			t.Fatalf("%q was not answered: %v", packet, err)
		}
		if <-ended == nil {
			t.Fatal("Run ended without an error")
		}
	})
}

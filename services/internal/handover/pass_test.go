package handover

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 30 * time.Second

// pipe returns both ends of a connection of TCP.
func pipe(t *testing.T) (client net.Conn, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); c.Close() })
	return client, c.(*net.TCPConn)
}

// receiver runs Receive until the test ends or stop is called.
func receiver(t *testing.T, path string, uids []int) (l *Listener, stop func()) {
	t.Helper()
	l = New(&net.TCPAddr{Port: 443})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	go func() { done <- Receive(ctx, path, uids, l, log) }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			l.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if s, err := os.Stat(path); err == nil && s.Mode().Perm() == 0o660 {
			return l, stop
		}
		if time.Now().After(limit) {
			t.Fatal("it does not listen")
		}
	}
}

// A connection goes to another end with what was not read of it, and outlives
// who sent it; a receiver that comes anew is found.
func TestSend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := NewSender(path)
	for range 2 {
		l, stop := receiver(t, path, []int{os.Getuid()})
		client, server := pipe(t)
		if _, err := io.WriteString(client, "hello"); err != nil {
			t.Fatal(err)
		}
		if b, err := Peek(server, 3); err != nil || string(b) != "hel" {
			t.Fatalf("%q, %v", b, err)
		}
		if err := s.Send(server); err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
			t.Fatalf("%q, %v", b, err)
		}
		if _, err := io.WriteString(c, "world"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, b); err != nil || string(b) != "world" {
			t.Fatalf("%q, %v", b, err)
		}
		// It waits by the runtime's poller: a deadline ends a read.
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		c.Close()
		stop()
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}

// Where nobody takes a connection it is closed.
func TestSendNowhere(t *testing.T) {
	s := NewSender(filepath.Join(t.TempDir(), "s"))
	client, server := pipe(t)
	if err := s.Send(server); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
}

// Other users, and what is no connection of TCP, get nowhere.
func TestReceiveStrangers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, stop := receiver(t, path, []int{os.Getuid() + 1})
	client, server := pipe(t)
	s := NewSender(path)
	_ = s.Send(server) // the refusal comes later
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("another user's connection is open")
	}
	s.Close()
	stop()

	l, _ = receiver(t, path, nil)
	d, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	u := d.(*net.UnixConn)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	client, server = pipe(t)
	fd := 0
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(n uintptr) { fd = int(n) }); err != nil {
		t.Fatal(err)
	}
	for _, rights := range [][]int{{int(r.Fd())}, {fd, fd}, {fd, fd, fd}, nil, {fd}} {
		var oob []byte
		if rights != nil {
			oob = unix.UnixRights(rights...)
		}
		if _, _, err := u.WriteMsgUnix([]byte{1}, oob, nil); err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	server.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("the pipe is still open at the other end")
	}
	// None of the copies is left open.
	c.Close()
	client.SetReadDeadline(time.Now().Add(patience))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a descriptor leaked: %v", err)
	}
}

// The name in a hello is read as it comes, in however many pieces, and the
// handshake goes on afterwards with all of it.
func TestServerName(t *testing.T) {
	for _, name := range []string{"turn.example.com", ""} {
		client, server := pipe(t)
		hello := make(chan []byte, 1)
		go func() {
			record := &recorder{}
			_ = tls.Client(record, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
			hello <- record.b
			for i := range record.b {
				if _, err := client.Write(record.b[i : i+1]); err != nil {
					return
				}
			}
		}()
		if got, err := ServerName(server); err != nil || got != name {
			t.Errorf("%q, %v, want %q", got, err, name)
		}
		want := <-hello
		b := make([]byte, len(want))
		if _, err := io.ReadFull(server, b); err != nil || string(b) != string(want) {
			t.Error("something was taken", err)
		}
	}
}

// What is not a hello has no name, and does not hold up for longer than the
// deadline.
func TestNoServerName(t *testing.T) {
	for _, text := range []string{"\x16\x03\x01\xff\xff", "GET / HTTP/1.1\r\n", "\x16\x03\x01\x00\x05hello"} {
		client, server := pipe(t)
		if _, err := io.WriteString(client, text); err != nil {
			t.Fatal(err)
		}
		if got, err := ServerName(server); err != nil || got != "" {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	client, server := pipe(t)
	if _, err := io.WriteString(client, "\x16\x03\x01\x01\x00half"); err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := ServerName(server); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	client.Close()
	client, server = pipe(t)
	client.Close()
	if _, err := Peek(server, 1); err != io.EOF {
		t.Error(err)
	}
}

// recorder keeps what is written and ends there.
type recorder struct {
	replay
	b []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.b = append(r.b, b...)
	return len(b), nil
}

// FuzzServerName: no hello breaks the reader; a name has no control characters.
func FuzzServerName(f *testing.F) {
	r := &recorder{}
	_ = tls.Client(r, &tls.Config{ServerName: "turn.example.com"}).Handshake()
	f.Add(r.b)
	f.Add([]byte("\x16\x03\x01\x00\x05hello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if name := serverName(b); strings.HasSuffix(name, ".") {
			t.Errorf("%q", name)
		}
	})
}

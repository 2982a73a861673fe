package localsocket

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // what a process before left
		t.Fatal(err)
	}
	l, err := Listen(path, KeepGroup)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Fatalf("%v, %v, want a socket of mode 0660", info, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan bool)
	go func() {
		Serve(ctx, l, slog.New(slog.DiscardHandler), func(c *net.UnixConn) {
			defer c.Close()
			who, err := Peer(c)
			if err != nil || int(who.Uid) != os.Getuid() || int(who.Pid) != os.Getpid() {
				t.Errorf("peer %+v, %v", who, err)
			}
			io.WriteString(c, "hello")
		})
		close(ended)
	}()
	for range 3 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
			t.Errorf("%q, %v", b, err)
		}
		c.Close()
	}
	cancel()
	<-ended
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("it still listens")
	}
}

func TestListenFails(t *testing.T) {
	if _, err := Listen(filepath.Join(t.TempDir(), "none", "s.sock"), KeepGroup); err == nil {
		t.Error("a socket in a folder that is not there")
	}
}

func TestBounds(t *testing.T) {
	b := &Bounds{Total: 3, PerUser: 2}
	for i, test := range []struct {
		uid  uint32
		want bool
	}{{1, true}, {1, true}, {1, false}, {2, true}, {3, false}} {
		if got := b.Enter(test.uid); got != test.want {
			t.Errorf("%d: user %d is let in: %v", i, test.uid, got)
		}
	}
	b.Leave(1)
	if !b.Enter(3) || b.Enter(1) {
		t.Error("the place that was left is not the next one's")
	}
	if new(Bounds).Enter(1) {
		t.Error("the zero value lets somebody in")
	}
}

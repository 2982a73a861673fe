package netserver

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netclient"
)

// serve has the rig's service answer on a socket.
func (r *rig) serve(limit time.Duration) *netclient.Client {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "s")
	l, err := Listen(path)
	must(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := NewServer(r.s)
	s.readLimit = cmp.Or(limit, readLimit)
	go func() { done <- s.Serve(ctx, l) }()
	r.t.Cleanup(func() {
		cancel()
		must(r.t, <-done)
	})
	return &netclient.Client{Path: path}
}

func TestSocket(t *testing.T) {
	r := newRig(t)
	c := r.serve(0)
	if fi, err := os.Stat(c.Path); err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", fi, err)
	}
	st, err := c.Do(t.Context(), netclient.Request{Op: netclient.OpSet, Config: address("192.0.2.7"), Hold: true, By: "anna"})
	if err != nil || st.Pending == nil || st.Pending.Config.Hostname != "h7" || st.State.Interface != "eth0" || len(st.Clock.Servers) != 1 {
		t.Fatalf("%+v, %v", st, err)
	}
	var refused *netclient.Error
	if _, err := c.Do(t.Context(), netclient.Request{Op: netclient.OpConfirm, ID: "x"}); !errors.As(err, &refused) || refused.Code != netclient.CodeState {
		t.Errorf("wrong id: %v", err)
	}
	if st, err = c.Do(t.Context(), netclient.Request{Op: netclient.OpConfirm, ID: st.Pending.ID}); err != nil || st.Config.Hostname != "h7" {
		t.Errorf("%+v, %v", st, err)
	}
	bad := address("192.0.2.7")
	bad.Hostname = "-"
	if _, err := c.Do(t.Context(), netclient.Request{Op: netclient.OpSet, Config: bad}); !fault.Of(err).Has("hostname") {
		t.Errorf("wrong name: %v", err)
	}
	r.sys.syncErr = errors.New("no server answers")
	if _, err := c.Do(t.Context(), netclient.Request{Op: netclient.OpSync}); err == nil || !strings.Contains(err.Error(), "no server answers") {
		t.Errorf("sync: %v", err)
	}
	if l, err := Listen(c.Path); err != nil { // what a killed process left is in nobody's way
		t.Error(err)
	} else {
		l.Close()
	}
}

// Callers that send nothing, half a line, too much, or are too many.
func TestSocketAttacks(t *testing.T) {
	r := newRig(t)
	c := r.serve(200 * time.Millisecond)
	ask := func(text string, hangUp bool) string {
		t.Helper()
		conn, err := net.Dial("unix", c.Path)
		must(t, err)
		defer conn.Close()
		io.WriteString(conn, text) // the answer may come first
		if hangUp {
			conn.(*net.UnixConn).CloseWrite()
		}
		b, _ := io.ReadAll(conn)
		return string(b)
	}
	for _, text := range []string{"", `{"op":"status"}`, strings.Repeat("x", netclient.MaxLine+10), "\x00\n", `{"op":"x"}` + "\n"} {
		if got := ask(text, false); !strings.Contains(got, `"code":"invalid"`) && len(text) < netclient.MaxLine {
			t.Errorf("%.30q is answered by %q", text, got)
		}
	}
	if got := ask(`{"op":"status"}`, true); !strings.Contains(got, `"code":"invalid"`) {
		t.Errorf("half a line is answered by %q", got)
	}
	var open []net.Conn
	for range maxPerUser + 1 {
		conn, err := net.Dial("unix", c.Path)
		must(t, err)
		open = append(open, conn)
		defer conn.Close()
	}
	busy := 0
	for _, conn := range open { // until they are thrown out
		if b, _ := io.ReadAll(conn); strings.Contains(string(b), `"code":"busy"`) {
			busy++
		}
	}
	if busy != 1 {
		t.Errorf("%d of %d connections were refused, want 1", busy, len(open))
	}
	if _, err := c.Do(t.Context(), netclient.Request{Op: netclient.OpStatus}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

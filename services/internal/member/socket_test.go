package member

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// served is a machine whose membership is served.
func served(t *testing.T, m *machine) (path string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "zone") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, SocketName)
	return path, serve(t, m, path)
}

func serve(t *testing.T, m *machine, path string) (stop func()) {
	t.Helper()
	stop = bustest.Running(t, m.server(path))
	portaltest.Wait(t, "the socket", func() bool { _, err := os.Stat(path); return err == nil })
	return stop
}

func dial(t *testing.T, path string) *Remote {
	r := Dial(path, newLog())
	bustest.Running(t, r.Run)
	return r
}

// The router of a controller VM knows what the controller knows, also while that
// one is away; its events and its use arrive at the portal.
func TestRemote(t *testing.T) {
	z := bustest.New(t)
	m := newMachine(t, link.Controller, z.Portal.Roots())
	m.token(z.Token)
	m.start()
	path, stop := served(t, m)
	r := dial(t, path)
	changed, unwatch := r.Watch()
	defer unwatch()
	want := m.until("the link", linked)
	portaltest.Wait(t, "the state", func() bool { s := r.State(); return linked(s) && reflect.DeepEqual(s.Config, want.Config) })
	select {
	case <-changed:
	default:
		t.Error("who watches was not told")
	}
	s := r.State()
	if !reflect.DeepEqual(s.Credentials, want.Credentials) || s.Settings.Token != "" {
		t.Errorf("%+v, want all but the token", s)
	}
	if _, err := r.Sign(ticket.Claims{}); err != ErrNoKey {
		t.Errorf("%v, want %v", err, ErrNoKey)
	}
	r.Report(Usage{Meetings: 1, Participants: 3, Limit: 100})
	portaltest.Wait(t, "the use at the portal", func() bool {
		list, err := z.Portal.All.Live.Appliances(t.Context(), z.Who.Account)
		return err == nil && len(list) == 1 && list[0].Status.Participants == 3 && list[0].Status.Limit == 100
	})
	if err := r.Event("x", strings.Repeat("x", maxEvent)); err == nil {
		t.Error("an event of more than 16 KiB is taken")
	}

	// While the controller restarts, the state holds and events wait, in order.
	stop()
	m.stop()
	portaltest.Wait(t, "the end", func() bool { return !r.Connected() })
	for i := range 100 {
		if err := r.Event("meeting.started", i); err != nil {
			t.Fatal(err)
		}
	}
	if s := r.State(); s.Credentials == nil || s.Config == nil {
		t.Errorf("%+v", s)
	}
	m.start()
	serve(t, m, path)
	portaltest.Wait(t, "the events", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.queue) == 0
	})
	portaltest.Wait(t, "the state", func() bool { return linked(r.State()) })
}

// A process that ends says its last words: how its meetings ended.
func TestLastWords(t *testing.T) {
	z := bustest.New(t)
	m := newMachine(t, link.Controller, z.Portal.Roots())
	m.token(z.Token)
	m.start()
	path, stop := served(t, m)
	r := Dial(path, newLog())
	r.patience = 30 * time.Second
	leave := bustest.Running(t, r.Run)
	m.until("the link", linked)
	portaltest.Wait(t, "the state", func() bool { return linked(r.State()) })
	const many = 100 // more than are on their way at once
	for range many {
		if err := r.Event("meeting.participants", map[string]any{"meeting": "m", "run": "r", "participants": 1}); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	if n := len(r.queue); n != 0 {
		t.Errorf("%d events were not said", n)
	}
	client := m.client
	stop()
	m.stop()
	if waiting, dropped := client.Waiting(); waiting != 0 || dropped != 0 {
		t.Errorf("%d events wait, %d were dropped", waiting, dropped)
	}
	// Where nobody takes them, the end does not wait.
	for range many {
		if err := r.Event("meeting.ended", 1); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	bustest.Running(t, r.Run)()
	if took := time.Since(began); took >= r.patience {
		t.Errorf("%v", took)
	}
}

// What a state holds comes over the socket as it is.
func TestStateOnTheWire(t *testing.T) {
	_, s := alone(t)
	s.Problem = &fault.Fault{Code: "member-own", Args: []any{"x"}}
	s.Browsers = &Certificate{"chain", "key"}
	s.Connection = link.Connection{Portal: "p", Since: time.Now().UTC().Round(0), Problem: "x", Why: link.WhyBusy}
	b, err := json.Marshal(down{State: &s})
	if err != nil {
		t.Fatal(err)
	}
	var got down
	if err := newLines(bytes.NewReader(append(b, '\n')), maxDown).next(&got); err != nil {
		t.Fatal(err)
	}
	// The keys of tickets are JSON within JSON, whose blanks do not count.
	if !reflect.DeepEqual(*got.State, s) {
		t.Errorf("got  %+v\nwant %+v", *got.State, s)
	}
}

// Nobody but the router is answered, and nobody keeps it from being answered.
func TestHostilePeers(t *testing.T) {
	m, _ := alone(t)
	path, _ := served(t, m)
	open := func() net.Conn {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	// ended waits for the other end to hang up; it may not have told a state.
	ended := func(what string, c net.Conn) {
		t.Helper()
		b, err := io.ReadAll(c)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v", what, err)
		}
		if strings.Contains(string(b), "PRIVATE KEY") {
			t.Errorf("%s: it was told the keys", what)
		}
	}
	for what, text := range map[string]string{
		"no JSON":        "GET / HTTP/1.1\r\n\r\n",
		"no hello":       `{"usage":{}}` + "\n",
		"empty hello":    `{"hello":{"boot":""}}` + "\n",
		"a long name":    `{"hello":{"boot":"` + strings.Repeat("x", 65) + `"}}` + "\n",
		"a long line":    strings.Repeat("x", 2*maxUp),
		"null":           "null\n",
		"another type":   "[]\n",
		"a wrong number": `{"hello":{"boot":1}}` + "\n",
	} {
		c := open()
		if _, err := io.WriteString(c, text); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v", what, err)
		}
		ended(what, c)
	}
	half := open()
	if _, err := io.WriteString(half, `{"hello":{"boo`); err != nil {
		t.Fatal(err)
	}
	if err := half.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	ended("half a line", half)
	// After a good beginning: bad lines end that connection alone.
	begin := func() (net.Conn, *lines) {
		t.Helper()
		c := open()
		if err := say(c, up{Hello: &hello{"b"}}); err != nil {
			t.Fatal(err)
		}
		in := newLines(c, maxDown)
		var d down
		if err := in.next(&d); err != nil || d.State == nil {
			t.Fatalf("%+v, %v", d, err)
		}
		return c, in
	}
	for _, text := range []string{"{\n", strings.Repeat("x", 2*maxUp) + "\n", `{"event":{"number":-1}}` + "\n"} {
		c, in := begin()
		_, _ = io.WriteString(c, text) // it may hang up in the midst of it
		for {
			var d down
			if err := in.next(&d); err != nil {
				break
			}
		}
	}
	// Too many: those that are there stay.
	first, in := begin()
	for range maxPerPeer - 1 {
		begin()
	}
	for range 3 * maxPeers {
		ended("one too many", open())
	}
	if err := say(first, up{Event: &event{Number: 1, Name: "x", Data: json.RawMessage("1")}}); err != nil {
		t.Fatal(err)
	}
	for {
		var d down
		if err := in.next(&d); err != nil {
			t.Fatal(err)
		}
		if d.Taken == 1 {
			break
		}
	}
}

// Another user is refused, on both sides.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("only root can be somebody else")
	}
	m, _ := alone(t)
	path, stop := served(t, m)
	// Its file keeps nobody out here: who asks is refused by his name.
	if err := errors.Join(os.Chmod(filepath.Dir(path), 0o777), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	asOther(t, func() {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_ = say(c, up{Hello: &hello{"b"}}) // it may be refused before
		if b, _ := io.ReadAll(c); len(b) != 0 {
			t.Errorf("another user is told %d bytes", len(b))
		}
	})
	stop()
	// Who made the socket is another one.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var l net.Listener
	asOther(t, func() {
		var err error
		if l, err = net.Listen("unix", path); err != nil {
			t.Error(err)
		}
	})
	if l == nil {
		t.FailNow()
	}
	defer l.Close()
	r := Dial(path, newLog())
	if err := r.session(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("served by user %d", otherUser)) {
		t.Errorf("%v, want that another user serves", err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = newLines(c, maxUp).next(new(up)) // the one before may be gone
			_, _ = io.WriteString(c, `{"state":{}}`+"\n")
			c.Close()
		}
	}()
	r = Dial(path, newLog(), otherUser)
	if err := r.session(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end of what a user serves who is allowed", err)
	}
}

// An event that is said twice counts once, whoever else says others.
func TestSeen(t *testing.T) {
	s := &seen{last: map[string]uint64{}}
	for _, c := range []struct {
		boot   string
		number uint64
		want   bool
	}{{"a", 1, true}, {"a", 1, false}, {"b", 1, true}, {"a", 2, true}, {"a", 1, false}, {"a", 0, false}} {
		if got := s.new(c.boot, c.number); got != c.want {
			t.Errorf("%s %d: %v", c.boot, c.number, got)
		}
	}
	for i := range 100 {
		s.new(fmt.Sprint(i), 1)
	}
	if len(s.last) > 2*maxPeers || len(s.boot) != len(s.last) {
		t.Errorf("%d are remembered", len(s.last))
	}
}

// Statistics make room for what matters, and nothing grows without bounds.
func TestQueue(t *testing.T) {
	r := Dial("/nowhere", nil)
	for range maxQueue / 2 {
		if err := errors.Join(r.Event("meeting.participants", 1), r.Event("meeting.started", 1)); err != nil {
			t.Fatal(err)
		}
	}
	for range maxQueue / 2 {
		if err := r.Event("meeting.ended", 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Event("meeting.ended", 1); err != ErrAway {
		t.Errorf("%v, want %v", err, ErrAway)
	}
	if len(r.queue) != maxQueue || statistic(r.queue[0].Name) {
		t.Errorf("%d events", len(r.queue))
	}
	r.taken(r.queue[9].Number)
	if len(r.queue) != maxQueue-10 {
		t.Errorf("%d events", len(r.queue))
	}
}

func TestLines(t *testing.T) {
	line := func(size int) string { return `{"usage":{"meetings":1}}` + strings.Repeat(" ", size-25) + "\n" }
	for _, c := range []struct {
		text string
		good int // lines
		end  string
	}{
		{line(9999) + line(10000), 2, "EOF"},
		{line(10000) + line(10001) + line(100), 1, "a line of more than 10000 bytes"},
		{line(100) + "{}", 1, "unexpected EOF"},
		{line(100) + "{\n", 1, "a line of 2 bytes: unexpected end of JSON input"},
	} {
		in := newLines(strings.NewReader(c.text), 10000)
		good, err := 0, error(nil)
		for {
			var u up
			if err = in.next(&u); err != nil {
				break
			}
			if good++; u.Usage == nil || u.Usage.Meetings != 1 {
				t.Errorf("line %d: %+v", good, u)
			}
		}
		if good != c.good || err.Error() != c.end {
			t.Errorf("%d lines, %v, want %d, %s", good, err, c.good, c.end)
		}
	}
}

func FuzzUp(f *testing.F) {
	f.Add([]byte(`{"hello":{"boot":"x"}}` + "\n" + `{"event":{"number":1,"name":"n","data":{}}}` + "\n" + `{"usage":{"meetings":1}}` + "\n"))
	f.Add([]byte("\n\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := newLines(bytes.NewReader(b), 100)
		for {
			var u up
			if err := in.next(&u); err != nil {
				return
			}
			if len(in.buf) > 100 {
				t.Fatalf("a line of %d bytes", len(in.buf))
			}
		}
	})
}

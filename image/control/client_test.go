package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// serve answers each connection to a socket with answer, which gets the decoded
// request; the connection is closed when it returns.
func serve(t testing.TB, answer func(net.Conn, Request)) *Client {
	t.Helper()
	// Not t.TempDir: with a long test name its path does not fit into an address.
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, err := bufio.NewReader(conn).ReadBytes('\n')
			if err == io.EOF && len(line) == 0 { // gave up before it asked
				conn.Close()
				continue
			}
			var req Request
			if err == nil {
				err = json.Unmarshal(line, &req)
			}
			if err != nil {
				t.Errorf("request %q: %v", line, err)
			}
			if len(line) > MaxLine {
				t.Errorf("request of %d bytes", len(line))
			}
			answer(conn, req)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return &Client{Path: path}
}

// say returns an answer of fixed lines.
func say(lines string) func(net.Conn, Request) {
	return func(c net.Conn, _ Request) { io.WriteString(c, lines) }
}

// deadline keeps a client that waits for ever from hanging the test.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestStatus(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	want := &Status{
		Version: "v1.2.3", Kernel: "7.1.0", Hostname: "parley", Role: "controller", Slot: "a", Firmware: "uefi",
		Booted: at, BootTime: 900 * time.Millisecond, LastBoot: "PID 1 panicked", Watchdog: "none",
		Perm: Perm{State: PermReadOnly, Message: "журнал повреждён", Size: 1 << 30, Free: 1 << 20},
		Services: []Service{{
			Name: "zctrl", Title: "zone controller", State: StateWaiting, Since: at, PID: 0, Essential: true,
			Restarts: 3, CrashLoop: true, NextStart: at.Add(time.Second), ReadyIn: time.Millisecond,
			LastExit: &Exit{At: at, Code: -1, Signal: "killed", Reason: "killed by signal 9"},
			Events:   []Event{{At: at, State: StateStarting, Text: "pid 12"}},
		}},
	}
	asked := make(chan Request, 1)
	c := serve(t, func(conn net.Conn, req Request) {
		asked <- req
		json.NewEncoder(conn).Encode(Response{Status: want})
	})
	got, err := c.Status(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if req := <-asked; req != (Request{Op: OpStatus}) {
		t.Errorf("asked for %+v", req)
	}
	if !got.Degraded() {
		t.Error("a /perm that is read-only is not degraded")
	}
	got.Perm.State = PermReadWrite
	if got.Degraded() {
		t.Error("a /perm that is read-write is degraded")
	}
}

func TestDo(t *testing.T) {
	want := Request{Op: OpRepair, Service: "zctrl", Repair: RepairFormat + "-confirm", Role: "router"}
	asked := make(chan Request, 1)
	c := serve(t, func(conn net.Conn, req Request) {
		asked <- req
		io.WriteString(conn, "{\"done\":true}\n")
	})
	if err := c.Do(deadline(t), want); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != want {
		t.Errorf("asked for %+v, want %+v", got, want)
	}
}

func TestRefusal(t *testing.T) {
	c := serve(t, say(`{"error":{"code":"denied","message":"the user web may not reboot"}}`+"\n"+`{"done":true}`+"\n"))
	for name, err := range map[string]error{
		"Do":     c.Do(deadline(t), Request{Op: OpReboot}),
		"Status": second(c.Status(deadline(t))),
		"Logs":   c.Logs(deadline(t), Request{}, func(Log) error { return nil }),
	} {
		var refusal *Error
		if !errors.As(err, &refusal) || refusal.Code != CodeDenied || err.Error() != "the user web may not reboot" {
			t.Errorf("%s: %v, want the refusal", name, err)
		}
	}
}

func second(_ *Status, err error) error { return err }

// An answer that breaks off or makes no sense is an error that names the
// operation, never a success and never a half.
func TestBadAnswers(t *testing.T) {
	for name, x := range map[string]struct{ lines, want string }{
		"nothing":       {"", "status"},
		"empty line":    {"\n", "status"},
		"garbage":       {"SSH-2.0-x\r\n", "SSH-2.0"},
		"binary":        {"\x00\xff\xfe\n", `\x00`},
		"wrong type":    {`{"status":[]}` + "\n", "status"},
		"cut":           {`{"status":{"version":"v1`, "status"},
		"other answer":  {`{"done":true}` + "\n", "empty"},
		"null":          {"null\n", "empty"},
		"too long":      {strings.Repeat("x", MaxLine+1) + "\n", "longer than"},
		"long and cut":  {strings.Repeat("x", MaxLine+1), "longer than"},
		"long garbage":  {strings.Repeat("x", 1000) + "\n", "status"},
		"then garbage":  {`{"status":{}}` + "\nx\n", "status"},
		"then too long": {`{"status":{}}` + "\n" + strings.Repeat(" ", MaxLine) + "\n", "longer than"},
	} {
		c := serve(t, say(x.lines))
		st, err := c.Status(deadline(t))
		if err == nil || !strings.Contains(err.Error(), x.want) || !strings.HasPrefix(err.Error(), "status: ") {
			t.Errorf("%s: %v, want an error about %q", name, err, x.want)
		}
		if err != nil && len(err.Error()) > 1200 {
			t.Errorf("%s: error of %d bytes", name, len(err.Error()))
		}
		if st != nil {
			t.Errorf("%s: a status beside the error: %+v", name, st)
		}
	}
	for _, lines := range []string{"", "{}\n", `{"status":{}}` + "\n", `{"done":false}` + "\n"} {
		c := serve(t, say(lines))
		if err := c.Do(deadline(t), Request{Op: OpStop, Service: "mmr"}); err == nil || !strings.Contains(err.Error(), "stop: ") {
			t.Errorf("stop answered %q: %v, want an error", lines, err)
		}
	}
}

func TestLongestLine(t *testing.T) {
	st := &Status{}
	head, err := json.Marshal(Response{Status: st})
	if err != nil {
		t.Fatal(err)
	}
	st.LastBoot = strings.Repeat("x", MaxLine-len(head)-len(`"lastBoot":"",`)-len("\n"))
	line, err := json.Marshal(Response{Status: st})
	if err != nil || len(line)+1 != MaxLine {
		t.Fatalf("line of %d bytes, %v; want %d with its newline", len(line), err, MaxLine)
	}
	c := serve(t, say(string(line)+"\n"))
	if got, err := c.Status(deadline(t)); err != nil || got.LastBoot != st.LastBoot {
		t.Errorf("line of MaxLine bytes: %v", err)
	}
}

// A server that refuses before it reads is heard, although writing fails.
func TestRefusalBeforeTheRequest(t *testing.T) {
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		// Nothing can be written to it, however quick the client is.
		if err := conn.(*net.UnixConn).CloseRead(); err != nil {
			t.Error(err)
		}
		io.WriteString(conn, `{"error":{"code":"wrong-state","message":"too many"}}`+"\n")
		conn.Close()
	}()
	c := &Client{Path: path}
	// Longer than the socket's buffer, so that it cannot be written in one go.
	err = c.Do(deadline(t), Request{Op: OpStop, Service: strings.Repeat("x", 16<<20)})
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Code != CodeState {
		t.Errorf("%.200v, want the refusal", err)
	}
	<-ended
}

func TestNobodyListens(t *testing.T) {
	c := &Client{Path: filepath.Join(t.TempDir(), "none")}
	if err := c.Do(deadline(t), Request{Op: OpStart}); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "start: ") {
		t.Errorf("%v, want ErrNotExist", err)
	}
}

func TestLogs(t *testing.T) {
	next := make(chan Log)
	asked := make(chan Request, 1)
	c := serve(t, func(conn net.Conn, req Request) {
		asked <- req
		enc := json.NewEncoder(conn)
		for l := range next {
			if enc.Encode(Response{Log: &l}) != nil {
				return
			}
		}
	})
	lines := make(chan Log)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Logs(deadline(t), Request{Op: OpReboot, Service: "mmr", Lines: 5, Follow: true}, func(l Log) error {
			lines <- l
			return nil
		})
	}()
	if got, want := <-asked, (Request{Op: OpLogs, Service: "mmr", Lines: 5, Follow: true}); got != want {
		t.Errorf("asked for %+v, want %+v", got, want)
	}
	// Each line arrives when it is written, not when the answer ends.
	for seq := range uint64(3) {
		want := Log{Seq: seq, At: time.Unix(int64(seq), 0).UTC(), Service: "mmr", Text: "строка \n\"x\""}
		next <- want
		select {
		case got := <-lines:
			if got != want {
				t.Errorf("line %+v, want %+v", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a followed line does not arrive")
		}
	}
	close(next)
	if err := <-ended; err != nil {
		t.Errorf("the stream's end: %v, want nil", err)
	}
}

func TestLogsStopsWhenTheCallerDoes(t *testing.T) {
	enough := errors.New("enough")
	gone := make(chan error, 1)
	c := serve(t, func(conn net.Conn, _ Request) {
		for {
			if _, err := io.WriteString(conn, `{"log":{"text":"x"}}`+"\n"); err != nil {
				gone <- err
				return
			}
		}
	})
	n := 0
	err := c.Logs(deadline(t), Request{Follow: true}, func(Log) error {
		if n++; n == 3 {
			return enough
		}
		return nil
	})
	if err != enough || n != 3 {
		t.Errorf("after %d lines: %v, want the caller's error after 3", n, err)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the connection stays open")
	}
}

func TestContext(t *testing.T) {
	quiet := make(chan struct{})
	c := serve(t, func(net.Conn, Request) { <-quiet })
	t.Cleanup(func() { close(quiet) }) // before serve's clean-up waits
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Logs(ctx, Request{Follow: true}, func(Log) error { return nil }) }()
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want context.Canceled", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a cancelled call does not end")
	}
	if err := c.Do(ctx, Request{Op: OpStart}); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v, want context.Canceled", err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Status(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want context.DeadlineExceeded", err)
	}
}

// Whatever PID 1's side sends, a call ends, and only a whole answer is a success.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"", "\n", "{}\n", `{"status":{}}` + "\n", `{"error":{}}` + "\n", `{"error":null}`, `{"log":{"at":"x"}}` + "\n",
		`{"status":{"services":[{"since":"0000-01-01T00:00:00Z"}]}}` + "\n", `{"done":true}` + "\r\n", "\xff\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		c := serve(t, say(string(answer)))
		st, err := c.Status(deadline(t))
		if (st == nil) == (err == nil) {
			t.Fatalf("%+v, %v: want one of the two", st, err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Fatal("the call does not end")
		}
	})
}

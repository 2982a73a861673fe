package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/ring"
	"github.com/parley-meet/parley/image/internal/stage"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, nil)) }

const (
	group    = 110
	operator = 54102
	reader   = 54103
	servant  = 54105
	none     = 54104
	manager  = 54106
	clock    = 54107
	stranger = 54999
	patience = 30 * time.Second
)

var services = []config.Service{
	{Name: "operator", User: config.User{ID: operator}, Control: config.ControlOperate},
	{Name: "reader", User: config.User{ID: reader}, Control: config.ControlRead},
	{Name: "services", User: config.User{ID: servant}, Control: config.ControlServices},
	{Name: "manager", User: config.User{ID: manager}, Control: config.ControlManage},
	{Name: "clock", User: config.User{ID: clock}, Control: config.ControlClock},
	{Name: "none", User: config.User{ID: none}},
}

// system records what it is asked for.
type system struct {
	mu     sync.Mutex
	asked  []control.Request
	do     func(context.Context, control.Request) error
	status control.Status
}

func (s *system) Status() *control.Status { return &s.status }

func (s *system) Do(ctx context.Context, r control.Request) error {
	s.mu.Lock()
	s.asked = append(s.asked, r)
	s.mu.Unlock()
	if s.do != nil {
		return s.do(ctx, r)
	}
	return nil
}

func (s *system) requests() []control.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]control.Request(nil), s.asked...)
}

// serve runs a server until the test's end.
func serve(t *testing.T, srv *Server) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "server")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}) // Listen needs root
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if srv.System == nil {
		srv.System = &system{}
	}
	if srv.Ring == nil {
		srv.Ring = ring.New(1 << 20)
	}
	if srv.Services == nil {
		srv.Services = services
	}
	srv.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := srv.bounds.Now(); n != 0 {
			t.Errorf("%d connections are counted after the end", n)
		}
	})
	return path
}

// dial connects as a user: the kernel tells the server who connected. The
// credentials of one thread are changed, so everything is done on it.
func dial(t testing.TB, path string, uid int) *net.UnixConn {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if uid >= 0 {
		// The connection's credentials are those of the thread's effective user
		// at connect.
		done := make(chan error)
		go func() {
			// Not unlocked: the thread ends with its changed user.
			lockThread()
			_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
			if errno != 0 {
				done <- errno
				return
			}
			done <- unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		}()
		err = <-done
	} else {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.UnixConn)
}

// ask sends bytes and returns the whole answer.
func ask(t testing.TB, c *net.UnixConn, request string) (out []control.Response) {
	t.Helper()
	_, _ = io.WriteString(c, request) // the server may have refused already
	for sc := bufio.NewScanner(bufio.NewReaderSize(c, control.MaxLine)); ; {
		sc.Buffer(nil, control.MaxLine)
		for sc.Scan() {
			var r control.Response
			if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
				t.Fatalf("%.100q: %v", sc.Bytes(), err)
			}
			out = append(out, r)
		}
		if err := sc.Err(); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		return out
	}
}

func refused(t testing.TB, got []control.Response, code control.Code, words string) {
	t.Helper()
	if len(got) != 1 || got[0].Error == nil || got[0].Error.Code != code || !strings.Contains(got[0].Error.Message, words) || got[0].Done || got[0].Status != nil {
		b, _ := json.Marshal(got)
		t.Errorf("%.300s: want a refusal %s about %q alone", b, code, words)
	}
}

// Who may do what.
func TestRights(t *testing.T) {
	stage.Need(t)
	sys := &system{status: control.Status{Hostname: "parley"}}
	path := serve(t, &Server{System: sys})
	ops := map[string]string{
		"status": `{"op":"status"}`, "logs": `{"op":"logs"}`, "start": `{"op":"start","service":"x"}`, "stop": `{"op":"stop","service":"x"}`,
		"restart": `{"op":"restart","service":"x"}`, "reboot": `{"op":"reboot"}`, "poweroff": `{"op":"poweroff"}`,
		"repair": `{"op":"repair","repair":"format!"}`, "role": `{"op":"role","role":"router"}`,
		"reset": `{"op":"reset"}`, "identity": `{"op":"identity","identity":"same"}`, "clock": `{"op":"clock","clock":{"offset":5}}`,
		"hostname": `{"op":"hostname","hostname":"a.example"}`,
	}
	for uid, may := range map[int]func(op string) bool{
		0:        func(string) bool { return true },
		operator: func(op string) bool { return op != "hostname" },
		manager:  func(op string) bool { return op != "hostname" && op != "repair" },
		clock:    func(op string) bool { return op == "hostname" || op == "clock" },
		reader:   func(op string) bool { return op == "status" || op == "logs" },
		servant: func(op string) bool {
			return slices.Contains([]string{"status", "logs", "start", "stop", "restart"}, op)
		},
		none:     func(string) bool { return false },
		stranger: func(string) bool { return false },
	} {
		for op, request := range ops {
			before := len(sys.requests())
			got := ask(t, dial(t, path, uid), request+"\n")
			done := len(sys.requests()) - before
			switch {
			case !may(op):
				refused(t, got, control.CodeDenied, fmt.Sprintf("%s: user %d has no right to it", op, uid))
				if done != 0 {
					t.Errorf("user %d: %s was carried out", uid, op)
				}
			case op == "status":
				if len(got) != 1 || got[0].Status == nil || got[0].Status.Hostname != "parley" {
					t.Errorf("user %d: %+v", uid, got)
				}
			case op == "logs":
				if len(got) != 0 {
					t.Errorf("user %d: %+v", uid, got)
				}
			default:
				if len(got) != 1 || !got[0].Done || done != 1 {
					t.Errorf("user %d: %s: %+v, done %d times", uid, op, got, done)
				}
			}
		}
	}
}

func TestListen(t *testing.T) {
	stage.Need(t)
	path := filepath.Join("/run", "init.sock")
	for range 2 { // the second finds the first's socket
		l, err := Listen(path, group)
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode != unix.S_IFSOCK|0o660 || st.Uid != 0 || st.Gid != group {
			t.Errorf("mode %#o, owner %d:%d", st.Mode, st.Uid, st.Gid)
		}
	}
	if _, err := Listen("/nowhere/s", group); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	// What a service gets wrong about it is told by its error.
	if err := os.WriteFile("/run/not-a-folder", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("/run/not-a-folder/s", group); !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
}

// The system's refusals arrive as they are; other errors name the operation.
func TestErrors(t *testing.T) {
	sys := &system{}
	path := serve(t, &Server{System: sys, Services: self(config.ControlOperate)})
	for _, x := range []struct {
		err  error
		code control.Code
		want string
	}{
		{&control.Error{Code: control.CodeUnknown, Message: "no service"}, control.CodeUnknown, "no service"},
		{fmt.Errorf("wrapped: %w", &control.Error{Code: control.CodeState, Message: "not now"}), control.CodeState, "not now"},
		{errors.New("disk on fire"), control.CodeFailed, "stop: disk on fire"},
	} {
		sys.do = func(context.Context, control.Request) error { return x.err }
		refused(t, ask(t, dial(t, path, -1), `{"op":"stop","service":"x"}`+"\n"), x.code, x.want)
	}
}

// self gives the test's own user a right, so that it needs no root.
func self(right string) []config.Service {
	return []config.Service{{Name: "test", User: config.User{ID: uint32(os.Getuid())}, Control: right}}
}

// A request is one line of bounded length, and a whole one.
func TestRequests(t *testing.T) {
	sys := &system{}
	path := serve(t, &Server{System: sys, Services: self(config.ControlOperate), readLimit: 100 * time.Millisecond})
	fill := func(n int) string {
		s := `{"op":"stop","service":"x"}`
		return s + strings.Repeat(" ", n-len(s))
	}
	if got := ask(t, dial(t, path, -1), fill(maxRequest)+"\n"); len(got) != 1 || !got[0].Done {
		t.Errorf("the longest request: %+v", got)
	}
	carried := len(sys.requests())
	for name, request := range map[string]string{
		"a byte too long": fill(maxRequest+1) + "\n",
		"much too long":   strings.Repeat("x", 1<<20) + "\n",
		"never ends":      strings.Repeat("x", 1<<20),
		"never comes":     "",
		"half a line":     `{"op":"stop","service":"x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, ask(t, dial(t, path, -1), request), control.CodeInvalid, "one line of at most 4096 bytes")
		})
	}
	// Ended without its newline: it may be a half.
	c := dial(t, path, -1)
	if _, err := io.WriteString(c, `{"op":"stop","service":"x"}`); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	refused(t, ask(t, c, ""), control.CodeInvalid, "one line")
	for name, request := range map[string]string{
		"garbage": "SSH-2.0-x\r\n", "empty": "\n", "unknown": `{"op":"exec"}` + "\n", "two": `{"op":"status"}{"op":"reboot"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, ask(t, dial(t, path, -1), request), control.CodeInvalid, "request")
		})
	}
	if n := len(sys.requests()); n != carried {
		t.Errorf("%d bad requests were carried out", n-carried)
	}
}

// A caller that hangs up ends what it waits for.
func TestHangUp(t *testing.T) {
	ended := make(chan error, 1)
	begun := make(chan struct{})
	sys := &system{do: func(ctx context.Context, _ control.Request) error {
		close(begun)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}}
	path := serve(t, &Server{System: sys, Services: self(config.ControlOperate)})
	c := dial(t, path, -1)
	if _, err := io.WriteString(c, `{"op":"restart","service":"x"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	<-begun
	c.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it goes on for nobody")
	}
}

func TestLogs(t *testing.T) {
	r := ring.New(1 << 20)
	for i := range 5 {
		r.Add(time.Unix(int64(i), 0), []string{"a", "b"}[i%2], fmt.Sprint(i))
	}
	path := serve(t, &Server{Ring: r, Services: self(config.ControlRead)})
	for request, want := range map[string]string{
		`{"op":"logs"}`:                                     "01234",
		`{"op":"logs","lines":2}`:                           "34",
		`{"op":"logs","service":"a"}`:                       "024",
		`{"op":"logs","service":"a","lines":1}`:             "4",
		`{"op":"logs","service":"none"}`:                    "",
		`{"op":"logs","service":"a","lines":1048576}` + " ": "024",
	} {
		got := ""
		for _, l := range ask(t, dial(t, path, -1), request+"\n") {
			got += l.Log.Text
		}
		if got != want {
			t.Errorf("%s: %q, want %q", request, got, want)
		}
	}
	// Followed: past lines, then each as it comes, until the caller goes.
	c := dial(t, path, -1)
	if _, err := io.WriteString(c, `{"op":"logs","service":"a","lines":1,"follow":true}`+"\n"); err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(c)
	next := func() (l control.Response) {
		t.Helper()
		if !sc.Scan() {
			t.Fatal(sc.Err())
		}
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil || l.Log == nil {
			t.Fatalf("%q, %v", sc.Bytes(), err)
		}
		return l
	}
	if l := next(); l.Log.Text != "4" {
		t.Errorf("%+v", l.Log)
	}
	for i := range 3 {
		r.Add(time.Now(), "b", "not this")
		r.Add(time.Now(), "a", fmt.Sprint("new ", i))
		if l := next(); l.Log.Text != fmt.Sprint("new ", i) || l.Log.Service != "a" {
			t.Errorf("%+v", l.Log)
		}
	}
}

// A caller that does not take its answer is left after the write limit, and
// nobody else waits for it.
func TestSlowCaller(t *testing.T) {
	r := ring.New(8 << 20)
	for range 900 {
		r.Add(time.Now(), "a", strings.Repeat("x", ring.MaxLine)) // more than a socket holds
	}
	srv := &Server{Ring: r, Services: self(config.ControlRead), writeLimit: 50 * time.Millisecond}
	path := serve(t, srv)
	slow := dial(t, path, -1)
	if _, err := io.WriteString(slow, `{"op":"logs","follow":true}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, dial(t, path, -1), `{"op":"status"}`+"\n"); len(got) != 1 || got[0].Status == nil {
		t.Errorf("another caller: %+v", got)
	}
	// The server has hung up when it counts nobody.
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		n := srv.bounds.Now()
		if n == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a caller that takes nothing is kept")
		}
	}
	n, err := io.Copy(io.Discard, slow)
	if n >= 900*ring.MaxLine {
		t.Errorf("it got everything: %d bytes, %v", n, err)
	}
}

// Each user has its own bound, so one console cannot lock the other out; and all
// together have one.
func TestTooMany(t *testing.T) {
	stage.Need(t)
	srv := &Server{}
	path := serve(t, srv)
	follow := func(uid int) *net.UnixConn {
		c := dial(t, path, uid)
		if _, err := io.WriteString(c, `{"op":"logs","follow":true}`+"\n"); err != nil {
			t.Fatal(err)
		}
		return c
	}
	wait := func(n int) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			total := srv.bounds.Now()
			if total == n {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d connections, want %d", total, n)
			}
		}
	}
	var first *net.UnixConn
	for i := range maxPerUser {
		c := follow(operator)
		if i == 0 {
			first = c
		}
	}
	wait(maxPerUser)
	for range 100 {
		refused(t, ask(t, dial(t, path, operator), `{"op":"status"}`+"\n"), control.CodeState, "too many connections")
	}
	if got := ask(t, dial(t, path, reader), `{"op":"status"}`+"\n"); len(got) != 1 || got[0].Status == nil {
		t.Errorf("the other console is locked out: %+v", got)
	}
	for i := range maxConns - maxPerUser {
		follow([]int{reader, servant}[i/maxPerUser])
	}
	wait(maxConns)
	refused(t, ask(t, dial(t, path, 0), `{"op":"status"}`+"\n"), control.CodeState, "too many connections")
	first.Close()
	wait(maxConns - 1)
	if got := ask(t, dial(t, path, 0), `{"op":"status"}`+"\n"); len(got) != 1 || got[0].Status == nil {
		t.Errorf("a place that was left is not given again: %+v", got)
	}
}

// A status that is too long loses old events and nothing else.
func TestLongStatus(t *testing.T) {
	sys := &system{}
	for n := range 64 {
		s := control.Service{Name: fmt.Sprint("service", n), State: control.StateReady, Detail: strings.Repeat("d", 512)}
		for e := range 32 {
			s.Events = append(s.Events, control.Event{State: control.StateUnhealthy, Text: fmt.Sprintf("%02d %s", e, strings.Repeat("e", 509))})
		}
		sys.status.Services = append(sys.status.Services, s)
	}
	path := serve(t, &Server{System: sys, Services: self(config.ControlRead)})
	got := ask(t, dial(t, path, -1), `{"op":"status"}`+"\n")
	if len(got) != 1 || got[0].Status == nil || len(got[0].Status.Services) != 64 {
		t.Fatalf("no status: %+v", got)
	}
	for _, s := range got[0].Status.Services {
		if n := len(s.Events); n < 1 || n > 31 || s.Detail == "" || !strings.HasPrefix(s.Events[n-1].Text, "31 ") {
			t.Fatalf("%s has %d events, want the newest", s.Name, n)
		}
	}
	if len(sys.status.Services[0].Events) != 32 {
		t.Error("the system's own status was shortened")
	}
	// What cannot fit is an error, not half a line.
	sys.status.LastBoot = strings.Repeat("x", control.MaxLine)
	refused(t, ask(t, dial(t, path, -1), `{"op":"status"}`+"\n"), control.CodeFailed, "at most 262144 fit")
}

package terminal

import (
	"context"
	rand2 "crypto/rand"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/nic"
)

// memory is a terminal in memory.
type memory struct {
	in     chan []byte
	closed chan struct{}
	once   sync.Once

	mu  sync.Mutex
	out strings.Builder
}

func newMemory() *memory { return &memory{in: make(chan []byte), closed: make(chan struct{})} }

func (m *memory) Read(b []byte) (int, error) {
	select {
	case p, ok := <-m.in:
		if !ok {
			return 0, io.EOF
		}
		return copy(b, p), nil
	case <-m.closed:
		return 0, os.ErrClosed
	}
}

func (m *memory) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.out.Write(b)
}

func (m *memory) Close() error     { m.once.Do(func() { close(m.closed) }); return nil }
func (m *memory) Size() (int, int) { return 80, 24 }
func (m *memory) Screen() bool     { return false }

// appliance is a PID 1 in memory.
type appliance struct {
	status control.Status
	hang   bool // of Do
}

func (a *appliance) Status(context.Context) (*control.Status, error) {
	st := a.status
	return &st, nil
}

func (a *appliance) Do(ctx context.Context, _ control.Request) error {
	if a.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (a *appliance) Logs(ctx context.Context, _ control.Request, _ func(control.Log) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// away is a network service that never answers.
type away struct{}

func (away) Do(ctx context.Context, _ netclient.Request) (*netclient.Status, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

const password = admintest.Password

// desk is a console in a bubble, with one terminal.
type desk struct {
	t         *testing.T
	c         *Console
	keeper    *credential.Keeper
	appliance *appliance
	dev       *memory
	logs      *syncBuffer
}

func newDesk(t *testing.T) *desk {
	dir := t.TempDir()
	d := &desk{t: t, dev: newMemory(), logs: &syncBuffer{}, appliance: &appliance{status: control.Status{Version: "1.2.3", Hostname: "parley", BootTime: time.Second, Booted: time.Now()}}}
	// Not admintest's: a socket in a bubble keeps its time from going on.
	store := &credential.Store{Dir: filepath.Join(dir, "perm"), RunDir: filepath.Join(dir, "run")}
	for _, name := range []string{store.Dir, store.RunDir} {
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d.keeper = &credential.Keeper{Store: store, Dir: dir, Hasher: credential.NewHasher(4), Random: rand2.Reader}
	a := admin.New(admin.Config{Appliance: d.appliance, Network: away{}, Store: store, Hasher: d.keeper.Hasher, Dir: store.Dir,
		Interfaces: func() ([]nic.Interface, error) { return nil, nil }, Log: slog.New(slog.NewTextHandler(d.logs, nil))})
	t.Cleanup(a.Close)
	h, err := d.keeper.Hasher.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Set(h, time.Now()); err != nil {
		t.Fatal(err)
	}
	d.c = New(Config{Appliance: d.appliance, Admin: newSide(a), Keeper: d.keeper, WebPort: 5480, Interfaces: func() ([]nic.Interface, error) { return nil, nil },
		Fingerprint: func() string { return "" }, Settings: filepath.Join(dir, "settings.json"), Recovered: filepath.Join(dir, "recovered"),
		Log: slog.New(slog.NewTextHandler(d.logs, nil))})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.c.Poll(ctx) })
	wg.Go(func() { d.c.Serve(ctx, "ttyT", func(string) (Device, error) { return d.dev, nil }) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	d.shows("parley login: ")
	return d
}

// send types and lets the session take it.
func (d *desk) send(s string) {
	for len(s) > 0 {
		n := min(len(s), 100)
		d.dev.in <- []byte(s[:n])
		s = s[n:]
	}
	synctest.Wait()
}

// take returns what was printed since the last call.
func (d *desk) take() string {
	synctest.Wait()
	d.dev.mu.Lock()
	defer d.dev.mu.Unlock()
	s := d.dev.out.String()
	d.dev.out.Reset()
	return s
}

// shows waits up to ten seconds of the bubble's time, for the pauses between
// attempts are not what is judged here.
func (d *desk) shows(pattern string) (out string) {
	d.t.Helper()
	re := regexp.MustCompile(pattern)
	for range 100 {
		if out += d.take(); re.MatchString(out) {
			return out
		}
		time.Sleep(100 * time.Millisecond)
	}
	d.t.Fatalf("waiting for %q, got %q; log:\n%s", pattern, out, d.logs)
	return ""
}

func (d *desk) login() {
	d.t.Helper()
	d.send("admin\r")
	d.shows("Password: ")
	d.send(password + "\r")
	d.shows("parley> ")
}

// Wrong passwords wait longer and longer, up to a minute, and never for ever; a
// right one ends that.
func TestLoginIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		for i, want := range []time.Duration{1, 1, 1, 2, 4, 8, 16, 32, 60, 60} {
			d.send("admin\r")
			d.send("open sesame " + string(rune('a'+i)) + "\r")
			d.take()
			before := time.Now()
			d.send("admin\r") // typed ahead: dropped
			for !strings.Contains(d.take(), "parley login: ") {
				time.Sleep(10 * time.Millisecond)
			}
			if got := time.Since(before).Round(time.Second); got != want*time.Second {
				t.Errorf("after %d wrong passwords: wait of %v, want %v", i+1, got, want*time.Second)
			}
		}
		d.login()
		d.send("logout\r")
		d.shows("login: ")
		d.send("admin\r")
		d.send("wrong\r")
		before := time.Now()
		d.shows("login: ")
		if got := time.Since(before).Round(time.Second); got != time.Second {
			t.Errorf("after a right one: wait of %v, want 1 s", got)
		}
		for _, secret := range []string{"sesame", password} {
			if strings.Contains(d.logs.String(), secret) {
				t.Errorf("the log has %q:\n%s", secret, d.logs)
			}
		}
		if n := strings.Count(d.logs.String(), "login refused"); n != 11 {
			t.Errorf("%d refusals in the log, want 11", n)
		}
	})
}

// Guesses cannot be typed ahead: what comes while one is judged is dropped.
func TestGuessesAreNotQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.send(strings.Repeat("admin\rguess\r", 8)) // one chunk
		time.Sleep(time.Hour)
		d.take()
		if n := strings.Count(d.logs.String(), "login refused"); n != 1 {
			t.Errorf("%d guesses were judged, want 1", n)
		}
	})
}

// A name that is none costs a pause, but no longer wait for the administrator:
// noise on a line does that.
func TestUnknownNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		for _, name := range []string{"root", "admins", "admin2", "пароль", password} {
			d.send(name + "\r")
			if out := d.shows("Password: "); strings.Contains(strings.ReplaceAll(out, name, ""), "unknown") {
				t.Errorf("the terminal tells that there is no %s: %q", name, out)
			}
			d.send(password + "\r")
			before := time.Now()
			out := d.shows("login: ")
			if !strings.Contains(out, "Wrong name or password") || time.Since(before) < 1900*time.Millisecond {
				t.Errorf("%s: after %v %q", name, time.Since(before), out)
			}
		}
		d.login()
		if strings.Contains(d.logs.String(), password) {
			t.Errorf("a password typed as a name is in the log:\n%s", d.logs)
		}
	})
}

// A quarter of an hour without a key ends a session, in the shell and in every
// question; each key begins it anew.
func TestIdle(t *testing.T) {
	for _, typed := range []string{"", "half a comma", "reboot\r", "passwd\r", "passwd\r" + password + "\r", "repair format\r"} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t)
			d.login()
			d.send(typed)
			time.Sleep(time.Second)
			for range 3 {
				time.Sleep(14 * time.Minute)
				d.send("\x00")
			}
			if out := d.take(); strings.Contains(out, "login: ") {
				t.Errorf("%q: ended too early: %q", typed, out)
			}
			time.Sleep(15*time.Minute + time.Second)
			if out := d.take(); !strings.Contains(out, "parley login: ") {
				t.Errorf("%q: not ended: %q", typed, out)
			}
			if !strings.Contains(d.logs.String(), "logged out") {
				t.Errorf("%q: log:\n%s", typed, d.logs)
			}
			d.send("version\r")
			if out := d.take(); strings.Contains(out, "1.2.3") {
				t.Errorf("%q: a command is taken after the end: %q", typed, out)
			}
		})
	}
}

// Half a name or a password is forgotten after a minute: the next at the
// keyboard begins anew. An empty prompt stays for ever.
func TestIdleLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		time.Sleep(10 * time.Hour)
		if out := d.take(); out != "" {
			t.Errorf("printed on a quiet terminal: %q", out)
		}
		d.send("adm")
		time.Sleep(61 * time.Second)
		d.shows("parley login: ")
		d.login()
		d.send("logout\r")
		d.shows("login: ")
		d.send("admin\r")
		d.shows("Password: ")
		d.send(password)
		time.Sleep(61 * time.Second)
		d.shows("parley login: ")
		d.send("\r")
		if out := d.take(); strings.Contains(out, "parley> ") {
			t.Error("what was typed before is taken")
		}
	})
}

// A PID 1 that does not answer ends a command after a while, and Ctrl-C does so
// at once; the session goes on, and the terminal is not taken to be hung.
func TestHangingOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.login()
		d.appliance.hang = true
		d.send("restart mmr\r")
		time.Sleep(opLimit - time.Second)
		if out := d.take(); strings.Contains(out, "parley> ") {
			t.Errorf("given up too early: %q", out)
		}
		if detail, err := d.c.Check(); err != nil || detail != "login on ttyT" {
			t.Errorf("%q, %v", detail, err)
		}
		time.Sleep(2 * time.Second)
		d.shows("parley> ")
		d.send("restart mmr\r")
		d.send("\x03")
		if out := d.take(); !strings.Contains(out, "parley> ") {
			t.Errorf("after Ctrl-C: %q", out)
		}
	})
}

// Whatever comes in on a line, and however much, nothing is sent back that a
// terminal would obey, nobody is let in, and the administrator gets in.
func TestNoise(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t)
			r := rand.New(rand.NewPCG(seed, 1))
			for range 20 {
				b := make([]byte, 1+r.IntN(3000))
				for i := range b {
					switch b[i] = byte(r.Uint32()); r.IntN(20) {
					case 0:
						b[i] = 0x1b
					case 1:
						b[i] = '\r'
					case 2:
						b[i] = '['
					}
				}
				d.send(string(b))
				time.Sleep(3 * time.Second)
			}
			time.Sleep(5 * time.Minute)
			d.send("\x03\r")
			out := d.take()
			if strings.Contains(out, "parley> ") {
				t.Fatalf("let in: %q", out)
			}
			harmless(t, out)
			time.Sleep(time.Minute)
			d.login()
			if strings.Contains(d.logs.String(), "\x1b") {
				t.Error("control characters in the log")
			}
		})
	}
}

// ours are the controls that the console itself sends.
var ours = regexp.MustCompile("\x1b\\[(K|m|1m|1;31m|[0-9]{1,4}D)|\x1b7\x1b\\[999;999H\x1b\\[6n\x1b8|[\r\n\a]")

// harmless holds that nothing but these is in what was printed.
func harmless(t *testing.T, out string) {
	t.Helper()
	rest := ours.ReplaceAllString(out, "")
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd }); i >= 0 {
		t.Errorf("a control character is printed: %q", rest[max(0, i-20):min(len(rest), i+20)])
	}
}

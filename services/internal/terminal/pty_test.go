package terminal

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/services/internal/controltest"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/nic"
)

// ptyPair opens a pseudo-terminal: what an administrator holds, and the name
// of what the console opens.
func ptyPair(t *testing.T) (*os.File, string) {
	t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	var n int
	raw, err := m.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, fmt.Sprintf("/dev/pts/%d", n)
}

// rig is a console on a pseudo-terminal before a fake PID 1.
type rig struct {
	t       *testing.T
	c       *Console
	server  *controltest.Server
	keeper  *credential.Keeper
	dir     string
	pty     *os.File
	logs    *syncBuffer
	mu      sync.Mutex
	seen    string // since the last expect
	all     string
	arrived chan struct{}
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newKeeper(t *testing.T, dir string) *credential.Keeper {
	for _, d := range []string{"perm", "run", "own"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	store := &credential.Store{Dir: filepath.Join(dir, "perm"), RunDir: filepath.Join(dir, "run")}
	return &credential.Keeper{Store: store, Dir: filepath.Join(dir, "own"), Hasher: credential.NewHasher(4), Random: rand.Reader}
}

func newRig(t *testing.T) *rig {
	m, name := ptyPair(t)
	r := startRig(t, func(string) (Device, error) { return open(name, false) })
	r.pty = m
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := m.Read(b)
			r.got(b[:n])
			if err != nil {
				return
			}
		}
	}()
	return r
}

func startRig(t *testing.T, open func(string) (Device, error)) *rig {
	r := &rig{t: t, server: controltest.New(t), dir: t.TempDir(), logs: &syncBuffer{}, arrived: make(chan struct{}, 1)}
	r.keeper = newKeeper(t, r.dir)
	r.c = New(Config{
		Appliance: r.server.Client(), Keeper: r.keeper, WebPort: 5480,
		Interfaces: func() ([]nic.Interface, error) {
			return []nic.Interface{{Name: "eth0", State: "up", MTU: 1500, MAC: []byte{0x52, 0x54, 0, 1, 2, 3},
				Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24")}, RX: nic.Counters{Packets: 12, Bytes: 2048}}}, nil
		},
		Fingerprint: func() string { return strings.TrimSuffix(strings.Repeat("AB:", 32), ":") },
		Settings:    filepath.Join(r.dir, "own", "settings.json"),
		Log:         slog.New(slog.NewTextHandler(r.logs, nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.c.Poll(ctx) })
	wg.Go(func() { r.c.Serve(ctx, "ttyT", open) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		for _, secret := range []string{r.keeper.Plain(), "correct horse battery"} {
			if secret != "" && strings.Contains(r.logs.String(), secret) {
				t.Errorf("the log has the password: %s", r.logs)
			}
		}
	})
	return r
}

func (r *rig) got(b []byte) {
	r.mu.Lock()
	r.seen += string(b)
	r.all += string(b)
	r.mu.Unlock()
	select {
	case r.arrived <- struct{}{}:
	default:
	}
}

// expect waits for the text and returns what came before and with it.
func (r *rig) expect(pattern string) string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		if loc := re.FindStringIndex(r.seen); loc != nil {
			out := r.seen[:loc[1]]
			r.seen = r.seen[loc[1]:]
			r.mu.Unlock()
			return out
		}
		seen := r.seen
		r.mu.Unlock()
		select {
		case <-r.arrived:
		case <-deadline:
			r.t.Fatalf("waiting for %q, got %q", pattern, seen[max(0, len(seen)-2000):])
		}
	}
}

func (r *rig) send(s string) {
	r.t.Helper()
	if _, err := io.WriteString(r.pty, s); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) login(password string) {
	r.t.Helper()
	r.send("admin\r")
	r.expect("Password: ")
	r.send(password + "\r")
	r.expect("parley> ")
}

// run types a command and returns what it printed.
func (r *rig) run(command string) string {
	r.t.Helper()
	r.send(command + "\r")
	r.expect(regexp.QuoteMeta(command) + "\r\n")
	return r.expect(`parley> `)
}

package terminal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
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
	admin   *admintest.Rig
	side    *side
	server  *controltest.Server
	uptime  atomic.Int64 // ns
	keeper  *credential.Keeper
	dir     string
	pty     *os.File
	logs    *syncBuffer
	mu      sync.Mutex
	seen    string // since the last expect
	all     string
	arrived chan struct{}
}

// side is the administrator's side: a real one, but that certificates and tools
// of the network are canned.
type side struct {
	*admin.Admin

	mu    sync.Mutex
	asked []string
	hang  bool // tools go on for ever, and so does what asks the network service
	lines []string
}

func newSide(a *admin.Admin) *side { return &side{Admin: a, lines: []string{"one", "two"}} }

func (s *side) note(format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf(format, args...))
	return nil
}

func (s *side) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.asked
	s.asked = nil
	return out
}

func (s *side) set(hang bool, lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang, s.lines = hang, lines
}

func (s *side) Certificate(context.Context) (admin.Certificate, error) {
	return admin.Certificate{Subject: "CN=parley", Issuer: "CN=parley", Names: []string{"parley", "192.0.2.7"}, SHA256: strings.TrimSuffix(strings.Repeat("AB:", 32), ":"),
		Key: "ECDSA P-256", SelfSigned: true, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(2000000000, 0)}, nil
}

func (s *side) RequestCertificate(_ context.Context, _ admin.Actor, in admin.RequestInput) (string, error) {
	return "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n", s.note("request %v", in.Names)
}

func (s *side) InstallCertificate(_ context.Context, _ admin.Actor, chain, key string) error {
	return s.note("install %q %q", chain, key)
}

func (s *side) ResetCertificate(context.Context, admin.Actor) error { return s.note("reset") }

func (s *side) Authorities(context.Context) ([]admin.Authority, error) {
	return []admin.Authority{{Subject: "CN=Example CA", SHA256: "AA:BB"}}, nil
}

func (s *side) AddAuthority(_ context.Context, _ admin.Actor, pem string) error {
	return s.note("trust %q", pem)
}

func (s *side) RemoveAuthority(_ context.Context, _ admin.Actor, sum string) error {
	return s.note("distrust %s", sum)
}

func (s *side) Bundle(context.Context, admin.Actor, io.Writer) error { return admin.ErrAway }

func (s *side) Diagnose(ctx context.Context, _ admin.Actor, in admin.DiagnoseInput, line func(string) error) error {
	in.Words = nil
	s.note("%+v", in)
	s.mu.Lock()
	lines, hang := s.lines, s.hang
	s.mu.Unlock()
	for _, l := range lines {
		if err := line(l); err != nil {
			return err
		}
	}
	if hang {
		<-ctx.Done()
	}
	return ctx.Err()
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

// newRig has its test run beside others: most of its time is waiting.
func newRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
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
	a := admintest.Fresh(t)
	r := &rig{t: t, side: newSide(a.Admin), admin: a, server: a.PID1, dir: t.TempDir(), logs: &syncBuffer{}, arrived: make(chan struct{}, 1)}
	r.keeper = a.Keeper
	r.c = New(Config{
		Appliance: r.server.Client(), Admin: r.side, Keeper: r.keeper, WebPort: 5480, Recovered: filepath.Join(r.dir, "recovered"),
		Uptime: func() time.Duration { return time.Duration(r.uptime.Load()) },
		Interfaces: func() ([]nic.Interface, error) {
			return []nic.Interface{{Name: "eth0", State: "up", MTU: 1500, MAC: []byte{0x52, 0x54, 0, 1, 2, 3},
				Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24")}, RX: nic.Counters{Packets: 12, Bytes: 2048}}}, nil
		},
		Fingerprint: func() string { return strings.TrimSuffix(strings.Repeat("AB:", 32), ":") },
		Settings:    filepath.Join(r.dir, "settings.json"),
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
	var all string
	for {
		out := r.expect(`parley> |-- (more|далее) --`)
		if all += out; strings.HasSuffix(out, "> ") {
			return all
		}
		r.send(" ")
	}
}

// printed is everything that was.
func (r *rig) printed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

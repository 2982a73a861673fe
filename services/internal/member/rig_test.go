package member

import (
	"context"
	"crypto/x509"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/logtest"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/zones"
	"github.com/parley-meet/parley/services/internal/statefile"
)

// machine is an appliance, that is told by its settings and starts again and
// again with the same folders.
type machine struct {
	t        *testing.T
	dir, set string
	role     link.Role
	roots    *x509.CertPool
	proxy    func(*http.Request) (*url.URL, error)
	logs     *logtest.Buffer

	*Member
	stop func()

	mu     sync.Mutex
	status link.Status
}

func newMachine(t *testing.T, role link.Role, roots *x509.CertPool) *machine {
	return &machine{t: t, dir: t.TempDir(), set: t.TempDir(), role: role, roots: roots, logs: new(logtest.Buffer),
		status: link.Status{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.10")}, HTTPS: 443}}
}

// start runs its process until the test ends, or stop.
func (m *machine) start() *machine {
	m.t.Helper()
	member, err := New(Config{Role: m.role, Host: "zc-1", Version: "1.2.3", Dir: m.dir, Settings: m.set, Log: slog.New(slog.NewTextHandler(m.logs, nil)),
		Roots: func() *x509.CertPool { return m.roots }, Proxy: m.proxy,
		Status: func() link.Status {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.status
		}})
	if err != nil {
		m.t.Fatal(err)
	}
	member.poll, member.patience = 20*time.Millisecond, 30*time.Second
	m.Member = member
	m.stop = bustest.Running(m.t, member.Run)
	return m
}

// save writes connector.json.
func (m *machine) save(change func(*connector.Settings)) {
	m.t.Helper()
	f := connector.File(statefile.New(m.set))
	if _, err := f.Change(context.Background(), connector.New(), func(s *connector.Settings) error { change(s); return nil }); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) token(s string) { m.save(func(c *connector.Settings) { c.Token = s }) }

// server serves it at path, as Run does the rest.
func (m *machine) server(path string) func(context.Context) error {
	member := m.Member
	return func(ctx context.Context) error { return member.Serve(ctx, path) }
}

// until waits for a state, and returns it.
func (m *machine) until(what string, so func(State) bool) State {
	m.t.Helper()
	defer func() {
		if m.t.Failed() {
			m.t.Log(m.logs.String())
		}
	}()
	var s State
	portaltest.Wait(m.t, what, func() bool { s = m.State(); return so(s) })
	return s
}

func linked(s State) bool {
	return s.Credentials != nil && s.Config != nil && s.Connection.Connected && s.Problem == nil && !s.Standalone
}

func problem(code string) func(State) bool {
	return func(s State) bool { return s.Problem != nil && s.Problem.Code == code }
}

func (m *machine) files() []string {
	m.t.Helper()
	list, err := os.ReadDir(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			m.t.Fatal(err)
		}
		if e.Name() != "lock" && info.Mode().Perm() != 0o600 {
			m.t.Errorf("%s: mode %v", e.Name(), info.Mode())
		}
		if e.Name() != "lock" {
			out = append(out, e.Name())
		}
	}
	return out
}

// appliances returns those that the portal has in its first zone.
func appliances(t *testing.T, z *bustest.Zone) []zones.Appliance {
	t.Helper()
	list, err := z.Portal.All.Zones.Appliances(t.Context(), z.Who)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Every problem that is shown has words in both languages.
func TestWords(t *testing.T) {
	sub, err := fs.Sub(fault.Words, "words")
	if err != nil {
		t.Fatal(err)
	}
	dictionary, err := look.LoadDictionary(sub)
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{}
	for _, why := range []string{link.WhyRevoked, link.WhyExpired, link.WhyForeign, link.WhyDisabled} {
		codes["member-"+why] = true
	}
	for _, path := range sources {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for part := range strings.SplitSeq(string(b), `"`) {
			if strings.HasPrefix(part, "member-") && part != "member-" && !strings.ContainsAny(part, " \n") {
				codes[part] = true
			}
		}
	}
	if len(codes) != 18 {
		t.Errorf("%d codes: %v", len(codes), codes)
	}
	for lang, words := range dictionary {
		for c := range codes {
			if !words.Has("fault." + c) {
				t.Errorf("%s: no words for %s", lang, c)
			}
		}
	}
}

func newLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// failWrites has durable writes fail with err while what it returns is true. It
// stands before the machine starts, and until it has ended.
func failWrites(t *testing.T, err error) *atomic.Bool {
	var on atomic.Bool
	t.Cleanup(durable.Fault(func(step string) error {
		if step == "fsync" && on.Load() {
			return err
		}
		return nil
	}))
	return &on
}

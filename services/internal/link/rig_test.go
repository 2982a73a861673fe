package link_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// rig is the portal's side of links, by a clock that the test sets: the zones of
// a real account, and instances that take links and keep what appliances tell.
type rig struct {
	testing.TB
	p      *portaltest.Portal
	ahead  atomic.Int64 // ns, of the machine's clock
	zones  *zones.Service
	who    people.Actor
	zone   string
	token  string
	places []*place
}

// place is an instance.
type place struct {
	live   *live.Service
	server *httptest.Server
	stop   context.CancelFunc
	done   chan error
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }

// pass has time go by for the portal and its appliances.
func (r *rig) pass(d time.Duration) { r.ahead.Add(int64(d)) }

func newRig(t testing.TB, database string, instances int) *rig {
	t.Helper()
	r := &rig{TB: t}
	if database == "" {
		r.p = portaltest.New(t)
	} else {
		r.p = portaltest.On(t, database, make([]byte, 32))
	}
	_, owner := r.p.Account("Acme", people.Business)
	r.who = people.Actor{User: owner.ID, Account: owner.Account, Name: owner.Name, Role: people.Owner}
	r.write("CREATE TABLE told (appliance TEXT NOT NULL, place BIGINT NOT NULL, number BIGINT NOT NULL, text TEXT NOT NULL)")
	for i := range instances {
		db := r.p.DB
		if i > 0 && database != "" {
			var err error
			if db, err = store.Open(t.Context(), database, nil); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
		}
		r.place(db)
	}
	if err := r.zones.Enable(t.Context(), r.who, "Office"); err != nil {
		t.Fatal(err)
	}
	c, err := r.zones.Get(t.Context(), r.who)
	if err != nil {
		t.Fatal(err)
	}
	r.zone = c.Zones[0].ID
	r.newToken()
	return r
}

// newToken makes one for the zone.
func (r *rig) newToken() {
	m, err := r.zones.AddToken(r.Context(), r.who, zones.TokenInput{Zone: r.zone, Title: "t"})
	if err != nil {
		r.Fatal(err)
	}
	r.token = m.Secret
}

func (r *rig) write(statement string, args ...any) {
	r.Helper()
	if err := r.p.DB.Write(r.Context(), func(tx *store.Tx) error { _, err := tx.Exec(statement, args...); return err }); err != nil {
		r.Fatal(err)
	}
}

// place starts an instance; it ends with the test.
func (r *rig) place(db *store.DB) *place {
	x := &place{done: make(chan error, 1)}
	mux := http.NewServeMux()
	x.server = httptest.NewUnstartedServer(mux)
	x.server.TLS = live.TLS(&tls.Config{NextProtos: []string{"http/1.1"}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &x.server.TLS.Certificates[0], nil // StartTLS makes it
	}})
	x.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo) // of handshakes that break off
	x.server.StartTLS()
	u, err := url.Parse(x.server.URL)
	if err != nil {
		r.Fatal(err)
	}
	z := zones.New(zones.Config{DB: db, Vault: r.p.Vault, URL: u, Now: r.now})
	x.live = live.New(live.Config{DB: db, Directory: z, Events: []live.Events{told{}}, Revoked: zones.TopicRevoked, Changed: zones.TopicConfig, Now: r.now})
	z.SetLive(x.live)
	if r.zones == nil {
		r.zones = z
	}
	mux.Handle("GET /link", x.live)
	mux.HandleFunc("POST /api/v1/link/enrol", func(w http.ResponseWriter, q *http.Request) {
		var in link.EnrolRequest
		err := json.NewDecoder(q.Body).Decode(&in)
		var out link.EnrolAnswer
		if err == nil {
			out, err = z.Enrol(q.Context(), strings.TrimPrefix(q.Header.Get("Authorization"), "Bearer "), netip.MustParseAddr("127.0.0.1"), in)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	})
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	go func() { x.done <- x.live.Run(ctx) }()
	r.Cleanup(func() {
		stop()
		if err := <-x.done; err != nil {
			r.Error(err)
		}
		x.server.Close()
	})
	r.places = append(r.places, x)
	return x
}

// told keeps what appliances tell, in the order in which it came.
type told struct{}

func (told) HandleEvent(tx *store.Tx, from live.Identity, e link.Event) error {
	_, err := tx.Exec("INSERT INTO told (appliance, place, number, text) SELECT ?, COALESCE(MAX(place), 0) + 1, ?, ? FROM told", from.Appliance, int64(e.Number), e.Name+string(e.Data))
	return err
}

// told returns the numbers of an appliance's events in the order in which they
// came.
func (r *rig) told(appliance string) (out []uint64) {
	r.Helper()
	err := r.p.DB.Read(r.Context(), func(tx *store.Tx) error {
		out = nil
		return tx.Each(func(scan func(...any) error) error {
			var n int64
			err := scan(&n)
			out = append(out, uint64(n))
			return err
		}, "SELECT number FROM told WHERE appliance = ? ORDER BY place", appliance)
	})
	if err != nil {
		r.Fatal(err)
	}
	return out
}

// machine is an appliance.
type machine struct {
	r     *rig
	host  string
	proxy func(*http.Request) (*url.URL, error)
	log   io.Writer

	mu      sync.Mutex
	kept    link.Credentials
	renewed int
	config  link.Config

	*link.Client
	stop context.CancelFunc
	done chan struct{}
}

func (r *rig) enrol(host string, role link.Role) *machine {
	r.Helper()
	c, err := link.Enrol(r.Context(), link.EnrolOptions{Token: r.token, Role: role, Host: host, Version: "1.2.3", Roots: r.p.Roots()})
	if err != nil {
		r.Fatal(err)
	}
	return &machine{r: r, host: host, log: r.Output(), kept: c}
}

// start links it by the portals at addresses; it ends with the test.
func (m *machine) start(at ...string) *machine {
	m.r.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.kept
	c.Portals = nil
	for _, a := range at {
		c.Portals = append(c.Portals, "wss://"+a+"/link")
	}
	var err error
	m.Client, err = link.NewClient(link.ClientConfig{
		Credentials: c, Roots: m.r.p.Roots(), Proxy: m.proxy, Version: "1.2.3", Host: m.host,
		Save: func(c link.Credentials) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.kept = c
			m.renewed++
			return nil
		},
		Status: func() link.Status {
			return link.Status{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.10")}, HTTPS: 443, Clock: m.r.now(), Limit: 200, Media: []uint16{8801}}
		},
		Config: func(c link.Config) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.config = c
		},
		Log: slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		m.r.Fatal(err)
	}
	m.Hurry(m.r.now)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	m.stop, m.done = stop, done
	go func() {
		defer close(done)
		_ = m.Client.Run(ctx) // nil
	}()
	m.r.Cleanup(func() { stop(); <-done })
	return m
}

// end ends the link without a word.
func (m *machine) end() {
	m.stop()
	<-m.done
}

func (m *machine) got() (link.Config, int, link.Credentials) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.config, m.renewed, m.kept
}

// leaf is the certificate that the machine keeps.
func (m *machine) leaf() *x509.Certificate {
	_, _, kept := m.got()
	block, _ := pem.Decode([]byte(kept.Certificate))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		m.r.Fatal(err)
	}
	return c
}

func (m *machine) ends() time.Time { return m.leaf().NotAfter }

func (m *machine) serial() string { return m.leaf().SerialNumber.Text(16) }

// serials returns those by which a peer is known to the machine.
func (m *machine) serials(id string) []string {
	c, _, _ := m.got()
	for _, p := range c.Appliances {
		if p.ID == id {
			return p.Serials
		}
	}
	return nil
}

func (x *place) addr() string { return x.server.Listener.Addr().String() }

func (m *machine) linked() {
	m.r.Helper()
	portaltest.Wait(m.r, "the link of "+m.host, func() bool { return m.Connection().Connected })
}

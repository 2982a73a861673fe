package names

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/vault"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

const (
	name    = "meet.example.com"
	keyName = "portal.key"
)

var secret = base64.StdEncoding.EncodeToString([]byte("thirty-two bytes of a TSIG secret"))

// nameServer is the authoritative server of example.com: names are at 127.0.0.1,
// TXT records come by signed updates.
type nameServer struct {
	address string
	mu      sync.Mutex
	txt     map[string][]string
	updates int
}

func newNameServer(t *testing.T) *nameServer {
	n := &nameServer{txt: map[string][]string{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.address = l.Addr().String()
	p, err := net.ListenPacket("udp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: l}, {PacketConn: p}} {
		s.Handler, s.TsigSecret = n, map[string]string{keyName + ".": secret}
		s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go s.ActivateAndServe()
		<-up
		t.Cleanup(func() { s.Shutdown() })
	}
	return n
}

func (n *nameServer) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := new(dns.Msg).SetReply(r)
	m.Authoritative = true
	if r.Opcode == dns.OpcodeUpdate {
		ts := r.IsTsig()
		if ts == nil || w.TsigStatus() != nil || r.Question[0].Name != "example.com." {
			m.Rcode = dns.RcodeNotAuth
			w.WriteMsg(m)
			return
		}
		for _, rr := range r.Ns {
			if t, ok := rr.(*dns.TXT); ok && t.Hdr.Class == dns.ClassINET {
				n.updates++
				n.txt[t.Hdr.Name] = append(n.txt[t.Hdr.Name], t.Txt...)
			} else {
				delete(n.txt, rr.Header().Name)
			}
		}
		m.SetTsig(ts.Hdr.Name, ts.Algorithm, 300, time.Now().Unix())
		w.WriteMsg(m)
		return
	}
	q := r.Question[0]
	h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
	switch q.Qtype {
	case dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: h, A: net.IPv4(127, 0, 0, 1)})
	case dns.TypeTXT:
		for _, t := range n.txt[strings.ToLower(q.Name)] {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: h, Txt: []string{t}})
		}
	}
	w.WriteMsg(m)
}

// rig is an authority, a name server, a controller's port 80, and the service.
type rig struct {
	*testing.T
	s     *Service
	db    *store.DB
	who   people.Actor
	dns   *nameServer
	acme  *httptest.Server
	id    string // the controller's
	zone  string
	clock atomic.Int64
	asked atomic.Int64 // requests that the authority got
	mute  atomic.Bool  // the controller answers nothing
	key   *ecdsa.PrivateKey
}

func each(t *testing.T, test func(r *rig)) {
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	storetest.Each(t, func(t *testing.T, address string) { test(newRig(t, address)) })
}

func newRig(t *testing.T, address string) *rig {
	d, err := store.Open(t.Context(), address, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, db: d, dns: newNameServer(t), id: store.NewID()}
	// What a controller does with its configuration.
	port80 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		path, text, _, err := r.s.Config(q.Context(), r.id)
		if err != nil || r.mute.Load() || path == "" || q.URL.Path != path || q.Host != name && !strings.HasPrefix(q.Host, name+":") {
			http.NotFound(w, q)
			return
		}
		io.WriteString(w, text)
	}))
	t.Cleanup(port80.Close)
	quiet, memory := log.New(t.Output(), "", 0), db.NewMemoryStore()
	authority := ca.New(quiet, memory, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {}})
	judge := va.New(quiet, int(netip.MustParseAddrPort(port80.Listener.Addr().String()).Port()), 1, true, r.dns.address, memory)
	front := wfe.New(quiet, memory, judge, authority, []string{"ca.example"}, true, false, 1, 1)
	handler := front.Handler()
	r.acme = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.asked.Add(1); handler.ServeHTTP(w, q) }))
	t.Cleanup(r.acme.Close)
	r.s = r.service(v, true)
	r.clock.Store(time.Now().UnixMilli())
	r.write(func(tx *store.Tx) error {
		a, err := people.InsertAccount(tx, people.Account{Name: "Acme", Type: people.Business, DefaultKind: people.KindBasic})
		if err != nil {
			return err
		}
		u, err := people.InsertUser(tx, people.User{Account: a.ID, Email: "owner@" + a.ID + ".example", Name: "O", Role: people.Owner, State: people.Active})
		r.who = people.Actor{User: u.ID, Account: a.ID, Name: "O", Email: u.Email, Role: people.Owner, Via: "web"}
		return err
	})
	z := zones.New(zones.Config{DB: d, Vault: v})
	r.ok(z.Enable(t.Context(), r.who, "Berlin"))
	c, err := z.Get(t.Context(), r.who)
	r.ok(err)
	r.zone = c.Zones[0].ID
	r.write(func(tx *store.Tx) error {
		_, err := tx.Exec("INSERT INTO appliances (id, account_id, zone_id, role, name, public_name, serial, expires, enrolled, token_id) VALUES (?,?,?,?,?,?,?,?,?,?)", r.id, r.who.Account, r.zone, "controller", "zc-1", name, "1", 1, 1, "t")
		return err
	})
	r.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r.ok(err)
	return r
}

func (r *rig) service(v *vault.Vault, private bool) *Service {
	s := New(Config{DB: r.db, Vault: v, AllowPrivate: private, Wait: time.Millisecond, Transport: func(t *http.Transport) {
		t.TLSClientConfig = r.acme.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	}})
	s.now = func() time.Time { return time.UnixMilli(r.clock.Load()) }
	return s
}

func (r *rig) write(f func(tx *store.Tx) error) {
	r.Helper()
	r.ok(r.db.Write(context.Background(), f))
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) csr(names ...string) []byte {
	b, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, r.key)
	r.ok(err)
	return b
}

func (r *rig) set(change func(*Settings)) {
	r.Helper()
	in := Settings{Directory: r.acme.URL + wfe.DirectoryPath, Email: "ops@example.org", Terms: true, Method: HTTP}
	if change != nil {
		change(&in)
	}
	r.ok(r.s.SetSettings(r.Context(), r.who, in))
}

func (r *rig) byDNS(in *Settings) {
	in.Method, in.Server, in.Zone, in.Key, in.Algorithm, in.Secret = DNS, r.dns.address, "example.com", keyName, "hmac-sha256", secret
}

func (r *rig) next(want bool) {
	r.Helper()
	if got, err := r.s.next(r.Context()); err != nil || got != want {
		r.Fatalf("an order was carried out: %v, %v, want %v", got, err, want)
	}
}

func (r *rig) order() Order {
	r.Helper()
	list, err := r.s.Orders(r.Context(), r.who)
	r.ok(err)
	if len(list) != 1 {
		r.Fatalf("orders %+v, want one", list)
	}
	return list[0]
}

// good checks that the chain is there, is the key's and the name's, and that no
// answer is left.
func (r *rig) good() {
	r.Helper()
	path, text, chain, err := r.s.Config(r.Context(), r.id)
	r.ok(err)
	o := r.order()
	block, rest := pem.Decode([]byte(chain))
	if block == nil || o.State != Good || o.Problem != "" {
		r.Fatalf("%+v, chain %q", o, chain)
	}
	if path != "" || text != "" {
		r.Errorf("the answer %q is still given", path)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	r.ok(err)
	if !r.key.PublicKey.Equal(leaf.PublicKey) || leaf.VerifyHostname(name) != nil || !o.Expires.Equal(leaf.NotAfter) {
		r.Errorf("certificate for %v until %v, order %+v", leaf.DNSNames, leaf.NotAfter, o)
	}
	if len(strings.TrimSpace(string(rest))) == 0 {
		r.Error("the chain is the leaf alone")
	}
}

func (r *rig) generation() (n int64) {
	r.write(func(tx *store.Tx) error {
		z, err := zones.Get(tx, r.zone)
		n = z.Generation
		return err
	})
	return n
}

func TestOrderByHTTP(t *testing.T) {
	each(t, func(r *rig) {
		request := r.csr(name)
		r.ok(r.s.Ask(r.Context(), r.id, r.who.Account, name, request))
		r.next(false) // there are no settings
		r.set(func(in *Settings) { in.Terms = false })
		r.next(false) // nor are the terms accepted
		r.set(nil)
		before := r.generation()
		r.next(true)
		r.good()
		if after := r.generation(); after < before+2 {
			r.Errorf("generation %d after %d: the controller does not hear of it", after, before)
		}
		r.ok(r.s.Ask(r.Context(), r.id, r.who.Account, name, request))
		r.next(false) // the same request is no new order
		r.good()
		// Renewed when a third of its life is left, by the same account.
		var was, now string
		account := func(to *string) {
			r.write(func(tx *store.Tx) error { return tx.Row("SELECT location FROM name_accounts").Scan(to) })
		}
		account(&was)
		_, _, first, _ := r.s.Config(r.Context(), r.id)
		r.write(func(tx *store.Tx) error {
			_, err := tx.Exec("UPDATE name_orders SET renew = ?, try_after = 0", r.clock.Load())
			return err
		})
		r.next(true)
		r.good()
		account(&now)
		if _, _, second, _ := r.s.Config(r.Context(), r.id); second == first || was == "" || was != now {
			r.Errorf("the certificate is the old one, or the account %q became %q", was, now)
		}
		// Another name: the certificate is nothing for it.
		r.write(func(tx *store.Tx) error {
			_, err := tx.Exec("UPDATE appliances SET public_name = 'else.example.com'")
			return err
		})
		if _, _, chain, err := r.s.Config(r.Context(), r.id); err != nil || chain != "" {
			r.Errorf("%v, the chain of another name is given", err)
		}
	})
}

func TestOrderByDNS(t *testing.T) {
	each(t, func(r *rig) {
		r.mute.Store(true)
		r.set(r.byDNS)
		r.ok(r.s.Ask(r.Context(), r.id, r.who.Account, name, r.csr(name)))
		r.next(true)
		r.good()
		r.dns.mu.Lock()
		defer r.dns.mu.Unlock()
		if r.dns.updates == 0 || len(r.dns.txt) != 0 {
			r.Errorf("%d updates, left %v", r.dns.updates, r.dns.txt)
		}
	})
}

func TestWrongSecret(t *testing.T) {
	each(t, func(r *rig) {
		r.set(func(in *Settings) {
			r.byDNS(in)
			in.Secret = base64.StdEncoding.EncodeToString(make([]byte, 32))
		})
		r.ok(r.s.Ask(r.Context(), r.id, r.who.Account, name, r.csr(name)))
		r.next(true)
		if o := r.order(); o.State != Failed || !strings.Contains(o.Problem, "update of the DNS") || r.dns.updates != 0 {
			r.Errorf("%+v", o)
		}
	})
}

// A failure keeps the authority's reason; the next try waits, longer each time,
// whatever the controller asks meanwhile; new settings are tried at once.
func TestFailure(t *testing.T) {
	each(t, func(r *rig) {
		r.mute.Store(true)
		r.set(nil)
		r.ok(r.s.Ask(r.Context(), r.id, r.who.Account, name, r.csr(name)))
		r.next(true)
		o := r.order()
		if o.State != Failed || !strings.Contains(o.Problem, "404") || o.Next.UnixMilli() != r.clock.Load()+firstPause.Milliseconds() {
			r.Errorf("%+v", o)
		}
		r.ok(r.s.Ask(r.Context(), r.id, r.who.Account, name, r.csr(name)))
		r.next(false)
		r.clock.Add(firstPause.Milliseconds())
		r.next(true)
		if o := r.order(); o.Next.UnixMilli() != r.clock.Load()+2*firstPause.Milliseconds() {
			r.Errorf("%+v", o)
		}
		r.mute.Store(false)
		r.set(nil)
		r.next(true)
		r.good()
	})
}

// An account's settings do not lead into the operator's network.
func TestPrivateAddress(t *testing.T) {
	each(t, func(r *rig) {
		r.s = r.service(r.s.cfg.Vault, false)
		r.set(nil)
		r.ok(r.s.Ask(r.Context(), r.id, r.who.Account, name, r.csr(name)))
		r.next(true)
		if o := r.order(); o.State != Failed || !strings.Contains(o.Problem, "not public") || r.asked.Load() != 0 {
			r.Errorf("%+v, %d requests", o, r.asked.Load())
		}
	})
	for a, want := range map[string]bool{"8.8.8.8": true, "2606:4700::1": true, "127.0.0.1": false, "10.1.2.3": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false,
		"::1": false, "fe80::1": false, "fd00::1": false, "::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "2002:a00:1::": false, "0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false,
		"240.0.0.1": false, "198.18.0.1": false, "198.19.255.255": false, "192.0.0.8": false, "192.88.99.1": false, "2001:0:a00:1::": false, "64:ff9b:1::a00:1": false, "::a00:1": false, "2001:4860:4860::8888": true, "198.20.0.1": true} {
		if public(netip.MustParseAddr(a)) != want {
			t.Errorf("%s is public: %v", a, !want)
		}
	}
}

// Of two instances one carries an order out.
func TestInstances(t *testing.T) {
	each(t, func(r *rig) {
		r.set(nil)
		r.ok(r.s.Ask(r.Context(), r.id, r.who.Account, name, r.csr(name)))
		var did atomic.Int64
		var wg sync.WaitGroup
		for range 3 {
			s := r.service(r.s.cfg.Vault, true)
			wg.Go(func() {
				got, err := s.next(context.Background())
				if err != nil {
					r.Error(err)
				}
				if got {
					did.Add(1)
				}
			})
		}
		wg.Wait()
		if did.Load() != 1 {
			r.Errorf("%d instances did it", did.Load())
		}
		r.good()
	})
}

func codes(err error) string {
	var out []string
	for _, f := range fault.Of(err) {
		out = append(out, f.Field+":"+f.Code)
	}
	return strings.Join(out, " ")
}

func TestRequests(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		title string
		key   any
		csr   x509.CertificateRequest
		want  string
	}{
		{"the name", p256, x509.CertificateRequest{DNSNames: []string{name}}, ""},
		{"RSA, with a common name", rsa2048, x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}, ""},
		{"no name", p256, x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, "request:names-csr"},
		{"one more", p256, x509.CertificateRequest{DNSNames: []string{name, "other.example.com"}}, "request:names-csr"},
		{"another", p256, x509.CertificateRequest{DNSNames: []string{"*.example.com"}}, "request:names-csr"},
		{"an address", p256, x509.CertificateRequest{DNSNames: []string{name}, IPAddresses: []net.IP{{192, 0, 2, 1}}}, "request:names-csr"},
		{"another common name", p256, x509.CertificateRequest{Subject: pkix.Name{CommonName: "other.example.com"}, DNSNames: []string{name}}, "request:names-csr"},
		{"P-521", p521, x509.CertificateRequest{DNSNames: []string{name}}, "request:names-csr-key"},
		{"Ed25519", edwards, x509.CertificateRequest{DNSNames: []string{name}}, "request:names-csr-key"},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &c.csr, c.key)
		if err != nil {
			t.Fatal(err)
		}
		if got := codes(checkRequest(name, der)); got != c.want {
			t.Errorf("%s: %q, want %q", c.title, got, c.want)
		}
	}
	if got := codes(checkRequest(name, []byte("x"))); got != "request:csr-bad" {
		t.Error(got)
	}
}

func TestSettings(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		bad := Settings{Directory: "http://a.example/", Email: "x", Method: DNS, Server: "ns1", Zone: "a b", Algorithm: "md5", Secret: "!"}
		if got := codes(r.s.SetSettings(ctx, r.who, bad)); got != "directory:names-directory email:email server:names-server zone:names-zone key:required algorithm:choice secret:names-secret" {
			r.Error(got)
		}
		r.set(r.byDNS)
		got, err := r.s.Settings(ctx, r.who)
		if err != nil || got.Secret != "" || !got.Set || got.Server != r.dns.address {
			r.Errorf("%+v %v", got, err)
		}
		r.set(func(in *Settings) { r.byDNS(in); in.Secret, in.Zone = "", "sub.example.com" }) // keeps it
		for _, change := range []func(*Settings){func(in *Settings) { in.Server = "198.51.100.1:53" }, func(in *Settings) { in.Key = "other" }} {
			in := Settings{Email: "a@example.com"}
			r.byDNS(&in)
			in.Secret = ""
			change(&in)
			if got := codes(r.s.SetSettings(ctx, r.who, in)); got != "secret:required" {
				r.Errorf("a secret went elsewhere: %q", got)
			}
		}
		r.write(func(tx *store.Tx) error {
			var sealed []byte
			err := tx.Row("SELECT secret FROM name_settings").Scan(&sealed)
			if strings.Contains(string(sealed), secret) || len(sealed) == 0 {
				r.Error("the secret is not sealed")
			}
			kept, bad := r.s.load(tx, r.who.Account)
			if bad != nil || kept.Secret != secret || kept.Zone != "sub.example.com" {
				r.Errorf("%+v %v", kept, bad)
			}
			return err
		})
		r.set(nil) // http-01 needs no secret, and forgets it
		if got, err := r.s.Settings(ctx, r.who); err != nil || got.Set {
			r.Errorf("%+v %v", got, err)
		}
	})
}

func TestRun(t *testing.T) {
	each(t, func(r *rig) {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.s.Run(ctx) }()
		defer func() {
			stop()
			if err := <-done; err != nil {
				r.Error(err)
			}
		}()
		r.set(nil)
		r.ok(r.s.Ask(ctx, r.id, r.who.Account, name, r.csr(name)))
		for limit := time.Now().Add(60 * time.Second); r.order().State != Good; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(limit) {
				r.Fatalf("%+v", r.order())
			}
		}
		r.good()
	})
}

func TestPause(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 5 * time.Minute, 1: 10 * time.Minute, 6: 320 * time.Minute, 7: 6 * time.Hour, 1000: 6 * time.Hour} {
		if got := pause(n); got != want {
			t.Errorf("after %d failures %v, want %v", n, got, want)
		}
	}
}

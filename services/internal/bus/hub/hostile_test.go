package hub_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/link"
)

// shown returns a certificate as TLS takes it.
func shown(t testing.TB, c link.Credentials) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Key))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// raw is a connection that says what a test wants.
type raw struct {
	t testing.TB
	*tls.Conn
	r *bufio.Reader
}

// open connects to a controller with certificates. It reads the greeting: in
// TLS 1.3 a refusal comes there.
func open(t testing.TB, k *bustest.Controller, alpn string, certs ...tls.Certificate) (*raw, error) {
	t.Helper()
	c, err := tls.Dial("tcp", k.At.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}, Certificates: certs})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	w := &raw{t, c, bufio.NewReader(c)}
	if err := c.SetReadDeadline(time.Now().Add(bustest.Patience)); err != nil {
		t.Fatal(err)
	}
	line, err := w.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(line, "INFO ") {
		return nil, fmt.Errorf("it says %q", line)
	}
	return w, nil
}

// login connects as an appliance and takes a role.
func login(t testing.TB, k *bustest.Controller, cred link.Credentials, role string) *raw {
	t.Helper()
	w, err := open(t, k, bus.ALPN, shown(t, cred))
	if err != nil {
		t.Fatal(err)
	}
	w.say("CONNECT {\"verbose\":false,\"user\":%q}\r\nPING\r\n", role)
	return w
}

func (w *raw) say(format string, v ...any) {
	w.t.Helper()
	if _, err := fmt.Fprintf(w, format, v...); err != nil {
		w.t.Fatal(err)
	}
}

// until reads lines until one has a prefix, and returns those before it.
func (w *raw) until(prefix string) (before []string) {
	w.t.Helper()
	for {
		line, err := w.r.ReadString('\n')
		if err != nil {
			w.t.Fatalf("no %s, after %q: %v", prefix, before, err)
		}
		if strings.HasPrefix(line, prefix) {
			return before
		}
		before = append(before, line)
	}
}

// ends reads until the other end closes, and returns what it said.
func (w *raw) ends() string {
	w.t.Helper()
	b, err := io.ReadAll(w.r)
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		w.t.Errorf("the connection stands, after %q", b)
	}
	return string(b)
}

// Nobody gets in without a certificate of the zone for an appliance of the zone.
func TestStrangers(t *testing.T) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	good := z.Enrol(link.Router, "r1")
	z.Tell([]*bustest.Controller{k})
	if _, err := open(t, k, bus.ALPN); err == nil {
		t.Error("without a certificate")
	}
	// Without the name of the bus it gets the page.
	c, err := tls.Dial("tcp", k.At.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{shown(t, good)}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprint(c, "CONNECT {\"user\":\"router\"}\r\nPING\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 400") {
		t.Errorf("the page says %q, %v", b, err)
	}

	// Of another account's zone.
	own := z.Token
	z.Account("Other")
	if _, err := open(t, k, bus.ALPN, shown(t, z.Enrol(link.Router, "r1"))); err == nil {
		t.Error("with a certificate of another zone")
	}
	z.Token = own

	// With all the right names, by himself.
	leaf, err := x509.ParseCertificate(shown(t, good).Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: leaf.Subject.CommonName, OrganizationalUnit: []string{"controller"}}, URIs: []*url.URL{leaf.URIs[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: leaf.ExtKeyUsage, DNSNames: leaf.DNSNames,
	}, &x509.Certificate{Subject: leaf.Issuer}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, k, bus.ALPN, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}); err == nil {
		t.Error("with a certificate of his own")
	}
	// An appliance that enrolled after the controller heard from the portal last.
	if _, err := open(t, k, bus.ALPN, shown(t, z.Enrol(link.Router, "new"))); err == nil {
		t.Error("somebody whom the portal has not told of")
	}
	if _, err := open(t, k, bus.ALPN, shown(t, good)); err != nil {
		t.Errorf("the right one: %v", err)
	}
}

// Certificates of the portal, read with a clock that is right or not.
func TestIdentify(t *testing.T) {
	z := bustest.New(t)
	cred := z.Enrol(link.Router, "r1")
	v := z.View(cred, nil)
	leaf, err := x509.ParseCertificate(shown(t, cred).Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	chain := []*x509.Certificate{leaf}
	who, err := v.Identify(chain, time.Now())
	if err != nil || who.ID != cred.Appliance || who.Role != link.Router || who.Zone != cred.Zone || who.Serial != leaf.SerialNumber.Text(16) || !who.Expires.Equal(leaf.NotAfter) {
		t.Errorf("%+v, %v", who, err)
	}
	if _, err := v.Identify(chain, leaf.NotAfter.Add(time.Second)); !errors.Is(err, bus.ErrForeign) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := v.Identify(nil, time.Now()); !errors.Is(err, bus.ErrForeign) {
		t.Errorf("none: %v", err)
	}
	c := z.Told(cred.Appliance)
	c.Appliances = nil
	if _, err := z.View(cred, &c).Identify(chain, time.Now()); !errors.Is(err, bus.ErrRevoked) {
		t.Errorf("a zone without it: %v", err)
	}
}

// A router with other addresses of a controller in its configuration does not talk
// to who answers there.
func TestImpostor(t *testing.T) {
	z := bustest.New(t)
	c1, r1, r2 := z.Enrol(link.Controller, "c1"), z.Enrol(link.Router, "r1"), z.Enrol(link.Router, "r2")
	l, err := tls.Listen("tcp", "127.0.0.2:0", &tls.Config{Certificates: []tls.Certificate{shown(t, r1)}, NextProtos: []string{bus.ALPN}, ClientAuth: tls.RequireAnyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(said)
				return
			}
			_, err = fmt.Fprint(c, "INFO {}\r\n")
			b, _ := bufio.NewReader(c).ReadString('\n')
			said <- fmt.Sprint(b, err)
			c.Close()
		}
	}()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	z.Port = at.Port()
	m := z.Router(r2, z.View(r2, nil))
	z.Tell([]*bustest.Controller{}, m)
	c := z.Told(r2.Appliance, &bustest.Controller{Member: &bustest.Member{Cred: c1}, At: at})
	m.Conn.SetZone(z.View(r2, &c))
	bustest.Eventually(t, "it says who answers", func() bool {
		s := m.Conn.Servers()
		return len(s) == 1 && strings.Contains(s[0].Problem, "answers for controller "+c1.Appliance)
	})
	m.Stop()
	l.Close()
	for s := range said {
		if strings.Contains(s, "CONNECT") {
			t.Errorf("it was told %q", s)
		}
	}
}

// A router with a certificate that is good may say and hear what is its own, and
// nothing else.
func TestHostileRights(t *testing.T) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	a, b := z.Enrol(link.Router, "r1"), z.Enrol(link.Router, "r2")
	victim := z.Router(b, z.View(b, nil))
	z.Tell([]*bustest.Controller{k}, victim)
	bustest.Up(t, victim, 1)
	bustest.Up(t, k.Member, 1)
	heard := bustest.Collect(k.Member, "word")
	zone := "parley." + a.Zone + "."

	w := login(t, k, a, "router")
	w.until("PONG")
	for i, s := range []string{">", "*", "parley.>", zone + ">", zone + "*.*.*.*.>", zone + "controller.*.router." + b.Appliance + ".>", zone + "controller.*.router.*.>", zone + "router.>",
		zone + "router." + b.Appliance + ".>", "$SYS.>", "_INBOX.>", zone + "controller.*.controller.all.>"} {
		w.say("SUB %s %d\r\nPING\r\n", s, i+1)
		if before := strings.Join(w.until("PONG"), ""); !strings.Contains(before, "Permissions Violation") {
			t.Errorf("SUB %s: %q", s, before)
		}
	}
	for _, s := range []string{zone + "router." + b.Appliance + ".controller.all.word", zone + "controller." + k.Cred.Appliance + ".router." + b.Appliance + ".word", zone + "x", "x", "$SYS.REQ.SERVER.PING", zone + "router." + a.Appliance} {
		w.say("PUB %s 1\r\nx\r\nPING\r\n", s)
		if before := strings.Join(w.until("PONG"), ""); !strings.Contains(before, "Permissions Violation") {
			t.Errorf("PUB %s: %q", s, before)
		}
	}
	// With its own rights it says what is no message.
	for _, s := range []string{"x", "\x01\x01", strings.Repeat("\x00", 30)} {
		w.say("PUB %srouter.%s.controller.all.word %d\r\n%s\r\nPING\r\n", zone, a.Appliance, len(s), s)
		if before := w.until("PONG"); len(before) != 0 {
			t.Errorf("%q", before)
		}
	}
	bustest.Eventually(t, "nonsense is counted", func() bool { return k.Conn.Counts().Strange >= 3 })
	if list := heard.Texts(); len(list) != 0 {
		t.Errorf("the controller heard %q", list)
	}

	// Its certificate allows one role, also later.
	for _, role := range []string{"controller", "", "portal", k.Cred.Appliance} {
		if said := login(t, k, a, role).ends(); !strings.Contains(said, "Authorization Violation") {
			t.Errorf("as %q: %q", role, said)
		}
	}
	w.say("CONNECT {\"user\":\"controller\"}\r\n")
	if said := w.ends(); !strings.Contains(said, "Authorization Violation") {
		t.Errorf("it becomes a controller: %q", said)
	}

	// The server reads one header of the PROXY protocol, and not the appliance's.
	for n := range 8 {
		w, err := open(t, k, bus.ALPN, shown(t, a))
		if err != nil {
			t.Fatal(err)
		}
		forged := append([]byte("\r\n\r\n\x00\r\nQUIT\n!!\x00$"), make([]byte, 36)...)
		copy(forged[16:], []byte{0x20, 0x01, 0x0d, 0xb8})
		forged[16+15] = byte(n)
		w.say("%sCONNECT {\"user\":\"controller\"}\r\nPING\r\n", forged)
		if said := w.ends(); strings.Contains(said, "PONG") {
			t.Errorf("forged %d: %q", n, said)
		}
	}
}

// What is too long or too much ends its connection.
func TestHostileSizes(t *testing.T) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	cred := z.Enrol(link.Router, "r1")
	bustest.Up(t, k.Member, 1)
	own := "parley." + cred.Zone + ".router." + cred.Appliance + ".controller.all.word"
	for name, say := range map[string]string{
		"a message":      fmt.Sprintf("PUB %s %d\r\n", own, bus.MaxPayload+1),
		"a size":         "PUB " + own + " 99999999999999999999\r\n",
		"below nothing":  "PUB " + own + " -1\r\n",
		"a line":         "PUB " + strings.Repeat("x", 8<<10),
		"a greeting":     "CONNECT {\"user\":\"router\",\"name\":\"" + strings.Repeat("x", 64<<10),
		"another engine": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"a route":        "RS+ $G >\r\n",
		"a leaf":         "LS+ >\r\n",
		"headers":        fmt.Sprintf("HPUB %s 12 12\r\nNATS/1.0\r\n\r\n\r\n", own),
	} {
		w := login(t, k, cred, "router")
		w.until("PONG")
		_, _ = w.Write([]byte(say)) // it may end before it is all said
		began := time.Now()
		if said := w.ends(); strings.Contains(said, "PONG") || time.Since(began) > bustest.Patience/10 {
			t.Errorf("%s: %q after %v", name, said, time.Since(began))
		}
	}
	w := login(t, k, cred, "router")
	w.until("PONG")
	for i := range 100 {
		w.say("SUB parley.%s.controller.c%d.router.%s.x %d\r\n", cred.Zone, i, cred.Appliance, i+1)
	}
	w.until("-ERR 'maximum subscriptions")
}

// An appliance has a few connections at a time; each new one replaces the oldest,
// and one that never speaks ends.
func TestHostileConnections(t *testing.T) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	cred := z.Enrol(link.Router, "r1")
	bustest.Up(t, k.Member, 1)
	var all []*raw
	refused := 0
	for range 40 {
		w, err := open(t, k, bus.ALPN, shown(t, cred))
		if err != nil {
			refused++
			continue
		}
		all = append(all, w)
	}
	if n := len(k.Hub.Sessions()); n > 4 {
		t.Errorf("%d connections of one appliance", n)
	}
	if refused < 10 {
		t.Errorf("%d of 40 were refused", refused)
	}
	all[0].ends()
	began := time.Now()
	all[len(all)-1].ends()
	if took := time.Since(began); took > bustest.Patience/2 {
		t.Errorf("one that says nothing stood %v", took)
	}
	bustest.Eventually(t, "all are gone", func() bool { return len(k.Hub.Sessions()) == 0 })
}

// A router that says as much as it can is slowed down, and the others notice
// nothing.
func TestFlood(t *testing.T) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	a, b := z.Enrol(link.Router, "r1"), z.Enrol(link.Router, "r2")
	quiet := z.Router(b, z.View(b, nil))
	z.Tell([]*bustest.Controller{k}, quiet)
	bustest.Up(t, quiet, 1)
	bustest.Up(t, k.Member, 1)
	quiet.Conn.Subscribe("echo", func(m bus.Message) { _ = m.Reply(m.Data) })
	busy := make(chan struct{})
	slow := k.Conn.Subscribe("word", func(bus.Message) { <-busy }) // somebody who does not keep up
	defer close(busy)

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w := login(t, k, a, "router")
	stop := make(chan struct{})
	said := make(chan int, 1)
	go func() {
		// Good frames with rising numbers, as many as fit.
		n := 0
		defer func() { said <- n }()
		for {
			var buf []byte
			for range 100 {
				n++
				f := frame(uint64(n), "0123456789")
				buf = fmt.Appendf(buf, "PUB parley.%s.router.%s.controller.all.word %d\r\n%s\r\n", a.Zone, a.Appliance, len(f), f)
			}
			select {
			case <-stop:
				return
			default:
			}
			if _, err := w.Write(buf); err != nil {
				return
			}
		}
	}()
	go func() { _, _ = io.Copy(io.Discard, w.r) }()
	const flood = 2 * time.Second
	var worst time.Duration
	for began := time.Now(); time.Since(began) < flood; {
		at := time.Now()
		if got, err := k.Conn.Request(t.Context(), quiet.Conn.Self(), "echo", []byte("x")); err != nil || string(got) != "x" {
			t.Fatalf("%q, %v", got, err)
		}
		worst = max(worst, time.Since(at))
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	w.Conn.NetConn().Close()
	n := <-said
	runtime.GC()
	runtime.ReadMemStats(&after)
	got := k.Conn.Counts().Received
	t.Logf("said %d messages, %d came, %d found no room; the slowest of another's answers took %v; heap %d KiB more", n, got, slow.Dropped(), worst, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10)
	if got > 13000*10 {
		t.Errorf("%d messages came within %v", got, flood)
	}
	if slow.Dropped() == 0 {
		t.Error("nothing was dropped: this was no flood")
	}
}

// frame is a message as package bus puts it on the wire.
func frame(number uint64, data string) []byte {
	b := make([]byte, 26, 26+len(data))
	b[0], b[1], b[9] = 1, 1, 1
	for i := range 8 {
		b[10+i] = byte(number >> (56 - 8*i))
	}
	return append(b, data...)
}

// A router that does not take what it is sent is cut, and holds up nobody.
func TestSlow(t *testing.T) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	a, b := z.Enrol(link.Router, "r1"), z.Enrol(link.Router, "r2")
	quick := z.Router(b, z.View(b, nil))
	z.Tell([]*bustest.Controller{k}, quick)
	bustest.Up(t, quick, 1)
	bustest.Up(t, k.Member, 1)
	quick.Conn.Subscribe("echo", func(m bus.Message) { _ = m.Reply(m.Data) })
	w := login(t, k, a, "router")
	w.say("SUB parley.%s.controller.*.router.%s.> 1\r\nPING\r\n", a.Zone, a.Appliance)
	w.until("PONG")
	w.until("PONG")
	// From here on it reads nothing.
	bustest.Eventually(t, "it is cut", func() bool {
		for range 8 {
			_ = k.Conn.Publish(bus.Peer{Role: link.Router, ID: a.Appliance}, "x", make([]byte, 100<<10))
		}
		at := time.Now()
		if _, err := k.Conn.Request(t.Context(), quick.Conn.Self(), "echo", nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(at); took > bustest.Patience/10 {
			t.Errorf("another waited %v", took)
		}
		return len(k.Hub.Sessions()) == 1
	})
}

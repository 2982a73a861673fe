package diagnose

import (
	"bufio"
	"context"
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
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/vishvananda/netlink"

	"github.com/parley-meet/parley/services/internal/certificate"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/nic"
)

// site is what the tools work with in tests.
type site struct {
	roots *x509.CertPool
	proxy Proxy
}

func (s site) config() Config {
	return Config{
		Roots: func() (*x509.CertPool, error) { return s.roots, nil },
		Usual: func(c *x509.Certificate) bool { return c.Subject.CommonName != "Private" },
		Proxy: func(context.Context) (Proxy, error) { return s.proxy, nil },
		Interfaces: func() ([]nic.Interface, error) {
			return []nic.Interface{{Name: "eth0", State: "up", MTU: 1500, RX: nic.Counters{Bytes: 7}}}, nil
		},
		Proc: fstest.MapFS{"net/snmp": {Data: []byte("Ip: A B\nIp: 0 5\nUdp: X\nUdp: 1 2\n")}, "net/sockstat": {Data: []byte("sockets: used 9\n")}},
		Now:  time.Now,
	}
}

// run returns what a tool tells.
func (s site) run(t *testing.T, in Input) string {
	t.Helper()
	var b strings.Builder
	err := Run(t.Context(), s.config(), in, nil, func(line string) error {
		if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(line, "%!") {
			t.Errorf("line %q", line)
		}
		b.WriteString(line + "\n")
		return nil
	})
	if err != nil {
		t.Errorf("%+v: %v", in, err)
	}
	return b.String()
}

func want(t *testing.T, got string, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if not, is := strings.CutPrefix(s, "!"); is == strings.Contains(got, not) {
			t.Errorf("want %q in:\n%s", s, got)
		}
	}
}

func TestFaults(t *testing.T) {
	for want, in := range map[string]Input{
		"tool: choice":                      {Tool: "rm -rf"},
		"host: required":                    {Tool: "ping"},
		"host: diagnose-host":               {Tool: "ping", Host: "a; reboot"},
		"host: diagnose-address":            {Tool: "lookup", Host: "a.example", Type: "PTR"},
		"port: required":                    {Tool: "port", Host: "a.example"},
		"port: number":                      {Tool: "tls", Host: "192.0.2.1", Port: "65536"},
		"type: choice":                      {Tool: "lookup", Host: "a.example", Type: "AXFR"},
		"server: diagnose-address":          {Tool: "lookup", Host: "a.example", Server: "ns.example"},
		"host: diagnose-host; port: number": {Tool: "port", Host: "-a", Port: "+80"},
	} {
		err := Run(t.Context(), site{}.config(), in, nil, func(string) error { return nil })
		if fault.Of(err).Error() != want {
			t.Errorf("%+v: %v, want %s", in, err, want)
		}
	}
	for _, host := range []string{"0.0.0.0", "224.0.0.1", "::", "1.2.3", "1.2.3.256", "a..b", "a\x00b", "$(id)", "a b", "переговоры", strings.Repeat("a", 300), "http://a"} {
		if err := Run(t.Context(), site{}.config(), Input{Tool: "ping", Host: host}, nil, nil); !fault.Of(err).Has("host") {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func TestBounds(t *testing.T) {
	for range cap(slots) {
		slots <- struct{}{}
	}
	err := Run(t.Context(), site{}.config(), Input{Tool: "counters"}, nil, nil)
	for range cap(slots) {
		<-slots
	}
	if fault.Of(err).Error() != "tool: diagnose-busy" {
		t.Errorf("%v", err)
	}
	gone := errors.New("gone")
	if err := Run(t.Context(), site{}.config(), Input{Tool: "counters"}, nil, func(string) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("%v, want line's error", err)
	}
	cfg := site{}.config()
	cfg.Proc = fstest.MapFS{"net/snmp": {}, "net/sockstat": {Data: []byte(strings.Repeat("x\n", 10*maxLines))}}
	n := 0
	if err := Run(t.Context(), cfg, Input{Tool: "counters"}, nil, func(string) error { n++; return nil }); err != nil || n != maxLines {
		t.Errorf("%d lines, %v", n, err)
	}
	if len(slots) != 0 {
		t.Error("a slot is not given back")
	}
}

func TestCounters(t *testing.T) {
	want(t, site{}.run(t, Input{Tool: "counters"}), "eth0: up, MTU 1500", "received: 7 bytes", "Ip: B=5\n", "!Udp", "sockets: used 9")
}

type authority struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

func issue(t *testing.T, by *authority, tpl *x509.Certificate) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	tpl.BasicConstraintsValid = true
	if tpl.NotAfter.IsZero() {
		tpl.NotBefore, tpl.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := tpl, key
	if by != nil {
		parent, signer = by.Certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{c, key}
}

// serve accepts on a port of the loopback and gives each connection to f.
func serve(t *testing.T, f func(net.Conn)) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); f(c) }()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func TestTLS(t *testing.T) {
	ca := issue(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "Usual"}, IsCA: true})
	private := issue(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "Private"}, IsCA: true})
	stranger := issue(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "Inspector\x1b[2J"}, IsCA: true})
	s := site{roots: x509.NewCertPool()}
	s.roots.AddCert(ca.Certificate)
	s.roots.AddCert(private.Certificate)
	local := func(c *x509.Certificate) *x509.Certificate {
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		return c
	}
	for _, test := range []struct {
		name string
		cert *authority
		want []string
	}{
		{"good", issue(t, ca, local(&x509.Certificate{Subject: pkix.Name{CommonName: "good"}})), []string{"is open", "TLS 1.3", "Certificate 1: CN=good, issued by CN=Usual", "name 127.0.0.1", "SHA-256", "is good for 127.0.0.1", "!WRONG", "!Trusted because"}},
		{"private", issue(t, private, local(&x509.Certificate{})), []string{"Trusted because “Private” was added", "is good for", "!WRONG"}},
		{"wrong name", issue(t, ca, &x509.Certificate{DNSNames: []string{"other.example"}}), []string{"WRONG: the certificate is not for the name 127.0.0.1", "name other.example", "!good for"}},
		{"expired", issue(t, ca, local(&x509.Certificate{Subject: pkix.Name{CommonName: "old"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})), []string{"WRONG: the certificate “old” expired on", "!unknown authority", "!good for"}},
		{"early", issue(t, ca, local(&x509.Certificate{Subject: pkix.Name{CommonName: "new"}, NotBefore: time.Now().Add(10 * time.Minute), NotAfter: time.Now().Add(30 * time.Minute)})), []string{"“new” is valid from", "!unknown authority"}},
		{"unknown", issue(t, stranger, local(&x509.Certificate{})), []string{"WRONG: unknown authority “CN=Inspector", "!good for"}},
		{"self", issue(t, nil, local(&x509.Certificate{})), []string{"WRONG: the certificate is signed by itself", "!good for"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{test.cert.Raw}, PrivateKey: test.cert.key}}}
			port := serve(t, func(c net.Conn) { tls.Server(c, cfg).Handshake(); io.Copy(io.Discard, c) })
			want(t, s.run(t, Input{Tool: "tls", Host: "127.0.0.1", Port: port}), test.want...)
		})
	}
	plain := serve(t, func(c net.Conn) { fmt.Fprint(c, "220 mail.example \x1b[31m ESMTP\r\n"); io.Copy(io.Discard, c) })
	want(t, s.run(t, Input{Tool: "tls", Host: "127.0.0.1", Port: plain}), "does not speak TLS")
	cut := serve(t, func(c net.Conn) { bufio.NewReader(c).ReadByte() })
	want(t, s.run(t, Input{Tool: "tls", Host: "127.0.0.1", Port: cut}), "cut the connection")
	alert := serve(t, func(c net.Conn) {
		tls.Server(c, &tls.Config{MaxVersion: tls.VersionTLS11, GetCertificate: nil, Certificates: []tls.Certificate{{}}}).Handshake()
	})
	want(t, s.run(t, Input{Tool: "tls", Host: "127.0.0.1", Port: alert}), "ended the handshake")
}

func TestPort(t *testing.T) {
	port := serve(t, func(net.Conn) {})
	want(t, site{}.run(t, Input{Tool: "port", Host: "127.0.0.1", Port: port}), "127.0.0.1:"+port+" is open")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, closed, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	want(t, site{}.run(t, Input{Tool: "port", Host: "127.0.0.1", Port: closed}), "refuses")
	want(t, site{}.run(t, Input{Tool: "port", Host: "127.0.0.1", Port: port, Proxy: true}), "No proxy is set")
}

func TestProxy(t *testing.T) {
	ca := issue(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "Usual"}, IsCA: true})
	cert := issue(t, ca, &x509.Certificate{DNSNames: []string{"portal.example"}})
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: cert.key}}}
	target := serve(t, func(c net.Conn) { tls.Server(c, cfg).Handshake(); io.Copy(io.Discard, c) })
	proxy := func(answer string, through bool) Proxy {
		port := serve(t, func(c net.Conn) {
			br := bufio.NewReader(c)
			req, err := http.ReadRequest(br)
			if err != nil || req.Method != "CONNECT" || req.Host != "portal.example:443" {
				return
			}
			fmt.Fprint(c, answer)
			if !through {
				return
			}
			up, err := net.Dial("tcp", "127.0.0.1:"+target)
			if err != nil {
				return
			}
			defer up.Close()
			go io.Copy(up, br)
			io.Copy(c, up)
		})
		var n int
		fmt.Sscan(port, &n)
		return Proxy{Host: "127.0.0.1", Port: n}
	}
	in := Input{Tool: "tls", Host: "portal.example", Port: "443", Proxy: true}
	s := site{roots: x509.NewCertPool()}
	s.roots.AddCert(ca.Certificate)
	s.proxy = proxy("HTTP/1.1 200 Connection established\r\n\r\n", true)
	want(t, s.run(t, in), "The proxy connects to portal.example:443", "good for portal.example")
	s.proxy = proxy("HTTP/1.1 407 Authenticate\r\nProxy-Authenticate: Basic\r\n\r\n", false)
	want(t, s.run(t, in), "asks for a password", "!good")
	s.proxy = proxy("HTTP/1.1 403 No \x1b[2J way\r\n\r\n", false)
	want(t, s.run(t, in), "The proxy refuses: 403", "!good")
	s.proxy = proxy("SSH-2.0-x\r\n", false)
	want(t, s.run(t, in), "answer is none")
	s.proxy = proxy("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 2*maxHeaders)+"\r\n\r\n", false)
	want(t, s.run(t, in), "answer is none")
}

// A name server answers with what does something to a screen.
func TestLookup(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type}
			add := func(b dnsmessage.ResourceBody) {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: b})
			}
			target := dnsmessage.MustNewName("mail.example.")
			switch {
			case q.Name.String() == "none.example.":
				m.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				add(&dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}})
			case q.Type == dnsmessage.TypeAAAA:
				add(&dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::7").As16()})
			case q.Type == dnsmessage.TypeTXT:
				add(&dnsmessage.TXTResource{TXT: []string{"v=spf1 \x1b[2J\n-all"}})
			case q.Type == dnsmessage.TypeMX:
				add(&dnsmessage.MXResource{Pref: 10, MX: target})
			case q.Type == dnsmessage.TypeSRV:
				add(&dnsmessage.SRVResource{Priority: 1, Weight: 2, Port: 443, Target: target})
			case q.Type == dnsmessage.TypePTR:
				add(&dnsmessage.PTRResource{PTR: target})
			}
			if b, err := m.Pack(); err == nil {
				pc.WriteTo(b, from)
			}
		}
	}()
	before := serverPort
	defer func() { serverPort = before }()
	_, serverPort, _ = net.SplitHostPort(pc.LocalAddr().String())
	ask := func(kind, host string) string {
		t.Helper()
		return site{}.run(t, Input{Tool: "lookup", Host: host, Type: kind, Server: "127.0.0.1"})
	}
	want(t, ask("", "a.example"), "A 192.0.2.7", "AAAA 2001:db8::7", "Records: 2", "Name server: 127.0.0.1")
	want(t, ask("A", "a.example"), "A 192.0.2.7", "!AAAA")
	want(t, ask("TXT", "a.example"), "TXT v=spf1 ", "-all")
	want(t, ask("MX", "a.example"), "MX 10 mail.example.")
	want(t, ask("SRV", "_sip._tcp.a.example"), "SRV 1 2 443 mail.example.")
	want(t, ask("PTR", "192.0.2.7"), "PTR mail.example.")
	want(t, ask("A", "none.example"), "no such name")
}

// Two networks with a router between: A, R, B.
func TestWay(t *testing.T) {
	r, a, b := labtest.NewHost(t, "router"), labtest.NewHost(t, "a"), labtest.NewHost(t, "b")
	p := netip.MustParsePrefix
	r.Bridge(p("10.1.0.1/24"), p("10.2.0.1/24"))
	r.Join(a, "a", net.HardwareAddr{2, 0, 0, 0, 0, 1}, p("10.1.0.2/24"))
	r.Join(b, "b", net.HardwareAddr{2, 0, 0, 0, 0, 2}, p("10.2.0.2/24"))
	r.Must(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	for h, gw := range map[*labtest.Host]net.IP{a: net.IPv4(10, 1, 0, 1), b: net.IPv4(10, 2, 0, 1)} {
		h.Must(func() error { return netlink.RouteAdd(&netlink.Route{Gw: gw}) })
	}
	run := func(tool, host string) (out string) {
		a.Must(func() error {
			out = site{}.run(t, Input{Tool: tool, Host: host})
			return nil
		})
		return out
	}
	want(t, run("traceroute", "10.2.0.2"), "1: 10.1.0.1, ", "2: 10.2.0.2, ", "Arrived after 2 hops")
	// No host of that address: the router says so.
	want(t, run("traceroute", "10.2.0.9"), "1: 10.1.0.1", "10.1.0.1 says that it cannot be reached")
	a.Must(func() error { return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("1 0"), 0) })
	want(t, run("ping", "10.2.0.2"), "net.ipv4.ping_group_range", "!answer from")
	a.Must(func() error { return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 65535"), 0) })
	want(t, run("ping", "10.2.0.2"), "1: answer from 10.2.0.2", "Sent: 4, answered: 4, lost: 0 %", "Shortest ")
	want(t, run("ping", "::1"), "Sent: 4, answered: 4")
	b.Must(func() error { return os.WriteFile("/proc/sys/net/ipv4/icmp_echo_ignore_all", []byte("1"), 0) })
	want(t, run("ping", "10.2.0.2"), "4: no answer", "Sent: 4. No answer")
	a.Must(func() error { return netlink.RouteDel(&netlink.Route{Gw: net.IPv4(10, 1, 0, 1)}) })
	want(t, run("ping", "10.2.0.2"), "no route")
	want(t, run("traceroute", "10.2.0.2"), "no route")
}

func FuzzLine(f *testing.F) {
	f.Add("220 mail \x1b[2J", 10)
	f.Add("\xff\u202e\u0000я", 2)
	f.Fuzz(func(t *testing.T, s string, max int) {
		max = 1 + max&0xff
		var got string
		j := &job{t: english(), line: func(s string) error { got = s; return nil }}
		j.say("error", s)
		for _, out := range []string{got, certificate.Clean(s, max)} {
			if strings.ContainsFunc(out, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q becomes %q", s, out)
			}
		}
		if n := len([]rune(certificate.Clean(s, max))); n > max+1 {
			t.Errorf("%d characters, want at most %d", n, max)
		}
	})
}

func FuzzParseError(f *testing.F) {
	f.Add([]byte{48, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 111, 0, 0, 0, 2, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 10, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) { parseError(b) })
}

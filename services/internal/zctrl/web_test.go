package zctrl

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/handover"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/signal"
)

// get asks a controller and returns the status and the body.
func (k *tested) do(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, fmt.Sprintf("https://%s%s", k.at, path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	c := browser()
	defer c.CloseIdleConnections()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// What a controller serves, and to whose pages.
func TestPages(t *testing.T) {
	path := socket(t, "metrics")
	first := true // of two controllers, one alone
	r := newRig(t, 2, 0, func(c *Config) {
		if first {
			c.Metrics = path
		}
		first = false
	})
	k := r.controllers[0]
	for path, want := range map[string]string{"/": "page", "/healthz": "ok\n"} {
		if res, body := k.do(t, "GET", path, ""); res.StatusCode != 200 || body != want {
			t.Errorf("%s: %d %q", path, res.StatusCode, body)
		}
	}
	for _, path := range []string{"/trial", "/metrics"} {
		if res, body := k.do(t, "POST", path, ""); body != "page" {
			t.Errorf("%s is there: %d %q", path, res.StatusCode, body)
		}
	}
	// The page of another controller may come, by its address or public name.
	k.zone.Set(func(s *member.State) {
		c := *s.Config
		c.Appliances = append([]link.Peer{}, c.Appliances...)
		c.Appliances[0].PublicName = "meet.example.com"
		s.Config = &c
	})
	bustest.Eventually(t, "the name is told", func() bool { return k.current().has("meet.example.com") })
	for origin, want := range map[string]int{
		"https://" + k.at.String(): 101, "https://meet.example.com": 101, "https://127.0.0.3": 101, "": 101,
		"http://meet.example.com": 403, "https://evil.example.com": 403, "null": 403, "https://": 403,
	} {
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		ws, res, err := websocket.Dial(t.Context(), fmt.Sprintf("wss://%s/signal?m=m1", k.at), &websocket.DialOptions{HTTPClient: browser(), HTTPHeader: h})
		if err == nil {
			ws.CloseNow()
		}
		if res == nil || res.StatusCode != want {
			t.Errorf("%q: %v, want %d", origin, err, want)
		}
	}
	c := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	res, err := c.Get("http://zctrl/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	for _, name := range []string{"parley_zctrl_connections ", `parley_zctrl_refused_total{reason="origin"} 4`, "parley_zctrl_bus_servers ", `parley_zctrl_frames_total{to="page"} 0`} {
		if !strings.Contains(string(b), name) {
			t.Errorf("no %s", name)
		}
	}
	// Out of the zone it says so, and it goes in again without a restart.
	in := k.zone.State()
	k.zone.Set(func(s *member.State) { s.Credentials, s.Config = nil, nil })
	bustest.Eventually(t, "it is out of the zone", func() bool {
		res, _ := k.do(t, "GET", "/healthz", "")
		return res.StatusCode == http.StatusServiceUnavailable && k.health() == "waiting"
	})
	if res, _ := k.do(t, "GET", "/signal", ""); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%d without a zone", res.StatusCode)
	}
	k.zone.Set(func(s *member.State) { *s = in })
	bustest.Eventually(t, "it is in the zone", func() bool {
		res, _ := k.do(t, "GET", "/healthz", "")
		return res.StatusCode == http.StatusOK && bustest.Connected(&bustest.Member{Conn: k.current().conn}) == 2
	})
	if _, err := New(Config{}); err == nil {
		t.Error("a controller without anything")
	}
}

// At one address the router gets what is not the controller's, as it came.
func TestOneAddress(t *testing.T) {
	path := socket(t, "media")
	l := handover.New(&net.TCPAddr{})
	bustest.Running(t, func(ctx context.Context) error { return handover.Receive(ctx, path, nil, l, logger(t, "mmr")) })
	t.Cleanup(func() { l.Close() })
	r := newRig(t, 1, 0, func(c *Config) {
		c.Handover, c.TURN = path, func() string { return "turn.example.com" }
	})
	k := r.controllers[0]
	bustest.Eventually(t, "the router listens", func() bool { _, err := os.Stat(path); return err == nil })

	raw, err := net.Dial("tcp", k.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write([]byte("\x00\x05media")); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 7)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "\x00\x05media" {
		t.Errorf("%q, %v", b, err)
	}
	// TURN's name goes there before the handshake.
	go func() {
		conn, err := tls.Dial("tcp", k.at.String(), &tls.Config{ServerName: "TURN.example.com", InsecureSkipVerify: true})
		if err == nil {
			conn.Write([]byte("turn"))
			conn.Close()
		}
	}()
	turn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := k.cfg.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.Server(turn, &tls.Config{Certificates: []tls.Certificate{*cert}})
	if b, err := io.ReadAll(secure); string(b) != "turn" {
		t.Errorf("%q, %v", b, err)
	}
	turn.Close()
	if _, body := k.do(t, "GET", "/", ""); body != "page" {
		t.Errorf("page %q", body)
	}
	// What was handed over outlives the controller, and counts there no more.
	bustest.Eventually(t, "it is not counted", func() bool { return k.door.len() <= 1 })
	k.stop()
	if _, err := c.Write([]byte("on")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(raw, b[:2]); err != nil || string(b[:2]) != "on" {
		t.Errorf("%q, %v", b, err)
	}
}

// With an address of its own a controller has nothing for media.
func TestNotTLS(t *testing.T) {
	r := newRig(t, 1, 0)
	raw, err := net.Dial("tcp", r.controllers[0].at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	raw.SetReadDeadline(time.Now().Add(bustest.Patience))
	if n, err := raw.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// trials is a member.Trials that knows one code.
type trials struct{ all }

// all is the rest of it.
type all = member.Trials

func (trials) TrialTicket(code, name string, _ time.Time) (string, error) {
	switch {
	case code == "portal":
		return "", member.ErrPortal
	case code == "rate":
		return "", member.ErrRate
	case code != "good":
		return "", member.ErrNoTrial
	case name == "":
		return "", fault.New("name", "required")
	}
	return "ticket of " + name, nil
}

// A trial meeting's link gives tickets; codes are guessed slowly.
func TestTrial(t *testing.T) {
	r := newRig(t, 1, 0, func(c *Config) { c.Trials = trials{&member.Member{}} })
	k := r.controllers[0]
	for body, want := range map[string]string{
		`{"code":"good","name":"Ann"}`: `200 {"ticket":"ticket of Ann"}`,
		`{"code":"good","name":""}`:    `400 {"error":{"code":"invalid","message":"This is needed.","fields":[{"field":"name","code":"required","message":"This is needed."}]}}`,
		`{"code":"portal","name":""}`:  `409 {"error":{"code":"trial-portal","message":"Meetings are made in the portal now. Ask for a new link."}}`,
		`{"code":"rate","name":""}`:    `429 {"error":{"code":"trial-busy","message":"Too many attempts. Try again in a moment."}}`,
		`{"cod":"good"}`:               `400 {"error":{"code":"trial-request","message":"The page and the server do not understand each other. Load the page again."}}`,
		strings.Repeat("x", 5000):      `400 {"error":{"code":"trial-request","message":"The page and the server do not understand each other. Load the page again."}}`,
	} {
		res, got := k.do(t, "POST", "/trial", body)
		if got := fmt.Sprint(res.StatusCode, " ", strings.TrimSpace(got)); got != want {
			t.Errorf("%.40s: %s, want %s", body, got, want)
		}
	}
	res, body := k.do(t, "POST", "/trial", `{"code":"bad","name":"x"}`, "Accept-Language", "ru")
	if res.StatusCode != 404 || !strings.Contains(body, "Ссылка недействительна") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	for range 5 {
		res, _ = k.do(t, "POST", "/trial", `{"code":"bad","name":"x"}`)
	}
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("%d after many guesses", res.StatusCode)
	}
}

// Challenges are answered as long as there are some.
func TestChallenges(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	r := newRig(t, 1, 0, func(c *Config) { c.Challenge = at })
	k := r.controllers[0]
	ask := func(path string) string {
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := c.Get("http://" + at.String() + path)
		if err != nil {
			return "nobody"
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return string(b)
	}
	if got := ask("/"); got != "nobody" {
		t.Errorf("%q without a challenge", got)
	}
	set := func(list ...link.Challenge) {
		k.zone.Set(func(s *member.State) { c := *s.Config; c.Challenges = list; s.Config = &c })
	}
	set(link.Challenge{Path: "/.well-known/acme-challenge/a", Text: "a.b"}, link.Challenge{Path: "/", Text: "not a challenge"})
	bustest.Eventually(t, "the challenge is answered", func() bool { return ask("/.well-known/acme-challenge/a") == "a.b" })
	if got := ask("/"); got == "not a challenge" {
		t.Error("anything is answered")
	}
	set()
	bustest.Eventually(t, "nobody listens", func() bool { return ask("/") == "nobody" })
}

// Addresses come and go; one that cannot be had is said.
func TestListen(t *testing.T) {
	t.Parallel()
	var (
		mu sync.Mutex
		at []netip.AddrPort
	)
	r := newRig(t, 1, 1, func(c *Config) {
		at = c.Listen()
		c.Listen = func() []netip.AddrPort { mu.Lock(); defer mu.Unlock(); return at }
	})
	k := r.controllers[0]
	bustest.Eventually(t, "it is ready", func() bool { return k.health() == "ready" })
	set := func(a netip.Addr) {
		mu.Lock()
		defer mu.Unlock()
		at = []netip.AddrPort{netip.AddrPortFrom(a, k.at.Port())}
	}
	open := func(a netip.Addr) bool {
		c, err := net.Dial("tcp", netip.AddrPortFrom(a, k.at.Port()).String())
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	other := netip.MustParseAddr("127.0.0.77")
	set(other)
	bustest.Eventually(t, "it has moved", func() bool { return open(other) && !open(k.at.Addr()) })
	set(netip.MustParseAddr("192.0.2.1"))
	bustest.Eventually(t, "it says that the address is none of its own", func() bool { return k.health() == "failing" && !open(other) })
	set(k.at.Addr())
	bustest.Eventually(t, "it is back", func() bool { return open(k.at.Addr()) && k.health() == "ready" })
}

// The oldest connection that has shown nothing makes room; one address does not
// take all.
func TestDoor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pair := func() (client net.Conn, server *net.TCPConn) {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close(); c.Close() })
		return client, c.(*net.TCPConn)
	}
	d, now := newDoor(), time.Now()
	_, c := pair()
	kept := d.enter(c, now)
	kept.keep()
	_, c = pair()
	old := d.enter(c, now)
	for i := range maxConns - 2 { // of other addresses
		g := &guest{TCPConn: c, door: d, peer: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 32)}
		d.guests[g], d.peers[g.peer] = true, 1
	}
	_, c = pair()
	if g := d.enter(c, now); g == nil || d.len() != maxConns {
		t.Fatalf("%v, %d connections", g, d.len())
	}
	if d.guests[old] || !d.guests[kept] {
		t.Error("another one than the oldest was closed")
	}
	d.peers[kept.peer] = maxPeerConns
	client, c := pair()
	if g := d.enter(c, now); g != nil {
		t.Error("one address has more than its bound")
	}
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("it is open")
	}
	if d.refused != [3]uint64{1, 1, 0} {
		t.Errorf("refused %v", d.refused)
	}
	kept.Close()
	kept.Close()
	if d.peers[kept.peer] != maxPeerConns-1 {
		t.Errorf("%d of the address", d.peers[kept.peer])
	}
	d.closeAll()
	_, c = pair()
	if d.enter(c, now) != nil || d.order.Len() != 0 {
		t.Error("a door that is closed")
	}
}

// Connections in quick succession are bounded for each address; nobody's pace is
// kept for ever.
func TestPace(t *testing.T) {
	d, now := newDoor(), time.Now()
	peer := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	n := 0
	for range 2 * comeBurst {
		if d.comesLocked(peer(0), now) {
			n++
		}
	}
	if n != comeBurst {
		t.Errorf("%d came at once", n)
	}
	now = now.Add(time.Second)
	n = 0
	for range 2 * comeBurst {
		if d.comesLocked(peer(0), now) {
			n++
		}
	}
	if n != comeRate {
		t.Errorf("%d came in the next second", n)
	}
	for i := range 3 * maxPaces {
		if !d.comesLocked(peer(i+1), now) {
			t.Fatal("a first connection is refused")
		}
	}
	if len(d.paces) > maxPaces {
		t.Errorf("%d paces are kept", len(d.paces))
	}
	if !d.comesLocked(peer(3*maxPaces), now.Add(time.Minute)) || len(d.paces) > 1 {
		t.Errorf("%d paces are kept after a minute", len(d.paces))
	}
}

// A page that is behind costs no more than its queue, and all of them together no
// more than their bound.
func TestQueue(t *testing.T) {
	var all atomic.Int64
	newQueue := func() *queue { return &queue{all: &all, wake: make(chan struct{}, 1)} }
	q := newQueue()
	big := bytes.Repeat([]byte("x"), signal.MaxFrame)
	for range 100 {
		q.put(big, false)
		if q.bytes > queueBytes {
			t.Fatalf("%d bytes", q.bytes)
		}
	}
	if frame, _, over := q.take(); !over || frame != nil {
		t.Errorf("%d bytes, over %v", len(frame), over)
	}
	q = newQueue()
	for range queueFrames {
		q.put([]byte("x"), false)
	}
	if q.over {
		t.Error("too early")
	}
	q.put([]byte("x"), false)
	if !q.over {
		t.Error("too many frames")
	}
	q = newQueue()
	q.put([]byte("a"), false)
	q.put([]byte("b"), false)
	q.put(nil, true)
	q.put([]byte("c"), false)
	for _, want := range []string{"a", "b", ""} {
		frame, last, over := q.take()
		if string(frame) != want || last != (want == "") || over {
			t.Errorf("%q, last %v, over %v, want %q", frame, last, over, want)
		}
	}
	if all.Load() != 0 {
		t.Errorf("%d bytes are counted though nothing waits", all.Load())
	}
	var qs []*queue
	for range 100 {
		q := newQueue()
		qs = append(qs, q)
		q.put(big, false)
		q.put(big, false)
	}
	if n := all.Load(); n > allBytes || n < allBytes-2*signal.MaxFrame {
		t.Errorf("%d bytes wait in all", n)
	}
	for _, q := range qs {
		q.end()
		q.end()
		q.put(big, false)
	}
	if all.Load() != 0 {
		t.Errorf("%d bytes are left", all.Load())
	}
}

// WebSockets without a ticket are bounded, for each address and in all.
func TestWaiting(t *testing.T) {
	var w waiting
	peer := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	var leaves []func()
	for i := range maxPeerWaiting + 1 {
		leave, ok := w.enter(peer(0))
		if ok != (i < maxPeerWaiting) {
			t.Fatalf("%d of one address: %v", i, ok)
		}
		if ok {
			leaves = append(leaves, leave)
		}
	}
	for i := range maxWaiting {
		if leave, ok := w.enter(peer(i + 1)); ok {
			leaves = append(leaves, leave)
		}
	}
	if len(leaves) != maxWaiting {
		t.Errorf("%d wait", len(leaves))
	}
	for _, leave := range leaves {
		leave()
		leave()
	}
	if w.n != 0 || len(w.peers) != 0 {
		t.Errorf("%d are left", w.n)
	}
}

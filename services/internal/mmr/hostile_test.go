package mmr

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/stun"

	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/sfu/cc"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// local is where honest clients are, and elsewhere where the others come from,
// another network.
var (
	local     = netip.MustParseAddr("127.0.0.1")
	elsewhere = netip.MustParseAddr("127.66.0.1")
)

// dial connects a client by WHIP or WHEP.
func dial(t *testing.T, at netip.Addr, lines []transport.Line, media func([][]byte), offer func(context.Context, int, string) (string, error)) *transport.Client {
	t.Helper()
	c, err := transport.Dial(at, lines, slog.New(slog.DiscardHandler), media)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	text, err := c.Offer()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := offer(t.Context(), 1, text)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Answer(answer); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Ready:
	case <-c.Failed:
		t.Fatal("the connection failed")
	case <-time.After(30 * time.Second):
		t.Fatal("no connection")
	}
	return c
}

// pair are two who meet: the one is seen, the other sees.
type pair struct {
	t      *testing.T
	pc, sc *transport.Client
	sub    *load.Subscriber
	seen   *relayed // the other's network
}

// meet has them meet.
func meet(t *testing.T, target *load.Parley) *pair {
	t.Helper()
	epoch := time.Now()
	pub := load.NewPublisher(epoch, []load.Video{{RID: "h", Frames: 20, Packets: 4, Size: 800, Width: 640, Height: 360}}, true)
	x := &pair{t: t, sub: load.NewSubscriber(epoch, true), seen: &relayed{}}
	x.pc = dial(t, local, []transport.Line{{Video: true, Send: true, RIDs: []string{"h"}}, {Send: true}}, pub.Media, target.Publish)
	pub.Start(x.pc)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { pub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		work.Wait()
	})
	x.sc = dial(t, local, []transport.Line{{Video: true}, {}}, x.sub.Media, func(ctx context.Context, n int, offer string) (string, error) {
		answer, err := target.Subscribe(ctx, n, offer)
		if err != nil {
			return "", err
		}
		return x.seen.open(t, answer), nil
	})
	x.sub.Start(x.sc, 0)
	return x
}

// unharmed says that the pair notices nothing of what somebody does.
func (x *pair) unharmed(what string, attack func()) {
	x.t.Helper()
	flow := func(n uint64) load.Figures {
		x.t.Helper()
		from := x.sub.Figures().Packets
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			f := x.sub.Figures()
			if f.Packets >= from+n {
				return f
			}
			if time.Now().After(end) {
				x.t.Fatalf("%s: media does not flow: %d packets of %d", what, f.Packets-from, n)
			}
		}
	}
	before := flow(100)
	for done := before; done.Expected-before.Expected < 500; done = x.sub.Figures() {
		attack()
	}
	// What is missing at the end may be on its way: so for a while after it.
	var lost, all int64
	for end := time.Now().Add(20 * time.Second); ; {
		f := flow(100)
		all = int64(f.Expected - before.Expected)
		if lost = all - int64(f.Packets-before.Packets); lost*1000 < all {
			break
		}
		if time.Now().After(end) {
			x.t.Errorf("%s: %d of %d packets are lost", what, lost, all)
			break
		}
	}
	for _, c := range []*transport.Client{x.pc, x.sc} {
		select {
		case <-c.Failed:
			x.t.Fatalf("%s: somebody honest was cut off", what)
		default:
		}
	}
	x.t.Logf("%s: %d of %d packets lost", what, lost, all)
}

// relayed is a network between a client and the router, on which others see what
// passes.
type relayed struct {
	router netip.AddrPort

	mu   sync.Mutex
	seen [][]byte // what the client sent: some of each kind
	kind map[byte]int
}

// open puts it between, and returns the answer with its address.
func (r *relayed) open(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(answer, "\r\n")
	for i, line := range lines {
		f := strings.Fields(line)
		if !strings.HasPrefix(line, "a=candidate:") || !strings.EqualFold(f[2], "udp") {
			continue
		}
		r.router = netip.MustParseAddrPort(f[4] + ":" + f[5])
		f[4], f[5] = "127.0.0.1", fmt.Sprint(l.LocalAddr().(*net.UDPAddr).Port)
		lines[i] = strings.Join(f, " ")
	}
	out, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(r.router))
	if err != nil {
		t.Fatal(err)
	}
	r.kind = map[byte]int{}
	var client netip.AddrPort
	var mu sync.Mutex
	var work sync.WaitGroup
	work.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := l.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			mu.Lock()
			client = from
			mu.Unlock()
			out.Write(b[:n])
			r.mu.Lock()
			if kind := b[0] >> 3; r.kind[kind] < 20 {
				r.kind[kind]++
				r.seen = append(r.seen, bytes.Clone(b[:n]))
			}
			r.mu.Unlock()
		}
	})
	work.Go(func() {
		b := make([]byte, 2048)
		for {
			n, err := out.Read(b)
			if err != nil {
				return
			}
			mu.Lock()
			to := client
			mu.Unlock()
			l.WriteToUDPAddrPort(b[:n], to)
		}
	})
	t.Cleanup(func() {
		l.Close()
		out.Close()
		work.Wait()
	})
	return strings.Join(lines, "\r\n")
}

// outsider counts what comes to a socket.
type outsider struct {
	*net.UDPConn
	mu  sync.Mutex
	got int
}

func newOutsider(t *testing.T, at netip.Addr, to netip.AddrPort) *outsider {
	t.Helper()
	c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)), net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	o := &outsider{UDPConn: c}
	var work sync.WaitGroup
	work.Go(func() {
		b := make([]byte, 2048)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			o.mu.Lock()
			o.got++
			o.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		c.Close()
		work.Wait()
	})
	return o
}

func (o *outsider) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.got
}

// media is an RTP packet that a client of the zone seals.
func media(c *transport.Client, s *wire.Stream, index uint64, pt byte, payload []byte) []byte {
	b := make([]byte, 12, 12+len(payload)+wire.Overhead)
	b[0], b[1] = 0x80, pt
	binary.BigEndian.PutUint32(b[4:], uint32(index*3000))
	b = append(b, payload...)
	sealed, err := c.Crypt.SealRTP(s, index, b, 12)
	if err != nil {
		return nil
	}
	return sealed
}

// Whoever has a ticket may do what he likes: two others who meet notice nothing.
func TestHostile(t *testing.T) {
	target := start(t)
	x := meet(t, target)
	var got sync.Map
	out := dial(t, elsewhere, []transport.Line{{Video: true, Send: true}}, func([][]byte) {}, target.Publish)
	in := dial(t, elsewhere, []transport.Line{{Video: true}, {}}, func(list [][]byte) {
		for _, b := range list {
			if len(b) > 12 && b[1]&0x7f == 96 {
				got.Store(binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[8:]))
			}
		}
	}, target.Subscribe)
	many := 10_000 // at a time
	if testing.Short() {
		many = 1000
	}
	rnd := mrand.New(mrand.NewPCG(1, 2))
	// Some 20,000 packets a second: 190 Mbit/s where they are long. The race detector
	// makes a slower machine of this one.
	sent, burst := 0, 500
	if testing.Short() {
		burst = 50
	}
	send := func(c *transport.Client, b []byte) {
		if sent++; sent%burst == 0 {
			time.Sleep(25 * time.Millisecond)
		}
		if len(b) > 0 {
			_ = c.Send(b) // a full buffer is a lost packet
		}
	}

	x.unharmed("a flood of media", func() {
		s := &wire.Stream{SSRC: out.SSRCs(0)[0]}
		payload := make([]byte, 1100)
		copy(payload, []byte{0x90, 0xe0, 0x80, 1, 1, 0, 0})
		for i := range uint64(many) {
			send(out, media(out, s, 1000+i, 96, payload))
		}
	})
	x.unharmed("a flood of what is no media", func() {
		for range many {
			b := make([]byte, 12+rnd.IntN(1200))
			rand.Read(b)
			b[0] = 0x80 | b[0]&0x3f
			send(out, b)
		}
	})
	x.unharmed("media of other SSRCs, also of the one who is seen", func() {
		payload := make([]byte, 500)
		for _, ssrc := range x.pc.SSRCs(0) {
			s := &wire.Stream{SSRC: ssrc}
			for i := range uint64(2000) {
				send(out, media(out, s, 1000+i, 96, payload))
			}
		}
		for i := range uint32(2000) {
			send(out, media(out, &wire.Stream{SSRC: 7000 + i}, 1000, byte(90+i%40), payload))
		}
	})
	x.unharmed("a flood of RTCP", func() {
		theirs := x.pc.SSRCs(0)[0]
		ours := uint32(1)
		seqs := []uint16{}
		got.Range(func(k, v any) bool {
			seqs, ours = append(seqs, k.(uint16)), v.(uint32)
			return len(seqs) < 1000
		})
		if len(seqs) == 0 {
			t.Fatal("the attacker was shown nothing")
		}
		for i := range many {
			for _, ssrc := range []uint32{theirs, ours, uint32(i)} {
				var b []byte
				switch i % 5 {
				case 0:
					b = cc.AppendPLI(nil, ours, ssrc)
				case 1: // asks again for all that came
					b = []byte{0x80 | 1, 205, 0, 2, 0, 0, 0, 1}
					b = binary.BigEndian.AppendUint32(b, ssrc)
					for j := range 100 {
						b = binary.BigEndian.AppendUint16(b, seqs[(i+j)%len(seqs)])
						b = append(b, 0xff, 0xff)
					}
					binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
				case 2: // says that he goes, for somebody else
					b = binary.BigEndian.AppendUint32([]byte{0x81, 203, 0, 1}, ssrc)
				case 3: // nothing arrives
					b = cc.AppendReports(nil, ours, []cc.Report{{SSRC: ssrc, Fraction: 255, Lost: 1 << 22}})
				case 4: // feedback of what was never sent
					b = make([]byte, 64)
					rand.Read(b)
					copy(b, []byte{0x80 | 15, 205, 0, 15})
				}
				if sealed, err := in.Crypt.SealRTCP(b); err == nil {
					send(in, sealed)
				}
			}
		}
	})
	x.unharmed("DTLS and STUN of one who is in", func() {
		for i := range many {
			b := make([]byte, 13+rnd.IntN(1200))
			rand.Read(b)
			if i%2 == 0 {
				copy(b, []byte{byte(20 + i%4), 0xfe, 0xfd})
			} else {
				b = append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, b...)
				binary.BigEndian.PutUint16(b[2:], uint16(len(b)-20)&^3)
			}
			send(out, b)
		}
	})
	var once, twice sync.Once
	wait := func() { time.Sleep(100 * time.Millisecond) }
	x.unharmed("signalling", func() { once.Do(func() { shout(t, target) }); wait() })
	x.unharmed("sockets", func() { twice.Do(func() { occupy(t, target, x.seen.router) }); wait() })
	open(t, target, 9) // and those who want in find room
}

// shout floods signalling: with what is no frame, with frames that are none, with
// slots and layers that are not there.
func shout(t *testing.T, target *load.Parley) {
	t.Helper()
	p := open(t, target, 5)
	on := true
	for i := range 200 {
		mid := fmt.Sprint("x", i%7)
		p.mu.Lock()
		for _, m := range []signal.Message{
			&signal.View{Slots: []signal.Show{{Mid: mid, What: signal.BySpeaker, Width: 8192, Height: 8192}}, Page: 1000},
			&signal.View{Slots: []signal.Show{{Mid: "0", What: signal.One, ID: 77, Source: signal.Screen, Width: 1, Height: 1}}},
			&signal.Offer{SDP: "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rid:z send\r\n", Ref: uint32(i + 1)},
			&signal.State{Screen: &on},
			&signal.Command{Do: signal.MakeHost, ID: 1},
		} {
			_ = p.c.Send(m, time.Now()) // full: so much waits already
		}
		p.pump()
		p.mu.Unlock()
	}
	for _, text := range []string{`{"open":{"ticket":"x"}}`, "{", strings.Repeat("[", 100_000), `{"n":1,"body":{"kind":"leave"}}`} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		ws, _, err := websocket.Dial(ctx, "wss"+strings.TrimPrefix(target.Base, "https")+"/signal", &websocket.DialOptions{HTTPClient: &http.Client{Transport: target.HTTP.Transport}})
		if err != nil {
			t.Error(err)
			cancel()
			continue
		}
		go func() {
			for {
				if _, _, err := ws.Read(ctx); err != nil {
					return
				}
			}
		}()
		for range 5000 {
			if ws.Write(ctx, websocket.MessageText, []byte(text)) != nil {
				break // cut off, as it should be
			}
		}
		ws.CloseNow()
		cancel()
	}
}

// occupy opens 10,000 sockets, a thousand at a time of each kind.
func occupy(t *testing.T, target *load.Parley, router netip.AddrPort) {
	t.Helper()
	web := strings.TrimPrefix(target.Base, "https://")
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(elsewhere, 0)), Timeout: 10 * time.Second}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for i := range 5000 {
		c, err := dialer.Dial("tcp", web)
		if err != nil {
			t.Errorf("%d: %v", i, err)
			break
		}
		if i%3 == 0 {
			c.Write([]byte{0x16})
		}
		conns = append(conns, c)
	}
	// Somebody else comes in meanwhile.
	open(t, target, 6)
	for range 5 {
		var udp []*net.UDPConn
		for range 1000 {
			c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(elsewhere, 0)), net.UDPAddrFromAddrPort(router))
			if err != nil {
				t.Error(err)
				break
			}
			m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername("guess:guess"), stun.NewShortTermIntegrity("guess"))
			if err != nil {
				t.Fatal(err)
			}
			c.Write(m.Raw)
			c.Write([]byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
			udp = append(udp, c)
		}
		for _, c := range udp {
			c.Close()
		}
	}
}

// Who has no ticket, or one that was used, gets no packet in and none out, whatever
// he has seen on somebody's network.
func TestOutsider(t *testing.T) {
	target := start(t)
	x := meet(t, target)
	o := newOutsider(t, elsewhere, x.seen.router)
	used, err := target.Ticket(3)
	if err != nil {
		t.Fatal(err)
	}
	p := transportOffer(t)
	post := func(path, ticket, offer string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target.Base+path, strings.NewReader(offer))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/sdp")
		if ticket != "" {
			r.Header.Set("Authorization", "Bearer "+ticket)
		}
		a, err := target.HTTP.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		return a.StatusCode
	}
	if got := post("/whep", used, p); got != http.StatusCreated {
		t.Fatal(got)
	}
	for _, path := range []string{"/whip", "/whep"} {
		for _, text := range []string{used, "", used[:len(used)-4] + "AAAA"} {
			if got := post(path, text, p); got != http.StatusUnauthorized {
				t.Errorf("%s with a ticket that is not good: %d", path, got)
			}
		}
	}
	late := begin(t, used, byWebSocket(t, target))
	if code := late.closed(); code != signal.Used {
		t.Errorf("signalling with a used ticket: %s", code)
	}
	x.unharmed("an outsider", func() {
		x.seen.mu.Lock()
		seen := x.seen.seen
		x.seen.mu.Unlock()
		kinds := map[byte]bool{}
		for range 20 {
			for _, b := range seen { // STUN, DTLS, SRTCP, as the other sent them
				kinds[b[0]>>6] = true
				o.Write(b)
				// And with another number: what is authenticated does not fit.
				if b[0] < 4 {
					c := bytes.Clone(b)
					rand.Read(c[8:20])
					o.Write(c)
				}
			}
			hello := append([]byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50}, make([]byte, 50)...)
			o.Write(hello)
			o.Write(append([]byte{0x80, 96, 0, 1}, make([]byte, 200)...))
			time.Sleep(20 * time.Millisecond)
		}
		if !kinds[0] || !kinds[2] {
			t.Errorf("the outsider has seen kinds %v only", kinds)
		}
	})
	if n := o.count(); n != 0 {
		t.Errorf("%d packets came to somebody without a ticket", n)
	}
}

// transportOffer is what a client offers that never connects.
func transportOffer(t *testing.T) string {
	t.Helper()
	c, err := transport.Dial(local, []transport.Line{{Video: true}, {}}, slog.New(slog.DiscardHandler), func([][]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	text, err := c.Offer()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Who waits has no media: his offer gets no answer, so there is no way to him, and
// a player's is refused.
func TestWaitsWithoutMedia(t *testing.T) {
	target := start(t)
	sign := func(name string, role ticket.Role) string {
		t.Helper()
		now := time.Now()
		text, err := ticket.Sign(target.Key, ticket.Claims{
			Issuer: target.Issuer, Zone: target.Zone, Subject: name, ID: ticket.NewID(), Account: "a", Name: name, Role: role,
			Meeting: ticket.Meeting{ID: "w", Number: "100000002", JoinBeforeHost: true, WaitingRoom: true},
			Issued:  now, Expires: now.Add(ticket.TTL),
		})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	host := begin(t, sign("anna", ticket.Host), byWebSocket(t, target))
	host.joined()
	p := begin(t, sign("boris", ticket.Guest), byWebSocket(t, target))
	await(p, "is told to wait", func(m *signal.Waiting) bool { return m.Why == signal.WaitAdmission })
	p.send(&signal.Offer{SDP: transportOffer(t), Slots: []string{"0", "1"}, Ref: 3})
	if e := await(p, "is refused", func(m *signal.Error) bool { return true }); e.Ref != 3 || e.Code != signal.NotInside {
		t.Errorf("%+v", e)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target.Base+"/whep", strings.NewReader(transportOffer(t)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/sdp")
	r.Header.Set("Authorization", "Bearer "+sign("clara", ticket.Guest))
	a, err := target.HTTP.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != http.StatusForbidden {
		t.Errorf("a player who waits: %s", a.Status)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.got {
		if _, ok := m.(*signal.Answer); ok {
			t.Error("who waits got an answer")
		}
	}
}

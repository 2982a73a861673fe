package mmr

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun"

	"github.com/parley-meet/parley/services/internal/carrier"
	"github.com/parley-meet/parley/services/internal/handover"
	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// accept returns both ends of a connection of TCP.
func accept(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// On an address that controller and router share, the controller hands over a
// connection of ICE-TCP whose first packet came already, and the router answers on
// it; and it carries WHIP over the bus, by which an encoder publishes.
func TestShared(t *testing.T) {
	o := newOffice(t, 1)
	m, _ := o.router(0)
	anna := o.join("m1", "anna", ticket.Host)
	log := slog.New(slog.DiscardHandler)
	dial := func(lines []transport.Line, media func([][]byte)) (*transport.Client, string) {
		t.Helper()
		c, err := transport.Dial(netip.MustParseAddr("127.0.0.1"), lines, log, media)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		text, err := c.Offer()
		if err != nil {
			t.Fatal(err)
		}
		return c, text
	}
	_, offer := dial([]transport.Line{{Video: true}}, func([][]byte) {})
	anna.send(&signal.Offer{Ref: 1, SDP: offer, Slots: []string{"0"}})
	answer := await(anna, "answered", func(*signal.Answer) bool { return true }).SDP
	attr := func(text, name string) string {
		t.Helper()
		f := regexp.MustCompile(`(?m)^a=` + name + `:(\S+)`).FindStringSubmatch(text)
		if f == nil {
			t.Fatalf("no %s in %s", name, text)
		}
		return f[1]
	}
	if !regexp.MustCompile(`(?m)^a=candidate:.* tcp `).MatchString(answer) {
		t.Errorf("no candidate of TCP in %s", answer)
	}
	request := func(password string) []byte {
		t.Helper()
		b, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(attr(answer, "ice-ufrag")+":"+attr(offer, "ice-ufrag")),
			stun.RawAttribute{Type: stun.AttrPriority, Value: []byte{0x6e, 0, 0, 1}}, stun.RawAttribute{Type: stun.AttrICEControlling, Value: make([]byte, 8)}, stun.NewShortTermIntegrity(password), stun.Fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(b.Raw))), b.Raw...)
	}
	sender := handover.NewSender(m.a.cfg.Handover)
	defer sender.Close()
	client, server := accept(t)
	if _, err := client.Write(request(attr(answer, "ice-pwd"))); err != nil {
		t.Fatal(err)
	}
	if b, err := handover.Peek(server, 1); err != nil || b[0] == 0x16 {
		t.Fatal(b, err)
	}
	if err := sender.Send(server); err != nil {
		t.Fatal(err)
	}
	client.SetReadDeadline(time.Now().Add(30 * time.Second))
	head := make([]byte, 2)
	if _, err := io.ReadFull(client, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head))
	if _, err := io.ReadFull(client, body); err != nil {
		t.Fatal(err)
	}
	got := &stun.Message{Raw: body}
	if err := got.Decode(); err != nil || got.Type != stun.BindingSuccess {
		t.Fatal(got, err)
	}
	if err := stun.NewShortTermIntegrity(attr(answer, "ice-pwd")).Check(got); err != nil {
		t.Error(err)
	}

	// By WHIP, as a controller carries it.
	post := func(path, token, sdp string) carrier.Answer {
		t.Helper()
		a, err := o.carrier.Ask(t.Context(), m.id, carrier.Ask{Method: "POST", Path: path, Body: []byte(sdp), Header: http.Header{
			"Content-Type": {"application/sdp"}, "Authorization": {"Bearer " + token},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	pub := load.NewPublisher(time.Now(), []load.Video{{Frames: 10, Packets: 2, Size: 500, Width: 320, Height: 180}}, false)
	pc, offer := dial([]transport.Line{{Video: true, Send: true}}, pub.Media)
	if a := post("/whip", "junk", offer); a.Status != http.StatusUnauthorized {
		t.Error(a.Status)
	}
	if a := post("/signal", "junk", offer); a.Status != http.StatusNotFound {
		t.Errorf("what is the controller's: %d", a.Status)
	}
	if a := post("/whip", o.ticket(o.claims("m9", "encoder", ticket.Host)), offer); a.Status != http.StatusMisdirectedRequest || !strings.Contains(string(a.Body), "controller") {
		t.Errorf("a meeting that may run elsewhere: %d %s", a.Status, a.Body)
	}
	a := post("/whip", o.ticket(o.claims("m1", "encoder", ticket.Participant)), offer)
	if a.Status != http.StatusCreated {
		t.Fatal(a.Status, string(a.Body))
	}
	if err := pc.Answer(string(a.Body)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-pc.Ready:
	case <-time.After(30 * time.Second):
		t.Fatal("no connection")
	}
	await(anna, "sees the encoder's camera on", func(r *signal.Roster) bool {
		for _, p := range r.People {
			if p.Name == "encoder" && p.Camera {
				return true
			}
		}
		return false
	})
	// With another address all that have media are asked to restart it.
	m.mu.Lock()
	m.addrs = append(m.addrs, netip.MustParseAddr("::1"))
	m.mu.Unlock()
	await(anna, "was asked for an ICE restart", func(*signal.Restart) bool { return true })
}

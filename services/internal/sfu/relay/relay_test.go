package relay

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun"
	"github.com/pion/turn/v4"

	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

type echo struct{}

func (echo) Media(out *wire.Out, from *wire.Path, packets [][]byte) {
	for _, p := range packets {
		out.Commit(from, copy(out.Buffer(len(p)), p))
	}
}

// bench is a relay behind a TCP port.
func bench(t *testing.T) (*Server, *wire.Mux, net.Addr) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	m := wire.NewMux(log)
	s, err := New(m, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, log, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.Serve(c)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		s.Close()
		m.Close()
	})
	return s, m, l.Addr()
}

func client(t *testing.T, at net.Addr, user, password string) (*turn.Client, net.PacketConn, error) {
	t.Helper()
	c, err := net.Dial("tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	tc, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: at.String(), TURNServerAddr: at.String(),
		Conn: turn.NewSTUNConn(c), Username: user, Password: password, Realm: realm,
		RTO: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tc.Close()
		c.Close()
	})
	if err := tc.Listen(); err != nil {
		t.Fatal(err)
	}
	p, err := tc.Allocate()
	return tc, p, err
}

// A participant reaches the router, whatever of its ports he names, and media goes
// both ways.
func TestRelay(t *testing.T) {
	s, m, at := bench(t)
	conn, err := m.Conn("frag")
	if err != nil {
		t.Fatal(err)
	}
	conn.Handle(echo{})
	user, password := s.Credential("7")
	_, p, err := client(t, at, user, password)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []int{8801, 3478} {
		router := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
		ask, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername("frag:x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.WriteTo(ask.Raw, router); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2000)
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		var got stun.Message
		if err := stun.Decode(b[:n], &got); err != nil {
			t.Fatal(err)
		}
		answer, err := stun.Build(&got, stun.BindingSuccess)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.WriteTo(answer.Raw, from); err != nil {
			t.Fatal(err)
		}
		p.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, peer, err := p.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		if peer.String() != router.String() || !stun.IsMessage(b[:n]) {
			t.Fatalf("%d bytes from %v, asked %v", n, peer, router)
		}
		media := append([]byte{0x80, 96}, make([]byte, 1000)...)
		if _, err := p.WriteTo(media, router); err != nil {
			t.Fatal(err)
		}
		if n, _, err = p.ReadFrom(b); err != nil || n != len(media) {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	if n := s.Allocations(); n != 1 {
		t.Errorf("%d allocations", n)
	}
}

// Nobody relays to another machine, without a credential, or with an old one.
func TestRelayRefuses(t *testing.T) {
	s, _, at := bench(t)
	user, password := s.Credential("7")
	tc, p, err := client(t, at, user, password)
	if err != nil {
		t.Fatal(err)
	}
	if err := tc.CreatePermission(&net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80}); err == nil {
		t.Error("a permission for another machine was given")
	}
	if _, err := p.WriteTo([]byte("hello"), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80}); err == nil {
		t.Error("a packet went to another machine")
	}
	for name, c := range map[string][2]string{
		"no such password":  {user, "guess"},
		"a made-up user":    {"9999999999:7", password},
		"an old credential": {"1000000000:7", s.password("1000000000:7")},
		"no time":           {"7", s.password("7")},
	} {
		if _, _, err := client(t, at, c[0], c[1]); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

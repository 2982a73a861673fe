package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun"
)

type handler func(out *Out, from *Path, packets [][]byte)

func (h handler) Media(out *Out, from *Path, packets [][]byte) { h(out, from, packets) }

func newMux(t testing.TB) (*Mux, *Socket) {
	t.Helper()
	m := NewMux(slog.New(slog.DiscardHandler))
	s, err := m.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, s
}

func request(t testing.TB, user string) []byte {
	t.Helper()
	set := []stun.Setter{stun.TransactionID, stun.BindingRequest}
	if user != "" {
		set = append(set, stun.NewUsername(user))
	}
	m, err := stun.Build(set...)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

// agree plays the agent of a conn: it answers the first request.
func agree(t testing.TB, c *Conn) net.Addr {
	t.Helper()
	b := make([]byte, MTU)
	n, from, err := c.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	var m stun.Message
	if err := stun.Decode(b[:n], &m); err != nil {
		t.Fatal(err)
	}
	answer, err := stun.Build(&m, stun.BindingSuccess)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteTo(answer.Raw, from); err != nil {
		t.Fatal(err)
	}
	return from
}

func dial(t testing.TB, s *Socket) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func read(t testing.TB, c net.Conn) []byte {
	t.Helper()
	b := make([]byte, 4096)
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// Media and DTLS of an address go nowhere until the agent has answered it, and go
// to the peer after that. What is sent in a batch arrives whole and in order.
func TestMux(t *testing.T) {
	m, s := newMux(t)
	c, err := m.Conn("here")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 100)
	c.Handle(handler(func(out *Out, from *Path, packets [][]byte) {
		for _, p := range packets {
			got <- string(p[12:])
			for i := range 5 {
				b := out.Buffer(1200)
				n := copy(b, fmt.Sprintf("%s %d", p[12:], i))
				out.Commit(from, n)
			}
		}
	}))
	u := dial(t, s)
	media := func(text string) []byte { return append([]byte{0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, text...) }
	hello := append([]byte{22, 254, 253}, bytes.Repeat([]byte{0}, 20)...)
	for _, b := range [][]byte{media("early"), hello, request(t, "here:there"), media("pending"), request(t, "nobody:there")} {
		if _, err := u.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	agree(t, c)
	read(t, u) // the answer
	if _, err := u.Write(hello); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, MTU)
	if n, _, err := c.ReadFrom(b); err != nil || !bytes.Equal(b[:n], hello) {
		t.Fatalf("%x, %v", b[:n], err)
	}
	if _, err := u.Write(media("valid")); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "valid" {
		t.Fatalf("got %q", text)
	}
	for i := range 5 {
		if text := string(read(t, u)); text != fmt.Sprintf("valid %d", i) {
			t.Fatalf("got %q", text)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.valid) + len(s.pending); n != 0 {
		t.Errorf("%d paths are left", n)
	}
	if s.Stats.Unknown.Load() == 0 {
		t.Error("what nobody asked for was not counted")
	}
}

// Somebody without a user name is told his address, and no more.
func TestSTUN(t *testing.T) {
	_, s := newMux(t)
	u := dial(t, s)
	asked := request(t, "")
	if _, err := u.Write(asked); err != nil {
		t.Fatal(err)
	}
	b := read(t, u)
	var m stun.Message
	if err := stun.Decode(b, &m); err != nil {
		t.Fatal(err)
	}
	var mapped stun.XORMappedAddress
	if err := mapped.GetFrom(&m); err != nil {
		t.Fatal(err)
	}
	if err := stun.Fingerprint.Check(&m); err != nil {
		t.Error(err)
	}
	if mapped.String() != u.LocalAddr().String() {
		t.Errorf("%v is told to be %v", u.LocalAddr(), mapped)
	}
	if len(b) > len(asked)+24 {
		t.Errorf("%d bytes answer %d", len(b), len(asked))
	}
}

// A stream carries the same, and may move to the conn of an ICE restart.
func TestStream(t *testing.T) {
	m, _ := newMux(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			ended <- err
			return
		}
		ended <- m.Serve(c, TCP)
	}()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	write := func(b []byte) {
		t.Helper()
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
			t.Fatal(err)
		}
	}
	frame := func() []byte {
		t.Helper()
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		var l [2]byte
		if _, err := c.Read(l[:1]); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(l[1:]); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, binary.BigEndian.Uint16(l[:]))
		for n := 0; n < len(b); {
			k, err := c.Read(b[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
		return b
	}
	echo := handler(func(out *Out, from *Path, packets [][]byte) {
		for _, p := range packets {
			out.Commit(from, copy(out.Buffer(len(p)), p))
		}
	})
	media := append([]byte{0x80, 96}, bytes.Repeat([]byte{7}, 1000)...)
	for _, ufrag := range []string{"first", "second"} {
		conn, err := m.Conn(ufrag)
		if err != nil {
			t.Fatal(err)
		}
		conn.Handle(echo)
		write(request(t, ufrag+":x"))
		agree(t, conn)
		frame()
		write(media)
		if b := frame(); !bytes.Equal(b, media) {
			t.Fatalf("%x", b)
		}
	}
	m.find([]byte("first")).Close()
	write(media)
	if b := frame(); !bytes.Equal(b, media) {
		t.Fatalf("%x", b)
	}
	m.find([]byte("second")).Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func FuzzSTUN(f *testing.F) {
	f.Add(request(f, "a:b"))
	f.Add(request(f, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		if !isSTUN(b) {
			return
		}
		stunUser(b)
		stunAnswer(nil, b, netip.MustParseAddrPort("[2001:db8::1]:5"))
	})
}

// A port with several readers: clients are spread over them, each one's packets
// come to one, and what is sent to a client leaves by the way that it came.
func TestReaders(t *testing.T) {
	m := NewMux(slog.New(slog.DiscardHandler))
	m.readers = 4
	s, err := m.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	used := map[*Socket]int{}
	for i := range 24 {
		name := fmt.Sprint("c", i)
		c, err := m.Conn(name)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(chan *Socket, 1)
		c.Handle(handler(func(out *Out, from *Path, packets [][]byte) {
			for _, p := range packets {
				out.Commit(from, copy(out.Buffer(MTU), p))
			}
			select {
			case seen <- from.sock:
			default:
			}
		}))
		u := dial(t, s)
		if _, err := u.Write(request(t, name+":x")); err != nil {
			t.Fatal(err)
		}
		agree(t, c)
		read(t, u) // the answer
		for j := range 3 {
			want := append([]byte{0x80, 96, 0, byte(j), 0, 0, 0, 0, 0, 0, 0, 0}, name...)
			if _, err := u.Write(want); err != nil {
				t.Fatal(err)
			}
			if got := read(t, u); !bytes.Equal(got, want) {
				t.Fatalf("%s: %q, want %q", name, got, want)
			}
		}
		used[<-seen]++
	}
	// All of 24 at one of four is as likely as a broken hash.
	if len(used) < 2 {
		t.Errorf("one reader has all clients")
	}
	if got := m.Totals(); got.Received < 24*4 {
		t.Errorf("%+v", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if len(m.sockets) != 0 {
		t.Errorf("%d sockets are still there", len(m.sockets))
	}
	// The port is free again, for somebody who does not share it.
	other, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(s.Addr()))
	if err != nil {
		t.Error(err)
	} else {
		other.Close()
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

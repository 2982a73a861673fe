package wire

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"
)

// pathTo is a way to a socket that this test reads.
func pathTo(t *testing.T, m *Mux, s *Socket) (*Path, *net.UDPConn) {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	remote := netip.MustParseAddrPort(c.LocalAddr().String())
	p := m.newPath(UDP, remote)
	p.sock, p.name = s, newSockaddr(remote, false)
	return p, c
}

// Packets of several sizes go to several paths in turn: each path gets its own,
// whole and in order, in fewer messages than packets, from whatever arena.
func TestOut(t *testing.T) {
	m, s := newMux(t)
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{8 << 10, arenaSize} {
		out := NewOutSize(size)
		paths := make([]*Path, 5)
		conns := make([]*net.UDPConn, len(paths))
		for i := range paths {
			paths[i], conns[i] = pathTo(t, m, s)
		}
		// A path far away has the first one's place among the recent ones.
		paths[4].id = paths[0].id + 3*recentPaths
		before := m.Totals()
		want := make([][][]byte, len(paths))
		sizes := []int{1200, 1200, 1200, 700, 1201, 90}
		for round := range 40 {
			for i, p := range paths {
				n := sizes[(round+r.IntN(2))%len(sizes)]
				b := out.Buffer(n + 30) // more than is used
				for j := range n {
					b[j] = byte(round + i*50 + j)
				}
				want[i] = append(want[i], bytes.Clone(b[:n]))
				out.Commit(p, n)
			}
			if round == 20 {
				out.Flush()
			}
		}
		out.Flush()
		buf := make([]byte, 2*MTU)
		for i, c := range conns {
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			for k, w := range want[i] {
				n, err := c.Read(buf)
				if err != nil || !bytes.Equal(buf[:n], w) {
					t.Fatalf("arena %d, path %d, packet %d: %d bytes, want %d, %v", size, i, k, n, len(w), err)
				}
			}
		}
		after := m.Totals()
		if sent, messages := after.Sent-before.Sent, after.Messages-before.Messages; sent != 200 || messages > 180 {
			t.Errorf("arena %d: %d packets in %d messages", size, sent, messages)
		}
	}
}

// A message with segments that the kernel refuses goes packet by packet.
func TestOutSingly(t *testing.T) {
	m, s := newMux(t)
	p, c := pathTo(t, m, s)
	other, _ := pathTo(t, m, s)
	out := NewOut()
	for range 2 {
		for _, to := range []*Path{p, other} {
			clear(out.Buffer(1000))
			out.Commit(to, 1000)
		}
	}
	if m := &out.msgs[0]; m.count != 2 || m.first == m.last {
		t.Fatalf("%+v", m)
	}
	out.sendSingly(s, &out.msgs[0])
	buf := make([]byte, MTU)
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for range 2 {
		if n, err := c.Read(buf); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
	}
}

package wire

import (
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
)

// Tap is a UDP socket of a client: RTP and RTCP go to a function, and everything
// else to whoever reads it as a net.PacketConn, an ICE agent.
type Tap struct {
	*net.UDPConn
	raw   syscall.RawConn
	media func([][]byte)
	in    *receiver
	batch [][]byte
	n, at int
	Reads atomic.Uint64
}

// NewTap takes a socket. Media is called by the goroutine that reads, with packets
// that are good until it returns.
func NewTap(c *net.UDPConn, media func([][]byte)) (*Tap, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &Tap{UDPConn: c, raw: raw, media: media, in: newReceiver()}, nil
}

// ReadFrom implements net.PacketConn.
func (t *Tap) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		for t.at < t.n {
			i := t.at
			t.at++
			if p := t.in.packet(i); !isMedia(p) {
				from := t.in.from(i)
				return copy(b, p), net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.Addr().Unmap(), from.Port())), nil
			}
		}
		n, err := t.in.read(t.raw)
		if err != nil {
			return 0, nil, err
		}
		t.Reads.Add(1)
		t.n, t.at = n, 0
		t.batch = t.batch[:0]
		for i := range n {
			if p := t.in.packet(i); isMedia(p) {
				t.batch = append(t.batch, p)
			}
		}
		if len(t.batch) > 0 {
			t.media(t.batch)
		}
	}
}

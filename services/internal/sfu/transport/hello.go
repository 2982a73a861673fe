package transport

import (
	"encoding/binary"
	"net"
	"slices"
	"sync"

	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// The library takes the first profile of SRTP that the client names and the server
// knows, and Chromium names AES-CM first, whose sealing takes six times as long as
// GCM's. So the ClientHello is looked at before the handshake begins: if GCM is in
// it, the library is told that we know nothing else.

// maxHello bounds a ClientHello, bytes; with a post-quantum key share it has some
// 1,500.
const maxHello = 8 << 10

// maxHeld packets of DTLS wait until the ClientHello is whole.
const maxHeld = 16

// gate holds a peer's DTLS back until its ClientHello was seen and the handshake
// has begun.
type gate struct {
	seen chan struct{} // closed when gcm is set
	gcm  bool

	mu    sync.Mutex
	hello hello
	held  []heldPacket
	told  bool
	open  bool
}

type heldPacket struct {
	b    []byte
	from net.Addr
}

func newGate() *gate { return &gate{seen: make(chan struct{})} }

// hold takes a packet of DTLS, unless the gate is open.
func (g *gate) hold(b []byte, from net.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		return false
	}
	if len(g.held) < maxHeld {
		g.held = append(g.held, heldPacket{slices.Clone(b), from})
	}
	if body, bad := g.hello.add(b); (body != nil || bad) && !g.told {
		// One that cannot be read is the library's to refuse.
		g.told, g.gcm = true, offersGCM(body)
		close(g.seen)
	}
	return true
}

// pass opens the gate and returns what it held.
func (g *gate) pass() []heldPacket {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	held := g.held
	g.held = nil
	return held
}

// hello puts a ClientHello together from its fragments (RFC 6347, 4.2.3).
type hello struct {
	body []byte
	have []bool // of each byte
	left int
}

// add takes a datagram. It returns the message when it is whole, and says if there
// will be none.
func (h *hello) add(b []byte) (body []byte, bad bool) {
	const (
		recordHeader = 13
		header       = 12
		handshake    = 22
		clientHello  = 1
	)
	for len(b) >= recordHeader {
		n := int(binary.BigEndian.Uint16(b[11:]))
		if b[0] != handshake || len(b) < recordHeader+n || n < header {
			return nil, true
		}
		f := b[recordHeader : recordHeader+n]
		b = b[recordHeader+n:]
		length := uint24(f[1:])
		at, size := uint24(f[6:]), uint24(f[9:])
		if f[0] != clientHello || length == 0 || length > maxHello || at+size > length || header+size > len(f) {
			return nil, true
		}
		if h.body == nil {
			h.body, h.have, h.left = make([]byte, length), make([]bool, length), length
		}
		if len(h.body) != length {
			return nil, true
		}
		copy(h.body[at:], f[header:header+size])
		for i := at; i < at+size; i++ {
			if !h.have[i] {
				h.have[i] = true
				h.left--
			}
		}
		if h.left == 0 {
			return h.body, false
		}
	}
	return nil, false
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// offersGCM looks for AES128GCM in the extension use_srtp (RFC 5764, 4.1.1) of a
// ClientHello (RFC 6347, 4.2.1).
func offersGCM(b []byte) bool {
	const useSRTP = 14
	// skip passes over a vector whose length has so many bytes.
	skip := func(lengthBytes int) bool {
		if len(b) < lengthBytes {
			return false
		}
		n := 0
		for _, x := range b[:lengthBytes] {
			n = n<<8 | int(x)
		}
		if len(b) < lengthBytes+n {
			return false
		}
		b = b[lengthBytes+n:]
		return true
	}
	if len(b) < 34 {
		return false
	}
	b = b[34:]                                                      // version, random
	if !skip(1) || !skip(1) || !skip(2) || !skip(1) || len(b) < 2 { // session, cookie, suites, compression
		return false
	}
	b = b[2:]
	for len(b) >= 4 {
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < 4+n {
			return false
		}
		if v := b[4 : 4+n]; kind == useSRTP && n >= 2 {
			list := v[2:min(n, 2+int(binary.BigEndian.Uint16(v)))]
			for ; len(list) >= 2; list = list[2:] {
				if binary.BigEndian.Uint16(list) == uint16(wire.AES128GCM) {
					return true
				}
			}
			return false
		}
		b = b[4+n:]
	}
	return false
}

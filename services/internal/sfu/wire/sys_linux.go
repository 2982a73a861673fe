package wire

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes of batches.
const (
	// receiveBatch packets are read at once: 64 of 1,500 bytes are a millisecond of
	// a fast link, and what is read later has waited in the kernel all the same.
	receiveBatch = 64
	// MTU bounds a packet that is read; longer ones are dropped whole.
	MTU = 1500
	// sendBatch messages leave at once, at most.
	sendBatch = 256
	// maxSegments is the kernel's UDP_MAX_SEGMENTS before 6.2.
	maxSegments = 64
	// maxMessage bounds the bytes of a message with segments: the length field of
	// UDP counts its header, and that of IPv4 both headers.
	maxMessage = 65535 - 20 - 8
)

// mmsghdr is struct mmsghdr of recvmmsg(2) on 64-bit machines.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// shared lets several sockets have one port (net.ListenConfig.Control).
func shared(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, set)
}

// sockaddr is a raw address of either family, as the kernel wants it.
type sockaddr struct {
	raw unix.RawSockaddrInet6 // or RawSockaddrInet4, which is smaller
	len uint32
}

func newSockaddr(a netip.AddrPort, v6 bool) sockaddr {
	var s sockaddr
	if !v6 {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
		in.Family = unix.AF_INET
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&in.Port))[:], a.Port())
		in.Addr = a.Addr().Unmap().As4()
		s.len = unix.SizeofSockaddrInet4
		return s
	}
	s.raw.Family = unix.AF_INET6
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&s.raw.Port))[:], a.Port())
	s.raw.Addr = a.Addr().As16()
	s.len = unix.SizeofSockaddrInet6
	return s
}

func (s *sockaddr) addrPort() netip.AddrPort {
	switch s.raw.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&in.Port))[:]))
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.raw.Addr), binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&s.raw.Port))[:]))
	}
	return netip.AddrPort{}
}

// receiver reads batches.
type receiver struct {
	buf   []byte // receiveBatch * MTU+1
	names [receiveBatch]unix.RawSockaddrInet6
	iov   [receiveBatch]unix.Iovec
	msgs  [receiveBatch]mmsghdr
	n     int
	// Of the packets, for who reads them.
	paths   [receiveBatch]*Path
	packets [receiveBatch][]byte
	errno   syscall.Errno
	try     func(fd uintptr) bool // one closure for all calls
	once    func(fd uintptr) bool // the same, and does not wait
}

func newReceiver() *receiver {
	r := &receiver{buf: make([]byte, receiveBatch*(MTU+1))}
	for i := range r.msgs {
		b := r.buf[i*(MTU+1) : (i+1)*(MTU+1)]
		r.iov[i] = unix.Iovec{Base: &b[0], Len: uint64(len(b))}
		r.msgs[i].hdr.Iov, r.msgs[i].hdr.Iovlen = &r.iov[i], 1
		r.msgs[i].hdr.Name = (*byte)(unsafe.Pointer(&r.names[i]))
	}
	r.try = func(fd uintptr) bool {
		for i := range r.msgs {
			r.msgs[i].hdr.Namelen = unix.SizeofSockaddrInet6
		}
		for {
			n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.msgs[0])), receiveBatch, unix.MSG_DONTWAIT, 0, 0)
			if errno == unix.EINTR {
				continue
			}
			r.n, r.errno = int(n), errno
			return errno != unix.EAGAIN
		}
	}
	r.once = func(fd uintptr) bool {
		r.try(fd)
		return true
	}
	return r
}

// more takes what is there already, and does not wait. 0 is nothing, or an error
// that read will meet again.
func (r *receiver) more(c syscall.RawConn) int {
	if err := c.Read(r.once); err != nil || r.errno != 0 {
		return 0
	}
	return r.n
}

// read waits for packets. It returns how many there are.
func (r *receiver) read(c syscall.RawConn) (int, error) {
	if err := c.Read(r.try); err != nil {
		return 0, err
	}
	if r.errno != 0 {
		return 0, r.errno
	}
	return r.n, nil
}

// packet is the i-th, which is good until the next read; nil if it was too long.
func (r *receiver) packet(i int) []byte {
	n := int(r.msgs[i].n)
	if n > MTU {
		return nil
	}
	return r.buf[i*(MTU+1) : i*(MTU+1)+n]
}

func (r *receiver) from(i int) netip.AddrPort {
	return (&sockaddr{raw: r.names[i]}).addrPort()
}

// segmentControl is a control message that holds UDP_SEGMENT.
type segmentControl struct {
	hdr  unix.Cmsghdr
	size uint16
	_    [6]byte
}

// sender writes batches.
type sender struct {
	iov   []unix.Iovec
	ctl   []segmentControl
	msgs  []mmsghdr
	used  int // of iov
	from  int // in iov, the next message's first
	first int
	last  int
	errno syscall.Errno
	try   func(fd uintptr) bool
}

// newSender makes one for so many messages, of twice as many pieces.
func newSender(batch int) *sender {
	s := &sender{iov: make([]unix.Iovec, 2*batch), ctl: make([]segmentControl, batch), msgs: make([]mmsghdr, batch)}
	for i := range s.ctl {
		s.ctl[i].hdr = unix.Cmsghdr{Level: unix.SOL_UDP, Type: unix.UDP_SEGMENT}
		s.ctl[i].hdr.SetLen(unix.CmsgLen(2))
	}
	s.try = func(fd uintptr) bool {
		for s.first < s.last {
			n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.msgs[s.first])), uintptr(s.last-s.first), unix.MSG_DONTWAIT, 0, 0)
			switch errno {
			case 0:
				s.first += int(n)
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				s.errno = errno
				return true
			}
		}
		return true
	}
	return s
}

// begin begins a run of messages.
func (s *sender) begin() { s.used, s.from = 0, 0 }

// add adds a piece to the message that set makes next.
func (s *sender) add(b []byte) {
	s.iov[s.used] = unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	s.used++
}

// set makes the i-th message, of n bytes to a, cut into packets of segment bytes if
// that is less than all.
func (s *sender) set(i int, a *sockaddr, n, segment int) {
	h := &s.msgs[i].hdr
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&a.raw)), a.len
	h.Iov = &s.iov[s.from]
	h.SetIovlen(s.used - s.from)
	s.from = s.used
	if segment < n {
		s.ctl[i].size = uint16(segment)
		h.Control = (*byte)(unsafe.Pointer(&s.ctl[i]))
		h.SetControllen(unix.CmsgSpace(2))
	} else {
		h.Control = nil
		h.SetControllen(0)
	}
}

// write sends messages from first to last. It waits while the kernel's buffer is
// full, and returns where it stopped and why: the message there was refused.
func (s *sender) write(c syscall.RawConn, first, last int) (int, error) {
	s.first, s.last, s.errno = first, last, 0
	if err := c.Write(s.try); err != nil {
		return s.first, err
	}
	if s.errno != 0 {
		return s.first, s.errno
	}
	return last, nil
}

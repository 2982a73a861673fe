package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Wire opens ways to DHCP servers.
type Wire interface {
	// Open returns a connection from port 68. Without an own address it works
	// on an interface that has none, and only sends to everybody.
	Open(from netip.Addr) (Conn, error)
}

// Conn carries DHCP messages. Receive may be called while Send is; Close ends
// both.
type Conn interface {
	Send(b []byte, to netip.Addr) error // to port 67
	Receive(b []byte) (int, error)      // the length of the next message
	Close() error
}

// Sockets is the Wire of the named interface. Without an own address it is a
// packet socket (CAP_NET_RAW), with one a UDP socket on port 68
// (CAP_NET_BIND_SERVICE).
type Sockets struct{ Interface string }

// Open implements Wire.
func (s Sockets) Open(from netip.Addr) (Conn, error) {
	ifc, err := net.InterfaceByName(s.Interface)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", s.Interface, err)
	}
	if from.IsValid() {
		return openUDP(ifc, from)
	}
	return openPacket(ifc)
}

// dhcpOnly lets through whole IPv4 packets with UDP to the client's port, so
// that the interface's other traffic does not wake this process up. Offsets
// are those of the IP header (RFC 791, 3.1).
var dhcpOnly = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 9, Size: 1}, // protocol
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 6},
	bpf.LoadAbsolute{Off: 6, Size: 2}, // more fragments, fragment offset
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 4},
	bpf.LoadMemShift{Off: 0},          // header length
	bpf.LoadIndirect{Off: 2, Size: 2}, // UDP's destination port
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nclient4.ClientPort, SkipTrue: 1},
	bpf.RetConstant{Val: 0xffff},
	bpf.RetConstant{Val: 0},
}

type packetConn struct{ net.PacketConn }

func openPacket(ifc *net.Interface) (Conn, error) {
	filter, err := bpf.Assemble(dhcpOnly)
	if err != nil {
		return nil, err
	}
	raw, err := packet.Listen(ifc, packet.Datagram, unix.ETH_P_IP, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("packet socket on %s: %w", ifc.Name, err)
	}
	return &packetConn{nclient4.NewBroadcastUDPConn(raw, &net.UDPAddr{Port: nclient4.ClientPort})}, nil
}

func (c *packetConn) Send(b []byte, to netip.Addr) error {
	_, err := c.WriteTo(b, &net.UDPAddr{IP: to.AsSlice(), Port: nclient4.ServerPort})
	return err
}

func (c *packetConn) Receive(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	return n, err
}

type udpConn struct {
	*net.UDPConn
	source []byte // control message that names the own address
}

// openUDP binds to every address, because a NAK goes to the broadcast address,
// but to the interface alone.
func openUDP(ifc *net.Interface, from netip.Addr) (Conn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.BindToDevice(int(fd), ifc.Name),
			)
		})
		return errors.Join(cerr, err)
	}}
	pc, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf("0.0.0.0:%d", nclient4.ClientPort))
	if err != nil {
		return nil, fmt.Errorf("UDP socket on %s: %w", ifc.Name, err)
	}
	info := &unix.Inet4Pktinfo{Ifindex: int32(ifc.Index), Spec_dst: from.As4()}
	return &udpConn{pc.(*net.UDPConn), unix.PktInfo4(info)}, nil
}

func (c *udpConn) Send(b []byte, to netip.Addr) error {
	_, _, err := c.WriteMsgUDPAddrPort(b, c.source, netip.AddrPortFrom(to, nclient4.ServerPort))
	return err
}

func (c *udpConn) Receive(b []byte) (int, error) {
	n, _, err := c.ReadFromUDPAddrPort(b)
	return n, err
}

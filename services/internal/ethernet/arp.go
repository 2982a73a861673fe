package ethernet

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Times of a probe. RFC 5227, 1.1 takes up to 7 s, for links of any kind; here
// an administrator waits, and a neighbour on an Ethernet answers in
// milliseconds.
const (
	probes     = 3
	probeEvery = 250 * time.Millisecond
	probeWait  = 400 * time.Millisecond // after the last
)

// An ARP packet of IPv4 on Ethernet (RFC 826).
const arpSize = 28

const (
	arpRequest = 1
	arpReply   = 2
)

type arpPacket struct {
	op       uint16
	sender   net.HardwareAddr
	senderIP netip.Addr
	target   net.HardwareAddr
	targetIP netip.Addr
}

// arpHead is Ethernet, IPv4, and the lengths of their addresses.
var arpHead = []byte{0, 1, 8, 0, 6, 4}

func (p arpPacket) marshal() []byte {
	b := append(make([]byte, 0, arpSize), arpHead...)
	b = binary.BigEndian.AppendUint16(b, p.op)
	b = append(b, p.sender...)
	b = append(b, p.senderIP.AsSlice()...)
	b = append(b, p.target...)
	return append(b, p.targetIP.AsSlice()...)
}

// parseARP reads an ARP packet; padding may follow it.
func parseARP(b []byte) (arpPacket, error) {
	if len(b) < arpSize {
		return arpPacket{}, fmt.Errorf("ARP packet of %d bytes, want %d", len(b), arpSize)
	}
	if !bytes.Equal(b[:6], arpHead) {
		return arpPacket{}, fmt.Errorf("ARP packet of %x, want %x", b[:6], arpHead)
	}
	return arpPacket{
		op:       binary.BigEndian.Uint16(b[6:]),
		sender:   bytes.Clone(b[8:14]),
		senderIP: netip.AddrFrom4([4]byte(b[14:])),
		target:   bytes.Clone(b[18:24]),
		targetIP: netip.AddrFrom4([4]byte(b[24:])),
	}, nil
}

// claims reports whether the packet shows that another machine has the address
// or is about to take it (RFC 5227, 2.1.1).
func (p arpPacket) claims(a netip.Addr, self net.HardwareAddr) bool {
	if bytes.Equal(p.sender, self) {
		return false
	}
	return p.senderIP == a || p.op == arpRequest && p.senderIP.IsUnspecified() && p.targetIP == a
}

var (
	everybody = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	nobody    = net.HardwareAddr{0, 0, 0, 0, 0, 0}
)

// arpSocket opens a packet socket (CAP_NET_RAW).
func (n Linux) arpSocket(filter []bpf.Instruction) (*packet.Conn, net.HardwareAddr, error) {
	ifc, err := net.InterfaceByName(string(n))
	if err != nil {
		return nil, nil, fmt.Errorf("interface %s: %w", string(n), err)
	}
	if len(ifc.HardwareAddr) != 6 {
		return nil, nil, fmt.Errorf("interface %s: hardware address %v is not of an Ethernet", string(n), ifc.HardwareAddr)
	}
	prog, err := bpf.Assemble(filter)
	if err != nil {
		return nil, nil, err
	}
	c, err := packet.Listen(ifc, packet.Datagram, unix.ETH_P_ARP, &packet.Config{Filter: prog})
	if err != nil {
		return nil, nil, fmt.Errorf("packet socket on %s: %w", string(n), err)
	}
	return c, ifc.HardwareAddr, nil
}

// Probe implements Kernel.
func (n Linux) Probe(ctx context.Context, a netip.Addr) (net.HardwareAddr, error) {
	c, self, err := n.arpSocket(nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	question := arpPacket{op: arpRequest, sender: self, senderIP: netip.IPv4Unspecified(), target: nobody, targetIP: a}
	buf := make([]byte, 128)
	for i := range probes {
		if _, err := c.WriteTo(question.marshal(), &packet.Addr{HardwareAddr: everybody}); err != nil {
			return nil, fmt.Errorf("ARP probe for %v on %s: %w", a, string(n), err)
		}
		wait := probeEvery
		if i == probes-1 {
			wait = probeWait
		}
		c.SetReadDeadline(time.Now().Add(wait))
		for ctx.Err() == nil {
			k, _, err := c.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("ARP on %s: %w", string(n), err)
			}
			if p, err := parseARP(buf[:k]); err == nil && p.claims(a, self) {
				return p.sender, nil
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, nil
}

// Conflicts implements Kernel.
func (n Linux) Conflicts(ctx context.Context, own []netip.Addr, f func(netip.Addr, net.HardwareAddr)) error {
	c, self, err := n.arpSocket(othersOf(own))
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 128)
	for {
		k, _, err := c.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ARP on %s: %w", string(n), err)
		}
		if p, err := parseARP(buf[:k]); err == nil && slices.Contains(own, p.senderIP) && !bytes.Equal(p.sender, self) {
			f(p.senderIP, p.sender)
		}
	}
}

// othersOf lets ARP packets through whose sender says that one of the addresses
// is his, so that the link's other traffic does not wake this process up.
func othersOf(own []netip.Addr) []bpf.Instruction {
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: 14, Size: 4}}
	for i, a := range own {
		v4 := a.As4()
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(v4[:]), SkipTrue: uint8(len(own) - i)})
	}
	return append(prog, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: 0xffff})
}

// Announce implements Kernel.
func (n Linux) Announce(a netip.Addr) error {
	c, self, err := n.arpSocket(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	p := arpPacket{op: arpRequest, sender: self, senderIP: a, target: nobody, targetIP: a}
	if _, err := c.WriteTo(p.marshal(), &packet.Addr{HardwareAddr: everybody}); err != nil {
		return fmt.Errorf("ARP announcement of %v on %s: %w", a, string(n), err)
	}
	return nil
}

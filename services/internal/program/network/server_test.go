package network

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// scripted is a DHCP server for leases that ordinary ones do not give.
type scripted struct {
	l      *lab
	udp    *net.UDPConn // port 67
	raw    *packet.Conn // whole Ethernet frames
	lease  netip.Prefix
	length time.Duration
	more   []dhcpv4.Option

	mu     sync.Mutex
	quiet  bool
	bad    bool
	heard  []string
	random *rand.Rand
}

// scripted starts a server that gives one lease, with options.
func (l *lab) scripted(lease netip.Prefix, length time.Duration, options ...dhcpv4.Option) *scripted {
	l.t.Helper()
	v := &scripted{l: l, lease: lease, length: length, more: options, random: rand.New(rand.NewPCG(1, 2))}
	l.server.Must(func() error {
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
			cerr := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
				if err == nil {
					err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
				}
				if err == nil {
					err = unix.BindToDevice(int(fd), "br0")
				}
			})
			if cerr != nil {
				return cerr
			}
			return err
		}}
		c, err := lc.ListenPacket(context.Background(), "udp4", "0.0.0.0:67")
		if err != nil {
			return err
		}
		v.udp = c.(*net.UDPConn)
		ifc, err := net.InterfaceByName("br0")
		if err != nil {
			return err
		}
		v.raw, err = packet.Listen(ifc, packet.Raw, unix.ETH_P_LOOP, nil) // hears nothing
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.serve()
	}()
	l.t.Cleanup(func() {
		v.udp.Close()
		v.raw.Close()
		<-done
	})
	return v
}

func (v *scripted) silence(on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.quiet = on
}

func (v *scripted) hostile(on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.bad = on
}

// until waits for what was heard, in words.
func (v *scripted) until(what string, good func(heard []string) bool) {
	v.l.t.Helper()
	v.l.wait(what, func() error {
		v.mu.Lock()
		heard := slices.Clone(v.heard)
		v.mu.Unlock()
		if len(heard) == 0 || !good(slices.Clone(heard)) {
			return fmt.Errorf("heard %q", heard)
		}
		return nil
	})
}

func (v *scripted) serve() {
	buf, oob := make([]byte, 1500), make([]byte, 200)
	for {
		n, k, _, _, err := v.udp.ReadMsgUDP(buf, oob)
		if err != nil {
			return
		}
		req, err := dhcpv4.FromBytes(buf[:n])
		if err != nil {
			continue
		}
		words := req.MessageType().String()
		if !req.ClientIPAddr.IsUnspecified() {
			words += " as " + req.ClientIPAddr.String()
			if info, err := unix.ParseSocketControlMessage(oob[:k]); err == nil && len(info) == 1 && net.IP(info[0].Data[8:12]).Equal(net.IPv4bcast) {
				words += " to everybody"
			}
		}
		v.mu.Lock()
		v.heard = append(v.heard, words)
		quiet, bad := v.quiet, v.bad
		v.mu.Unlock()
		if quiet {
			continue
		}
		if bad {
			v.annoy(req)
		}
		v.reply(req)
	}
}

// answer is the good answer to req, nil if there is none.
func (v *scripted) answer(req *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	kind := dhcpv4.MessageTypeAck
	switch req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
	default:
		return nil
	}
	m, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(v.lease.Addr().AsSlice()),
		dhcpv4.WithNetmask(net.CIDRMask(v.lease.Bits(), 32)), dhcpv4.WithServerIP(serverIP.AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(serverIP.AsSlice())), dhcpv4.WithLeaseTime(uint32(v.length/time.Second)))
	if err != nil {
		panic(err) // the request was read
	}
	for _, o := range v.more {
		m.UpdateOption(o)
	}
	return m
}

func (v *scripted) reply(req *dhcpv4.DHCPv4) {
	if m := v.answer(req); m != nil {
		v.udp.WriteToUDP(m.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
	}
}

// frame is an Ethernet frame from the server to the appliance with UDP to the
// DHCP client's port.
func frame(payload []byte) []byte {
	b := append(append(append([]byte{}, clientMAC...), 2, 0, 0, 0, 0, 0xff), 8, 0)
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(28+len(payload)))
	copy(ip[12:], serverIP.AsSlice())
	copy(ip[16:], net.IPv4bcast.To4())
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	b = append(b, ip...)
	b = binary.BigEndian.AppendUint16(b, 67)
	b = binary.BigEndian.AppendUint16(b, 68)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...) // no checksum
}

// annoy sends what no server sends, before the good answer.
func (v *scripted) annoy(req *dhcpv4.DHCPv4) {
	send := func(b []byte) { v.raw.WriteTo(b, &packet.Addr{HardwareAddr: clientMAC}) }
	good := v.answer(req)
	if good == nil {
		return
	}
	with := func(change func(*dhcpv4.DHCPv4)) []byte {
		m := v.answer(req)
		change(m)
		return m.ToBytes()
	}
	option := func(code uint8, value ...byte) []byte {
		return with(func(m *dhcpv4.DHCPv4) { m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), value)) })
	}
	// Messages that are none, or none that can be used.
	noise := make([]byte, 400)
	for i := range noise {
		noise[i] = byte(v.random.Uint32())
	}
	for _, payload := range [][]byte{
		nil, noise, good.ToBytes()[:100], good.ToBytes()[:239], append(good.ToBytes()[:240], 53, 200, 5),
		with(func(m *dhcpv4.DHCPv4) { m.TransactionID[0]++ }),
		with(func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = net.HardwareAddr{2, 2, 2, 2, 2, 2} }),
		with(func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IPv4bcast }),
		with(func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IPv4zero }),
		with(func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IP{127, 0, 0, 1} }),
		option(53), option(53, 1, 2, 3), option(53, 77), option(1, 255, 0, 255, 0), option(1, 1), option(51), option(51, 0, 0, 0, 0), option(54), option(54, 1),
	} {
		send(frame(payload))
	}
	whole := frame(good.ToBytes())
	// Headers that lie about lengths. (That of UDP does not count: IP tells it.)
	for _, lie := range []func(b []byte) []byte{
		func(b []byte) []byte { b[14] = 0x40; return b },
		func(b []byte) []byte { b[14] = 0x4f; return b },
		func(b []byte) []byte { b[14] = 0x65; return b },
		func(b []byte) []byte { binary.BigEndian.PutUint16(b[16:], 0xffff); return b },
		func(b []byte) []byte { binary.BigEndian.PutUint16(b[16:], 20); return b },
		func(b []byte) []byte { binary.BigEndian.PutUint16(b[16:], 27); return b },
		func(b []byte) []byte { binary.BigEndian.PutUint16(b[38:], 0); return b },
		func(b []byte) []byte { binary.BigEndian.PutUint16(b[38:], 0xffff); return b },
		func(b []byte) []byte { b[20] |= 0x20; return b },
		func(b []byte) []byte { return b[:14] },
		func(b []byte) []byte { return b[:30] },
		func(b []byte) []byte { return b[:42] },
		func(b []byte) []byte { return b[:60] },
	} {
		send(lie(slices.Clone(whole)))
	}
	// The good answer itself has options that cannot be used.
	v.more = []dhcpv4.Option{
		dhcpv4.OptGeneric(dhcpv4.OptionRouter, []byte{192, 0, 2}), dhcpv4.OptGeneric(dhcpv4.OptionDomainNameServer, []byte{224, 0, 0, 1, 127, 0, 0, 1}),
		dhcpv4.OptGeneric(dhcpv4.OptionDNSDomainSearchList, []byte("\x05a\nb c\x00\xc0\xff")), dhcpv4.OptGeneric(dhcpv4.OptionDomainName, []byte("\x1b[2J\nnameserver 203.0.113.66")),
		dhcpv4.OptGeneric(dhcpv4.OptionHostName, []byte("a\x00b")), dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{0, 1}),
		dhcpv4.OptGeneric(dhcpv4.OptionClasslessStaticRoute, []byte{99, 1, 2, 3}), dhcpv4.OptGeneric(dhcpv4.OptionNTPServers, []byte{1}),
	}
}

package diagnose

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pings    = 4
	interval = time.Second
	maxHops  = 30
	hopWait  = 3 * time.Second
	tries    = 3     // a hop
	baseUDP  = 33434 // the first port of traceroute, where nobody listens
	slice    = 50 * time.Millisecond
)

// probe is a connected socket that gets its ICMP errors.
type probe struct {
	fd int
	v6 bool
}

// reply is what came back: an echo, or an ICMP error of somebody on the way.
type reply struct {
	from netip.Addr
	echo bool
	kind byte // ICMP type and code
	code byte
	wait time.Duration
}

func open(a netip.Addr, icmp bool, port int) (*probe, error) {
	family, proto := unix.AF_INET, unix.IPPROTO_UDP
	if a.Is6() {
		family = unix.AF_INET6
	}
	if icmp {
		proto = unix.IPPROTO_ICMP
		if a.Is6() {
			proto = unix.IPPROTO_ICMPV6
		}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, err
	}
	p := &probe{fd, a.Is6()}
	var to unix.Sockaddr
	if p.v6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		s := &unix.SockaddrInet6{Port: port, Addr: a.As16()}
		if i, ierr := net.InterfaceByName(a.Zone()); ierr == nil {
			s.ZoneId = uint32(i.Index)
		}
		to = s
	} else {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		to = &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	}
	if err = errors.Join(err, unix.Connect(fd, to)); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *probe) close() { unix.Close(p.fd) }

func (p *probe) hops(n int) error {
	if p.v6 {
		return unix.SetsockoptInt(p.fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, n)
	}
	return unix.SetsockoptInt(p.fd, unix.IPPROTO_IP, unix.IP_TTL, n)
}

// echo returns an echo request; the kernel fills in identifier and checksum.
func (p *probe) echo(seq int) []byte {
	b := make([]byte, 64)
	b[0] = 8
	if p.v6 {
		b[0] = 128
	}
	binary.BigEndian.PutUint16(b[6:], uint16(seq))
	for i := 8; i < len(b); i++ {
		b[i] = byte(i)
	}
	return b
}

// send writes, past an error of an earlier probe that the socket still holds.
func (p *probe) send(b []byte) error {
	_, err := unix.Write(p.fd, b)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) {
		_, err = unix.Write(p.fd, b)
	}
	return err
}

// wait returns what comes back until the deadline; nil is nothing. seq is that
// of the echo that is waited for.
func (p *probe) wait(ctx context.Context, start time.Time, d time.Duration, seq int) *reply {
	buf, oob := make([]byte, 1500), make([]byte, 512)
	for ctx.Err() == nil {
		left := d - time.Since(start)
		if left <= 0 {
			return nil
		}
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(min(left, slice)/time.Millisecond)+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil
		}
		if n <= 0 {
			continue
		}
		took := time.Since(start)
		if _, on, _, _, err := unix.Recvmsg(p.fd, buf, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err == nil {
			if r := parseError(oob[:on]); r != nil {
				r.wait = took
				return r
			}
			continue
		}
		m, _, err := unix.Recvfrom(p.fd, buf, unix.MSG_DONTWAIT)
		want := byte(0)
		if p.v6 {
			want = 129
		}
		if err == nil && m >= 8 && buf[0] == want && binary.BigEndian.Uint16(buf[6:]) == uint16(seq) {
			return &reply{echo: true, wait: took}
		}
	}
	return nil
}

// parseError reads the control messages of an error queue: struct
// sock_extended_err and the address of who complains (ip(7), ipv6(7)).
func parseError(oob []byte) *reply {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range list {
		v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		b := m.Data
		if !v4 && !v6 || len(b) < 16 {
			continue
		}
		const local, icmp, icmp6 = 1, 2, 3 // SO_EE_ORIGIN
		r := &reply{kind: b[5], code: b[6]}
		switch {
		case b[4] == icmp && r.kind != 3 && r.kind != 11 && r.kind != 12, b[4] == icmp6 && r.kind > 4:
			continue // a redirect is no failure
		case b[4] == local:
			r.kind = 3 // the machine itself has no way
		case v4 && b[4] == icmp && len(b) >= 24:
			r.from = netip.AddrFrom4([4]byte(b[20:24]))
		case v6 && b[4] == icmp6 && len(b) >= 40:
			r.from = netip.AddrFrom16([16]byte(b[24:40]))
		default:
			continue
		}
		return r
	}
	return nil
}

// passed reports whether the error says that a probe's hops were used up.
func (r *reply) passed(v6 bool) bool {
	if v6 {
		return r.kind == 3
	}
	return r.kind == 11
}

// port reports whether the error says that nobody listens at a port: the probe
// has arrived.
func (r *reply) port(v6 bool) bool {
	if v6 {
		return r.kind == 1 && r.code == 4
	}
	return r.kind == 3 && r.code == 3
}

func (j *job) openError(err error) {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		j.say("icmp.denied")
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EADDRNOTAVAIL):
		j.say("route.none")
	default:
		j.say("error", err.Error())
	}
}

func (j *job) ping(ctx context.Context) {
	list := j.resolve(ctx, j.host)
	if len(list) == 0 {
		return
	}
	a := list[0]
	j.say("ping.start", j.host, a.String(), pings)
	p, err := open(a, true, 0)
	if err != nil {
		j.openError(err)
		return
	}
	defer p.close()
	var best, worst, sum time.Duration
	sent, got := 0, 0
	for seq := 1; seq <= pings && ctx.Err() == nil && j.err == nil; seq++ {
		start := time.Now()
		if err := p.send(p.echo(seq)); err != nil {
			j.openError(err)
		}
		sent++
		switch r := p.wait(ctx, start, interval, seq); {
		case r == nil:
			j.say("ping.none", seq)
		case r.echo:
			got++
			best, worst, sum = min(best, r.wait), max(worst, r.wait), sum+r.wait
			if got == 1 {
				best = r.wait
			}
			j.say("ping.answer", seq, a.String(), milliseconds(r.wait))
		case r.from.IsValid():
			j.say("ping.unreachable", seq, r.from.String())
		default:
			j.say("route.none")
		}
		if seq < pings {
			select {
			case <-ctx.Done():
			case <-time.After(interval - time.Since(start)):
			}
		}
	}
	if got == 0 {
		j.say("ping.silent", sent)
		return
	}
	j.say("ping.statistics", sent, got, 100*(sent-got)/sent)
	j.say("ping.times", milliseconds(best), milliseconds(sum/time.Duration(got)), milliseconds(worst))
}

func (j *job) traceroute(ctx context.Context) {
	list := j.resolve(ctx, j.host)
	if len(list) == 0 {
		return
	}
	a := list[0]
	j.say("trace.start", j.host, a.String(), maxHops)
	for hop := 1; hop <= maxHops && ctx.Err() == nil && j.err == nil; hop++ {
		r, err := trace(ctx, a, hop)
		switch {
		case err != nil:
			j.openError(err)
			return
		case ctx.Err() != nil:
			return
		case r == nil:
			j.say("trace.none", hop)
			continue
		case !r.from.IsValid():
			j.say("route.none")
			return
		}
		j.say("trace.hop", hop, r.from.String(), milliseconds(r.wait))
		switch v6 := a.Is6(); {
		case r.passed(v6):
		case r.port(v6) || r.from == a:
			j.say("trace.arrived", hop)
			return
		default:
			j.say("trace.unreachable", r.from.String(), int(r.kind), int(r.code))
			return
		}
	}
	if ctx.Err() == nil {
		j.say("trace.far", maxHops)
	}
}

// trace asks who is at a distance; nil is nobody who answers. Each hop has a
// socket of its own, so that a late answer counts for no other.
func trace(ctx context.Context, a netip.Addr, hop int) (*reply, error) {
	p, err := open(a, false, baseUDP+hop)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.hops(hop); err != nil {
		return nil, err
	}
	for range tries {
		start := time.Now()
		if err := p.send(make([]byte, 32)); err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EHOSTUNREACH) {
			return nil, err
		}
		if r := p.wait(ctx, start, hopWait/tries, 0); r != nil || ctx.Err() != nil {
			return r, nil
		}
	}
	return nil, nil
}

package room

import (
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// rtcp takes a compound packet of the peer. Its in is held.
func (p *Peer) rtcp(out *wire.Out, now time.Duration, b []byte) {
	clear, err := p.crypt.OpenRTCP(b)
	if err != nil {
		p.received.Dropped++
		return
	}
	ntp := cc.NTP(p.room.wall(now))
	for len(clear) > 0 {
		var pkt cc.Packet
		if pkt, clear, err = cc.Split(clear); err != nil {
			p.received.Dropped++
			return
		}
		p.one(out, now, ntp, pkt)
	}
}

// one takes a packet of a compound.
func (p *Peer) one(out *wire.Out, now time.Duration, ntp uint64, pkt cc.Packet) {
	if r, ok := pkt.SenderReport(); ok {
		if s := p.bySSRC[r.SSRC]; s != nil && !s.again {
			p.clock.Learn(now, r.NTP)
			s.layer.sr.SenderReport(r.NTP, r.RTP)
			if s.layer.recv != nil {
				s.layer.recv.SenderReport(now, r.NTP)
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := 0; ; i++ {
		r, ok := pkt.Report(i)
		if !ok {
			break
		}
		if s := p.slotOf(r.SSRC); s != nil {
			rtt, _ := r.RTT(ntp)
			p.estimator.Report(now, r, rtt)
			p.lossDown.add(&s.reported, r.Highest, r.Lost)
		}
	}
	if bps, ok := pkt.REMB(); ok {
		p.estimator.REMB(now, bps)
		return
	}
	media, ok := pkt.Media()
	if !ok {
		return
	}
	switch {
	case pkt.PLI():
		if s := p.slotOf(media); s != nil && s.layer != nil {
			p.stats.Keyframes++
			s.layer.askKey(out)
		}
	case pkt.Type == cc.TypePayload && pkt.Format == cc.FormatFIR:
		for i := 0; ; i++ {
			ssrc, _, ok := pkt.FIR(i)
			if !ok {
				break
			}
			if s := p.slotOf(ssrc); s != nil && s.layer != nil {
				p.stats.Keyframes++
				s.layer.askKey(out)
			}
		}
	case pkt.Type == cc.TypeTransport && pkt.Format == cc.FormatNack:
		s := p.slotOf(media)
		if s == nil {
			return
		}
		p.nacks = pkt.Nacks(p.nacks[:0], maxNacks)
		for _, seq := range p.nacks {
			p.stats.Nacked++
			if !s.resend(out, now, seq) {
				p.stats.NackMissing++
			}
		}
	case pkt.Type == cc.TypeTransport && pkt.Format == cc.FormatTransport:
		if err := p.estimator.Feedback(now, pkt); err != nil {
			return
		}
		p.stats.Feedbacks++
		if p.estimator.Changed() {
			p.pacer.SetRate(now, p.estimator.Target())
		}
	}
}

// maxNacks of one packet are served; a receiver that lost more wants a keyframe.
const maxNacks = 256

func (p *Peer) slotOf(ssrc uint32) *Slot {
	for _, s := range p.slots {
		if s.out.SSRC == ssrc {
			return s
		}
	}
	return nil
}

// sendRTCP protects a compound packet and sends it. Its mu is not held.
func (p *Peer) sendRTCP(out *wire.Out, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sendRTCPLocked(out, b)
}

func (p *Peer) sendRTCPLocked(out *wire.Out, b []byte) {
	if p.crypt == nil || p.path == nil || len(b) == 0 {
		return
	}
	sealed, err := p.crypt.SealRTCP(b)
	if err != nil {
		p.stats.Refused++
		return
	}
	copy(out.Buffer(len(sealed)), sealed)
	out.Commit(p.path, len(sealed))
}

// feedback tells the publisher what came when. Its in is held.
func (p *Peer) feedback(out *wire.Out, now time.Duration) {
	var buf [1200]byte
	media := uint32(0)
	for ssrc := range p.bySSRC {
		media = ssrc
		break
	}
	for {
		n := p.arrivals.Build(now, buf[:], p.ssrc, media)
		if n == 0 {
			break
		}
		p.received.Feedbacks++
		p.sendRTCP(out, buf[:n])
	}
}

// askAgain asks the publisher for what is missing. Its in is held.
func (p *Peer) askAgain(out *wire.Out, now time.Duration) {
	var buf [400]byte
	for _, t := range p.tracks {
		for _, l := range t.layers {
			if l.nacks.Missing() > 0 {
				if n := l.nacks.Build(now, p.rttIn, buf[:], p.ssrc, l.ssrc); n > 0 {
					p.received.Nacks++
					p.sendRTCP(out, buf[:n])
				}
			}
			if l.nacks.NeedKeyframe() {
				l.askKey(out)
			}
		}
	}
}

// askKey asks the publisher for a keyframe when the batch is out. Any lock may be
// held.
func (l *Layer) askKey(out *wire.Out) {
	if l.keyWant.CompareAndSwap(false, true) {
		out.After(l.requestKey)
	}
}

// keyEvery is how often a keyframe is asked for at most: one costs as much as a
// second of video, and all who watch get it.
const keyEvery = 500 * time.Millisecond

// requestKey sends the request, or leaves it to the room's tick. No lock is held.
func (l *Layer) requestKey(out *wire.Out) {
	p := l.track.peer
	now := p.room.now()
	p.in.Lock()
	ssrc := l.ssrc
	p.in.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if ssrc == 0 || l.keyAt != 0 && now-l.keyAt < keyEvery {
		return
	}
	l.keyAt = now
	p.asked++
	p.sendRTCPLocked(out, cc.AppendPLI(nil, p.ssrc, ssrc))
}

// reports are sent each second: to publishers what was received, to subscribers
// whose clock belongs to which timestamp. Both locks are taken.
func (p *Peer) reports(out *wire.Out, now time.Duration) {
	var blocks []cc.Report
	p.in.Lock()
	for _, t := range p.tracks {
		for _, l := range t.layers {
			if l.recv == nil || l.ssrc == 0 {
				continue
			}
			if r, ok := l.recv.Report(now, l.ssrc); ok && len(blocks) < 31 {
				blocks = append(blocks, r)
				p.lossUp.add(&l.reported, r.Highest, r.Lost)
			}
		}
	}
	p.in.Unlock()
	if len(blocks) > 0 {
		p.sendRTCP(out, cc.AppendReports(nil, p.ssrc, blocks))
	}
	// A sender report takes the publisher's clock, which is under its in: so the
	// layers are asked first, and their slots after.
	type shown struct {
		slot  *Slot
		layer *Layer
		ts    uint32
	}
	var list []shown
	p.mu.Lock()
	for _, s := range p.slots {
		if s.layer == nil || !s.sent || len(s.runs) == 0 {
			continue
		}
		list = append(list, shown{s, s.layer, s.runs[len(s.runs)-1].ts})
	}
	p.mu.Unlock()
	ntp := cc.NTP(p.room.wall(now))
	var b []byte
	for _, x := range list {
		pub := x.layer.track.peer
		pub.in.Lock()
		ts, ok := x.layer.sr.RTP(&pub.clock, now, x.ts)
		pub.in.Unlock()
		if !ok {
			continue
		}
		p.mu.Lock()
		if x.slot.layer == x.layer && x.slot.runs[len(x.slot.runs)-1].ts == x.ts {
			b = cc.SenderReport{SSRC: x.slot.out.SSRC, NTP: ntp, RTP: ts, Packets: x.slot.packets, Bytes: x.slot.bytes}.Append(b[:0])
			b = appendCNAME(b, x.slot.out.SSRC, p.cname)
			p.sendRTCPLocked(out, b)
		}
		p.mu.Unlock()
	}
}

// appendCNAME adds a source description (RFC 3550, 6.5), which each compound
// packet of a sender has.
func appendCNAME(b []byte, ssrc uint32, cname string) []byte {
	const typeSDES, itemCNAME = 202, 1
	at := len(b)
	b = append(b, 0x81, typeSDES, 0, 0, byte(ssrc>>24), byte(ssrc>>16), byte(ssrc>>8), byte(ssrc), itemCNAME, byte(len(cname)))
	b = append(b, cname...)
	b = append(b, 0)
	for (len(b)-at)%4 != 0 {
		b = append(b, 0)
	}
	words := (len(b)-at)/4 - 1
	b[at+2], b[at+3] = byte(words>>8), byte(words)
	return b
}

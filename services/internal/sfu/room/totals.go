package room

import (
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/transport"
)

// Totals are what a room's peers sent and were sent since it began, those that
// have gone too. Packets, but where another unit is named.
type Totals struct {
	Peers    int      `json:"peers"` // now
	Sent     Sent     `json:"sent"`  // to them
	Received Received `json:"received"`
	Switches uint64   `json:"switches"` // of layers or sources, on slots
	Waiting  int      `json:"waiting"`  // in pacers now
	Dropped  uint64   `json:"dropped"`  // by pacers
}

// Add sums.
func (t *Totals) Add(o Totals) {
	t.Peers += o.Peers
	t.Switches += o.Switches
	t.Waiting += o.Waiting
	t.Dropped += o.Dropped
	s, r := &t.Sent, &t.Received
	s.Sent += o.Sent.Sent
	s.SentBytes += o.Sent.SentBytes
	s.Resent += o.Sent.Resent
	s.Probes += o.Sent.Probes
	s.Refused += o.Sent.Refused
	s.Nacked += o.Sent.Nacked
	s.NackMissing += o.Sent.NackMissing
	s.Feedbacks += o.Sent.Feedbacks
	s.Keyframes += o.Sent.Keyframes
	r.Packets += o.Received.Packets
	r.Bytes += o.Received.Bytes
	r.Dropped += o.Received.Dropped
	r.Recovered += o.Received.Recovered
	r.Nacks += o.Received.Nacks
	r.Feedbacks += o.Received.Feedbacks
	r.Keyframes += o.Received.Keyframes
}

// Totals sums up the peers.
func (r *Room) Totals() Totals {
	r.mu.Lock()
	t := r.gone
	peers := *r.everybody.Load()
	r.mu.Unlock()
	for _, p := range peers {
		t.Add(p.totals())
	}
	t.Peers = len(peers)
	return t
}

// totals is one peer's. None of its locks is held.
func (p *Peer) totals() (t Totals) {
	p.in.Lock()
	t.Received = p.received
	p.in.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Received.Keyframes += p.asked
	t.Sent = p.stats
	for _, s := range p.slots {
		t.Switches += uint64(s.switches)
	}
	q := p.pacer.Stats()
	t.Waiting, t.Dropped = q.Packets, q.Dropped
	return t
}

// Figures are how one peer's connection is.
type Figures struct {
	State    string        `json:"state"`         // of transport.State
	Way      string        `json:"way,omitempty"` // "udp", "tcp" or "turn"; "" before the first
	RTT      time.Duration `json:"rtt,omitempty"` // ns; 0: unknown
	Estimate int64         `json:"estimate"`      // bit/s that its network is taken to carry
	Down     Losses        `json:"down"`          // of what it is sent
	Up       Losses        `json:"up"`            // of what it sends
	Totals   Totals        `json:"totals"`        //
}

// Losses are counters, in packets, without retransmissions.
type Losses struct {
	Expected uint64 `json:"expected"`
	Lost     uint64 `json:"lost"`
}

// tally takes a report's cumulative figures of one stream.
type tally struct {
	any     bool
	highest uint32
	lost    int32
}

// add puts what is new into l. Duplicates make the loss negative, and a lie is no
// more than what was expected.
func (l *Losses) add(t *tally, highest uint32, lost int32) {
	if t.any {
		expected, gone := int32(highest-t.highest), lost-t.lost
		if expected <= 0 {
			return
		}
		l.Expected += uint64(expected)
		l.Lost += uint64(min(max(gone, 0), expected))
	}
	t.any, t.highest, t.lost = true, highest, lost
}

// Figures tells how the peer's connection is.
func (p *Peer) Figures() Figures {
	f := Figures{Totals: p.totals()}
	p.in.Lock()
	f.Up = p.lossUp
	p.in.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	f.State, f.Down = p.state.String(), p.lossDown
	f.RTT, f.Estimate = p.estimator.RTT(), p.estimator.Target()
	if p.path != nil {
		f.Way = p.path.Kind.String()
	}
	return f
}

// Connected says whether the connection stands.
func (f *Figures) Connected() bool { return f.State == transport.Connected.String() }

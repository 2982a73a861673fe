package room

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

package wire

// Totals are what the sockets of a mux did since they were opened, packets but
// where another unit is named.
type Totals struct {
	Reads         uint64 `json:"reads"` // system calls
	Received      uint64 `json:"received"`
	ReceivedBytes uint64 `json:"received_bytes"`
	Calls         uint64 `json:"calls"`    // system calls that sent
	Messages      uint64 `json:"messages"` // given to the kernel: one packet, or several of a size
	Sent          uint64 `json:"sent"`
	Segmented     uint64 `json:"segmented"` // sent in messages of several
	SentBytes     uint64 `json:"sent_bytes"`
	Unknown       uint64 `json:"unknown"` // from nobody
	Refused       uint64 `json:"refused"` // the kernel did not take them
}

// Totals sums up the sockets, those that are closed too.
func (m *Mux) Totals() Totals {
	m.mu.RLock()
	defer m.mu.RUnlock()
	t := m.past
	for _, s := range m.sockets {
		t.add(&s.Stats)
	}
	return t
}

func (t *Totals) add(st *SocketStats) {
	t.Reads += st.Reads.Load()
	t.Received += st.Received.Load()
	t.ReceivedBytes += st.ReceivedBytes.Load()
	t.Calls += st.Calls.Load()
	t.Messages += st.Messages.Load()
	t.Sent += st.Sent.Load()
	t.Segmented += st.Segmented.Load()
	t.SentBytes += st.Bytes.Load()
	t.Unknown += st.Unknown.Load()
	t.Refused += st.Refused.Load()
}

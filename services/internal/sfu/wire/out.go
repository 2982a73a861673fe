package wire

// Out collects what is sent. It belongs to one goroutine at a time.
type Out struct {
	arena []byte
	used  int
	msgs  [sendBatch]message
	n     int
	send  *sender
	after []func(*Out)
}

// message is one to the kernel: one packet, or several of the same size, of which
// the last may be shorter.
type message struct {
	path    *Path
	off, n  int
	segment int
	count   int
}

// arenaSize holds the packets of a batch, bytes.
const arenaSize = 256 << 10

// NewOut makes one.
func NewOut() *Out { return NewOutSize(arenaSize) }

// NewOutSize makes one with an arena of so many bytes, for a goroutine that sends
// little.
func NewOutSize(n int) *Out { return &Out{arena: make([]byte, n), send: newSender()} }

// Buffer is room for a packet of n bytes at most, which Commit sends or the next
// Buffer overwrites.
func (o *Out) Buffer(n int) []byte {
	if o.used+n > len(o.arena) || o.n == sendBatch {
		o.flush()
	}
	return o.arena[o.used : o.used+n : o.used+n]
}

// Commit sends the first n bytes of the last Buffer to a path.
func (o *Out) Commit(p *Path, n int) {
	off := o.used
	o.used += n
	if o.n > 0 {
		m := &o.msgs[o.n-1]
		if m.path == p && n <= m.segment && m.n%m.segment == 0 && m.count < maxSegments && m.n+n <= maxMessage && p.sock != nil {
			m.n += n
			m.count++
			return
		}
	}
	o.msgs[o.n] = message{path: p, off: off, n: n, segment: n, count: 1}
	o.n++
}

// After calls f when the batch has been sent, where no lock is held.
func (o *Out) After(f func(*Out)) { o.after = append(o.after, f) }

// Flush sends everything.
func (o *Out) Flush() {
	o.flush()
	// What is called may add more.
	for round := 0; len(o.after) > 0 && round < 8; round++ {
		after := o.after
		o.after = nil
		for _, f := range after {
			f(o)
		}
		o.flush()
	}
	o.after = o.after[:0]
}

func (o *Out) flush() {
	for first := 0; first < o.n; {
		m := &o.msgs[first]
		if m.path.stream != nil {
			m.path.stream.put(o.arena[m.off : m.off+m.n])
			first++
			continue
		}
		sock := m.path.sock
		last := first
		for last < o.n && o.msgs[last].path.sock == sock {
			m := &o.msgs[last]
			o.send.set(last, &m.path.name, o.arena[m.off:m.off+m.n], m.segment)
			last++
		}
		o.sendRun(sock, first, last)
		first = last
	}
	o.n, o.used = 0, 0
}

// sendRun sends messages of one socket. One that the kernel refuses is sent again
// in single packets if it had segments (a path with a smaller MTU, or a network
// card that cannot), and counted as lost otherwise: the rest goes on.
func (o *Out) sendRun(sock *Socket, first, last int) {
	st := &sock.Stats
	for first < last {
		st.Calls.Add(1)
		stopped, err := o.send.write(sock.raw, first, last)
		for i := first; i < stopped; i++ {
			m := &o.msgs[i]
			st.Messages.Add(1)
			st.Sent.Add(uint64(m.count))
			st.Bytes.Add(uint64(m.n))
			if m.count > 1 {
				st.Segmented.Add(uint64(m.count))
			}
		}
		if err == nil {
			return
		}
		if !refused(err) {
			return // closed
		}
		m := &o.msgs[stopped]
		if m.count > 1 {
			for off := m.off; off < m.off+m.n; off += m.segment {
				b := o.arena[off:min(off+m.segment, m.off+m.n)]
				if _, err := sock.conn.WriteToUDPAddrPort(b, m.path.Remote); err != nil {
					st.Refused.Add(1)
				} else {
					st.Sent.Add(1)
					st.Bytes.Add(uint64(len(b)))
				}
			}
		} else {
			st.Refused.Add(1)
		}
		first = stopped + 1
	}
}

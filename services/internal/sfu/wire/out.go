package wire

// Out collects what is sent. It belongs to one goroutine at a time.
//
// Packets to one path need not follow each other to leave as one message: what
// comes between them goes to other paths, and their bytes are gathered (writev).
type Out struct {
	arena  []byte
	used   int
	msgs   []message
	n      int
	pieces []piece
	np     int
	recent [recentPaths]uint16 // of each path, by its number, its newest message
	send   *sender
	after  []func(*Out)
}

// message is one to the kernel: one packet, or several of the same size, of which
// the last may be shorter.
type message struct {
	path        *Path
	n           int // bytes
	segment     int
	count       int
	first, last int // of its pieces
}

// piece is a stretch of the arena that holds whole packets of one message.
type piece struct {
	off, n int
	next   int // 0: none, for the first one is nobody's next
}

const (
	// arenaSize holds the packets of a batch, bytes.
	arenaSize = 256 << 10
	// perMessage bytes of an arena come to a message.
	perMessage = arenaSize / sendBatch
	// recentPaths is a power of two. Two paths that share a place lose nothing but
	// a common message.
	recentPaths = 512
)

// NewOut makes one.
func NewOut() *Out { return NewOutSize(arenaSize) }

// NewOutSize makes one with an arena of so many bytes, for a goroutine that sends
// little.
func NewOutSize(n int) *Out {
	batch := min(max(n/perMessage, 4), sendBatch)
	return &Out{arena: make([]byte, n), msgs: make([]message, batch), pieces: make([]piece, 2*batch), send: newSender(batch)}
}

// Buffer is room for a packet of n bytes at most, which Commit sends or the next
// Buffer overwrites.
func (o *Out) Buffer(n int) []byte {
	if o.used+n > len(o.arena) || o.n == len(o.msgs) || o.np == len(o.pieces) {
		o.flush()
	}
	return o.arena[o.used : o.used+n : o.used+n]
}

// Commit sends the first n bytes of the last Buffer to a path.
func (o *Out) Commit(p *Path, n int) {
	off := o.used
	o.used += n
	place := &o.recent[p.id%recentPaths]
	// A place that another batch left is good if the message there is the path's: it
	// made that message in this batch, and wrote the place anew.
	if i := int(*place); i < o.n && p.sock != nil {
		m := &o.msgs[i]
		if m.path == p && n <= m.segment && m.n%m.segment == 0 && m.count < maxSegments && m.n+n <= maxMessage {
			m.n += n
			m.count++
			if last := &o.pieces[m.last]; last.off+last.n == off {
				last.n += n
				return
			}
			o.pieces[m.last].next = o.np
			m.last = o.np
			o.pieces[o.np] = piece{off: off, n: n}
			o.np++
			return
		}
	}
	o.pieces[o.np] = piece{off: off, n: n}
	o.msgs[o.n] = message{path: p, n: n, segment: n, count: 1, first: o.np, last: o.np}
	*place = uint16(o.n)
	o.n++
	o.np++
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
			p := &o.pieces[m.first]
			m.path.stream.put(o.arena[p.off : p.off+p.n])
			first++
			continue
		}
		sock := m.path.sock
		last := first
		o.send.begin()
		for last < o.n && o.msgs[last].path.sock == sock {
			m := &o.msgs[last]
			for i := m.first; ; i = o.pieces[i].next {
				p := &o.pieces[i]
				o.send.add(o.arena[p.off : p.off+p.n])
				if i == m.last {
					break
				}
			}
			o.send.set(last, &m.path.name, m.n, m.segment)
			last++
		}
		o.sendRun(sock, first, last)
		first = last
	}
	o.n, o.used, o.np = 0, 0, 0
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
		if m := &o.msgs[stopped]; m.count > 1 {
			o.sendSingly(sock, m)
		} else {
			st.Refused.Add(1)
		}
		first = stopped + 1
	}
}

func (o *Out) sendSingly(sock *Socket, m *message) {
	st := &sock.Stats
	for i := m.first; ; i = o.pieces[i].next {
		p := &o.pieces[i]
		for off := p.off; off < p.off+p.n; off += m.segment {
			b := o.arena[off:min(off+m.segment, p.off+p.n)]
			if _, err := sock.conn.WriteToUDPAddrPort(b, m.path.Remote); err != nil {
				st.Refused.Add(1)
			} else {
				st.Sent.Add(1)
				st.Bytes.Add(uint64(len(b)))
			}
		}
		if i == m.last {
			return
		}
	}
}

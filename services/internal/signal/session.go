package signal

import (
	"errors"
	"fmt"
	"time"
)

// Limits bound what a session keeps for the other end.
type Limits struct {
	Count int // bodies
	Bytes int
}

// The limits of both ends. A router may owe a page much, for pages are away for
// ResumeWithin; a page owes little.
var (
	RouterLimits = Limits{Count: 1024, Bytes: 2 << 20}
	PageLimits   = Limits{Count: 256, Bytes: 1 << 20}
)

// frameRoom is what a frame adds to a body in bytes, at most.
const frameRoom = 128

// ErrLost is wrapped by what is refused because the session is lost.
var ErrLost = errors.New("session lost")

// Session is one end of a session: what it owes the other end, and what it has
// from it. It is the same at both ends, and pure: links and time come in. The
// rules are those of the package comment.
//
//	linked ⇄ down ──▶ lost
//	   └──────────────▲
//
// After each call Poll is asked for what goes to the link, and Next for when to
// ask again.
type Session struct {
	limits Limits
	lost   Code
	linked bool
	down   time.Time // since when, while not linked

	queue []queued // bodies from acked+1 on
	bytes int      // of queue
	acked uint64   // by the other end
	sent  uint64   // on this link, all up to it
	most  uint64   // that was ever sent
	got   uint64   // from the other end, with all before it

	ackAt    time.Time // when what was got must be acknowledged; zero: it is
	resendAt time.Time // zero: nothing is under way
	wait     time.Duration
	heard    time.Time
	pinged   time.Time
}

type queued struct {
	n    uint64
	body []byte
}

// NewSession returns one that has no link yet.
func NewSession(limits Limits, now time.Time) *Session {
	return &Session{limits: limits, down: now, wait: Resend}
}

// Lost returns why the session is lost, or "".
func (s *Session) Lost() Code { return s.lost }

// Linked reports whether it has a link.
func (s *Session) Linked() bool { return s.linked }

// Got is the number up to which all was received; open and opened carry it.
func (s *Session) Got() uint64 { return s.got }

// Waiting returns how much waits to be acknowledged.
func (s *Session) Waiting() (count, bytes int) { return len(s.queue), s.bytes }

// Send takes a body for the other end. One that does not fit the limits ends the
// session: nothing is left out silently.
func (s *Session) Send(body []byte, now time.Time) error {
	if s.lost != "" {
		return fmt.Errorf("%w: %s", ErrLost, s.lost)
	}
	if len(s.queue) >= s.limits.Count || s.bytes+len(body) > s.limits.Bytes || len(body) > MaxFrame-frameRoom {
		s.lose(Overflow)
		return fmt.Errorf("%w: a body of %d bytes does not fit beside %d of %d bytes", ErrLost, len(body), len(s.queue), s.bytes)
	}
	n := s.acked + uint64(len(s.queue)) + 1
	s.queue = append(s.queue, queued{n, body})
	s.bytes += len(body)
	return nil
}

// Attach gives the session a link. The other end has all up to ack; what it has
// not is sent again.
func (s *Session) Attach(ack uint64, now time.Time) error {
	if s.lost != "" {
		return fmt.Errorf("%w: %s", ErrLost, s.lost)
	}
	if err := s.takeAck(ack, now); err != nil {
		return err
	}
	s.linked, s.heard, s.pinged = true, now, now
	s.sent, s.ackAt, s.resendAt, s.wait = s.acked, time.Time{}, time.Time{}, Resend
	return nil
}

// Detach takes the link away.
func (s *Session) Detach(now time.Time) {
	if s.linked {
		s.linked, s.down = false, now
	}
}

// Restart begins both directions at 1 again; what waited is forgotten.
func (s *Session) Restart() {
	s.queue, s.bytes, s.acked, s.sent, s.most, s.got = nil, 0, 0, 0, 0, 0
	s.ackAt, s.resendAt = time.Time{}, time.Time{}
}

// Receive takes a frame of the link, which is no open, opened or closed. It
// returns the body that comes next, or nil.
func (s *Session) Receive(f Frame, now time.Time) ([]byte, error) {
	if s.lost != "" || !s.linked {
		return nil, nil
	}
	s.heard = now
	if err := s.takeAck(f.Ack, now); err != nil {
		return nil, err
	}
	if f.Ping {
		s.ackAt = now
	}
	switch {
	case f.N == 0:
	case f.N == s.got+1:
		s.got++
		if s.ackAt.IsZero() {
			s.ackAt = now.Add(AckAfter)
		}
		return f.Body, nil
	case f.N <= s.got:
		s.ackAt = now // the other end does not know
	}
	return nil, nil
}

func (s *Session) takeAck(ack uint64, now time.Time) error {
	if ack > s.most {
		s.lose(Garbled)
		return fmt.Errorf("%w: %d is acknowledged, %d were sent", ErrLost, ack, s.most)
	}
	if ack <= s.acked {
		return nil
	}
	n := int(ack - s.acked)
	for i := range n {
		s.bytes -= len(s.queue[i].body)
		s.queue[i].body = nil
	}
	s.queue, s.acked = s.queue[n:], ack
	s.sent = max(s.sent, ack)
	s.wait, s.resendAt = Resend, time.Time{}
	if s.sent > s.acked {
		s.resendAt = now.Add(s.wait)
	}
	return nil
}

func (s *Session) lose(code Code) {
	s.lost, s.linked = code, false
	s.queue, s.bytes = nil, 0
}

// Poll returns the frames that go to the link now, and notices what time does: a
// link that is silent is taken away, a session that is down too long is lost.
func (s *Session) Poll(now time.Time) []Frame {
	switch {
	case s.lost != "":
		return nil
	case !s.linked:
		if !now.Before(s.down.Add(ResumeWithin)) {
			s.lose(Idle)
		}
		return nil
	case !now.Before(s.heard.Add(Silence)):
		s.Detach(now)
		return nil
	}
	if !s.resendAt.IsZero() && !now.Before(s.resendAt) {
		s.sent, s.resendAt = s.acked, time.Time{}
		s.wait = min(2*s.wait, ResendMost)
	}
	var out []Frame
	for s.sent < s.acked+Window && s.sent < s.acked+uint64(len(s.queue)) {
		q := s.queue[s.sent-s.acked]
		out = append(out, Frame{N: q.n, Ack: s.got, Body: q.body})
		s.sent = q.n
		s.most = max(s.most, q.n)
		if s.resendAt.IsZero() {
			s.resendAt = now.Add(s.wait)
		}
	}
	switch {
	case !now.Before(s.heard.Add(PingAfter)) && !now.Before(s.pinged.Add(PingAfter)):
		s.pinged = now
		out = append(out, Frame{Ack: s.got, Ping: true})
	case len(out) == 0 && !s.ackAt.IsZero() && !now.Before(s.ackAt):
		out = append(out, Frame{Ack: s.got})
	}
	if len(out) > 0 {
		s.ackAt = time.Time{}
	}
	return out
}

// Next returns when Poll has something to do by itself; zero: never.
func (s *Session) Next() time.Time {
	switch {
	case s.lost != "":
		return time.Time{}
	case !s.linked:
		return s.down.Add(ResumeWithin)
	}
	next := s.heard.Add(Silence)
	for _, t := range []time.Time{later(s.heard, s.pinged).Add(PingAfter), s.ackAt, s.resendAt} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return next
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

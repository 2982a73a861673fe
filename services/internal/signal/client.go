package signal

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"
)

// Client is a page's end: it opens the session on each link. A meeting page does
// the same in its own language; load generators and tests use this one. It is
// pure but for its secrets.
type Client struct {
	s       *Session
	ticket  string // until the session is known
	meeting string
	session string
	secret  string
	next    string
	fresh   bool
	link    uint32 // number of the current one; 0 before the first
	up      bool
	openAt  time.Time // open goes out; zero: it was answered
	since   time.Time // of this link
	closed  Code
}

// NewClient returns one that begins a session with a ticket or a pass.
func NewClient(ticket string, now time.Time) *Client {
	return &Client{s: NewSession(PageLimits, now), ticket: ticket, secret: newSecret(), next: newSecret()}
}

func newSecret() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Saved is what a page keeps over a reload.
type Saved struct {
	Meeting, Session, Secret, Next string
	Link                           uint32
}

// Save returns what Restore needs; ok is false while there is no session.
func (c *Client) Save() (s Saved, ok bool) {
	return Saved{c.meeting, c.session, c.secret, c.next, c.link}, c.session != ""
}

// Restore returns a client that resumes, and has forgotten all messages.
func Restore(s Saved, now time.Time) *Client {
	return &Client{s: NewSession(PageLimits, now), meeting: s.Meeting, session: s.Session, secret: s.Secret, next: s.Next, link: s.Link, fresh: true}
}

// Closed returns why all is over, or "".
func (c *Client) Closed() Code {
	if c.closed != "" {
		return c.closed
	}
	return c.s.Lost()
}

// Open reports whether messages travel.
func (c *Client) Open() bool { return c.s.Linked() }

// Up says that a new link is there, and returns its number; Poll then has open.
func (c *Client) Up(now time.Time) uint32 {
	c.s.Detach(now)
	c.link++
	c.up, c.openAt, c.since = true, now, now
	return c.link
}

// Down says that a link broke.
func (c *Client) Down(link uint32, now time.Time) {
	if link == c.link && c.up {
		c.up = false
		c.s.Detach(now)
	}
}

// Wants reports whether a new link is wanted.
func (c *Client) Wants() bool { return !c.up && c.Closed() == "" }

// Send takes a message for the router.
func (c *Client) Send(m Message, now time.Time) error { return c.s.Send(Format(m), now) }

// Receive takes what came from a link, and returns a message or nil.
func (c *Client) Receive(link uint32, b []byte, now time.Time) (Message, error) {
	if link != c.link || !c.up || c.Closed() != "" {
		return nil, nil
	}
	f, err := ParseFrame(b)
	if err == nil && f.Open != nil { // routers send none
		err = fmt.Errorf("frame: open, from a router")
	}
	if err != nil {
		c.closed = Garbled
		return nil, err
	}
	switch {
	case f.Closed != nil:
		c.closed = f.Closed.Code
		return nil, nil
	case f.Opened != nil && !c.openAt.IsZero():
		c.opened(f, now)
		return nil, nil
	case !c.openAt.IsZero():
		return nil, nil // before opened
	case f.Drop:
		c.Down(link, now)
		return nil, nil
	}
	body, err := c.s.Receive(f, now)
	if body == nil || err != nil {
		return nil, err
	}
	m, err := ParseDown(body)
	if err != nil {
		c.closed = Garbled
	}
	return m, err
}

func (c *Client) opened(f Frame, now time.Time) {
	c.meeting, c.session = f.Opened.Meeting, f.Opened.Session
	if c.ticket != "" {
		c.ticket = ""
	} else {
		c.secret, c.next = c.next, newSecret()
	}
	c.openAt, c.fresh = time.Time{}, false
	_ = c.s.Attach(f.Ack, now) // what is wrong is in Closed
}

// Poll returns what is written to the current link now. When it has noticed that
// the link is silent, Wants tells.
func (c *Client) Poll(now time.Time) [][]byte {
	if !c.up || c.Closed() != "" {
		c.s.Poll(now)
		return nil
	}
	if !c.openAt.IsZero() {
		c.s.Poll(now)
		if !now.Before(c.since.Add(Silence)) {
			c.up = false
			return nil
		}
		if now.Before(c.openAt) {
			return nil
		}
		c.openAt = now.Add(OpenRetry)
		o := &Open{Link: c.link, Secret: c.secret}
		if c.ticket != "" {
			o.Ticket = c.ticket
		} else {
			o.Meeting, o.Session, o.Next, o.Fresh = c.meeting, c.session, c.next, c.fresh
		}
		return [][]byte{Frame{Ack: c.s.Got(), Open: o}.Format()}
	}
	var out [][]byte
	for _, f := range c.s.Poll(now) {
		out = append(out, f.Format())
	}
	if !c.s.Linked() {
		c.up = false
	}
	return out
}

// Next returns when Poll has something to do by itself; zero: never.
func (c *Client) Next() time.Time {
	next := c.s.Next()
	if c.up && !c.openAt.IsZero() && (next.IsZero() || c.openAt.Before(next)) {
		next = c.openAt
	}
	return next
}

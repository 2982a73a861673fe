package signal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/parley-meet/parley/services/internal/ticket"
)

// Times and bounds of sessions, the same for both ends.
const (
	OpenRetry    = 2 * time.Second
	AckAfter     = 100 * time.Millisecond
	Resend       = time.Second
	ResendMost   = 8 * time.Second
	PingAfter    = 5 * time.Second
	Silence      = 15 * time.Second
	ResumeWithin = 2 * time.Minute
	Window       = 64 // bodies under way

	// SecretSize is the length of a secret in characters.
	SecretSize = 43
	maxID      = 64        // of a session or meeting
	maxNumber  = 1<<53 - 1 // what JavaScript counts exactly
)

// Frame is what one link message holds.
type Frame struct {
	N      uint64          `json:"n,omitempty"`
	Ack    uint64          `json:"ack,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
	Ping   bool            `json:"ping,omitempty"`
	Open   *Open           `json:"open,omitempty"`
	Opened *Opened         `json:"opened,omitempty"`
	Closed *Closed         `json:"closed,omitempty"`
	Drop   bool            `json:"drop,omitempty"`
}

// Open begins a session (Ticket and Secret), or resumes one (Meeting, Session,
// Secret, Next).
type Open struct {
	Link    uint32 `json:"link"` // 1 for the page's first link of this session, growing by one: a late open is known by it
	Ticket  string `json:"ticket,omitempty"`
	Meeting string `json:"meeting,omitempty"` // its id: controllers find the router by it
	Session string `json:"session,omitempty"`
	Secret  string `json:"secret"`          // of the session; with Ticket, the one it shall have
	Next    string `json:"next,omitempty"`  // the one it shall have from now on
	Fresh   bool   `json:"fresh,omitempty"` // the page knows nothing any more: begin at 1
}

// Opened says that the link has its session.
type Opened struct {
	Meeting string `json:"meeting"`
	Session string `json:"session"`
}

// Closed says that it is over.
type Closed struct {
	Code Code `json:"code"`
}

// ParseFrame reads a frame. It is strict but for the body, which may be any JSON.
func ParseFrame(b []byte) (Frame, error) {
	var f Frame
	if len(b) > MaxFrame {
		return f, fmt.Errorf("frame of %d bytes, want %d at most", len(b), MaxFrame)
	}
	if err := strict(b, &f); err != nil {
		return Frame{}, fmt.Errorf("frame: %w", err)
	}
	return f, f.check()
}

func (f Frame) check() error {
	body := len(f.Body) > 0 && !bytes.Equal(f.Body, []byte("null"))
	firsts := 0
	for _, has := range []bool{f.Open != nil, f.Opened != nil, f.Closed != nil, f.Drop} {
		if has {
			firsts++
		}
	}
	switch {
	case f.N > maxNumber || f.Ack > maxNumber:
		return fmt.Errorf("frame: n %d or ack %d is too large", f.N, f.Ack)
	case body != (f.N > 0) || len(f.Body) > 0 != body:
		return fmt.Errorf("frame: n %d and a body of %d bytes, want both or neither", f.N, len(f.Body))
	case firsts > 1, firsts == 1 && (body || f.Ping):
		return errors.New("frame: open, opened, closed and drop stand alone")
	}
	if o := f.Open; o != nil {
		return o.check()
	}
	if o := f.Opened; o != nil && (!short(o.Meeting) || !short(o.Session)) {
		return errors.New("frame: opened without a meeting or session")
	}
	return nil
}

func (o *Open) check() error {
	switch {
	case o.Link == 0:
		return errors.New("open: the link has no number")
	case len(o.Secret) != SecretSize || !base64URL(o.Secret):
		return fmt.Errorf("open: a secret of %d bytes, want %d of base64url", len(o.Secret), SecretSize)
	case len(o.Ticket) > ticket.MaxSize:
		return fmt.Errorf("open: a ticket of %d bytes, want %d at most", len(o.Ticket), ticket.MaxSize)
	case o.Ticket != "":
		if o.Meeting != "" || o.Session != "" || o.Next != "" || o.Fresh {
			return errors.New("open: a ticket, and what resumes too")
		}
	case !short(o.Session) || !short(o.Meeting):
		return errors.New("open: neither a ticket nor a meeting and session")
	case len(o.Next) != SecretSize || !base64URL(o.Next) || o.Next == o.Secret:
		return errors.New("open: next is no other secret")
	}
	return nil
}

// short reports whether s may be an id.
func short(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return s != "" && len(s) <= maxID
}

func base64URL(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// Format writes a frame, the body as it is.
func (f Frame) Format() []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(f); err != nil {
		panic(err) // the body is not JSON: no Format of a message made it
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// strict decodes one JSON value that has no members that v lacks.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

// Package member is an appliance's membership in its zone: the credentials by
// which it is known, what the portal told last, and the link on which it is told.
//
// A Member is the one of a machine. It reads the connector's settings, enrols with
// the token, keeps what it got in a folder of its own, and holds the link. On a
// controller VM the zone controller runs it and serves what it knows on a unix
// socket (Serve); the multimedia router of the same VM reads it there (Dial). On
// a router VM the router runs it.
//
//	no token ──────────▶ standalone: a zone of its own (a controller alone)
//	   ▲  │ token saved
//	   │  ▼
//	enrolling ◀─ backoff, or until another token is saved where it was refused
//	   │  ▲ another token saved: the membership before goes on until the new one stands
//	   ▼  │
//	linked ◀──▶ not linked: what the portal told last holds
//
// Standalone, the appliance is its own authority, and signs the tickets of trial
// meetings (NewTrial). Nothing of that zone is known to a portal, and with a
// token it ends.
package member

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Standalone is the id of the zone and of the appliance without a portal, and
// the issuer of that zone's tickets. No portal gives such an id.
const Standalone = "standalone"

// Errors that callers tell apart.
var (
	// ErrNoKey: the portal signs tickets, and this appliance cannot.
	ErrNoKey = errors.New("member: this appliance signs no tickets: the portal does")
	// ErrAway: an event was not taken, for there is nobody to tell: the zone
	// controller of this machine does not answer, or the appliance is not enrolled.
	ErrAway = errors.New("member: nobody takes events now")
)

// State is what an appliance knows of its zone, at one moment. It is shared, and
// not to be changed.
type State struct {
	Settings connector.Settings
	// Credentials are those by which the zone knows the appliance; nil: it is not
	// enrolled. Standalone, they are self-made.
	Credentials *link.Credentials
	// Config is what the portal said last, also before the last restart; nil:
	// nothing yet. Standalone, it is self-made.
	Config     *link.Config
	Standalone bool
	Connection link.Connection // to the portal; standalone: none
	// Problem is why the appliance is in no zone, or not in the one whose token was
	// saved; nil: nothing is wrong. Its arguments are strings. Why there is no link
	// at the moment is Connection's.
	Problem *fault.Fault
	// Browsers is the certificate for the public name that the portal got; nil:
	// there is none.
	Browsers *Certificate
}

// Certificate is what browsers are shown.
type Certificate struct {
	Chain string // PEM, leaf first
	Key   string // PKCS #8, PEM
}

// Pair returns the certificate as crypto/tls wants it.
func (c Certificate) Pair() (tls.Certificate, error) {
	p, err := tls.X509KeyPair([]byte(c.Chain), []byte(c.Key))
	if err != nil {
		return p, fmt.Errorf("certificate for browsers: %w", err)
	}
	return p, nil
}

// Issuer returns who signs the tickets of the zone, for ticket.Expect; "" is
// that it is not known yet, and no ticket is good.
func (s State) Issuer() string {
	if s.Config == nil {
		return ""
	}
	return s.Config.Portal
}

// Keys returns the keys that the zone's tickets are checked with.
func (s State) Keys() (ticket.Set, error) {
	if s.Config == nil {
		return ticket.Set{}, nil
	}
	return ticket.ParseSet(s.Config.Keys)
}

// Usage is what the multimedia router of a machine does now, for the portal.
type Usage struct {
	Meetings     int      `json:"meetings"`
	Participants int      `json:"participants"`
	Limit        int      `json:"limit"`                 // participants that it takes
	SendBits     int64    `json:"sendBits"`              // bit/s of media
	ReceiveBits  int64    `json:"receiveBits"`           // bit/s
	CPU          float64  `json:"cpu,omitempty"`         // share of the machine's processors, 0 to 1
	Media        []uint16 `json:"media,omitempty"`       // UDP ports that answer
	Unreachable  []string `json:"unreachable,omitempty"` // as in link.Status
}

// Zone is what the processes of an appliance know and do by its membership.
// *Member and *Remote are one. Its methods are safe for concurrent use and do not
// wait for the network.
type Zone interface {
	State() State
	// Watch returns a channel on which a value comes soon after State has changed;
	// changes that follow quickly are one. stop ends it; each listener has its own.
	Watch() (changed <-chan struct{}, stop func())
	// Event tells the portal of something that happened, "meeting.started" and so
	// on; its name and data have 16 KiB at most as JSON. Standalone, it is dropped.
	Event(name string, data any) error
	// Sign signs a ticket of the own zone, standalone alone: ErrNoKey otherwise.
	Sign(ticket.Claims) (string, error)
	// Report tells what the machine's router does; it counts for UsageLife.
	Report(Usage)
}

var (
	_ Zone = (*Member)(nil)
	_ Zone = (*Remote)(nil)
)

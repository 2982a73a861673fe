// Package link is the line between an appliance and the portal: what is said on
// it, and the appliance's end.
//
// An appliance comes to the portal's port 443, outwards only. With a token it
// enrols once (POST /api/v1/link/enrol, with a signing request for a key that it
// made itself) and gets a certificate of its zone's authority, which lives for
// days and is renewed over the link. With that certificate it opens a WebSocket
// (RFC 6455) at /link. Its TLS handshake offers the ALPN protocols ALPN and
// "http/1.1": the portal asks for a client certificate where it sees ALPN, and
// chooses http/1.1, so browsers are never asked.
//
// Messages are JSON objects, one in each text frame, of MaxMessage bytes at most.
//
//	appliance                     portal
//	hello        ─────────────▶            who it is, what it knows
//	             ◀─────────────  welcome   times, configuration, last event taken
//	status       ─────────────▶            each Heartbeat, and when something changed
//	event        ─────────────▶            numbered; kept by the appliance until
//	             ◀─────────────  ack       the portal has them on disk
//	             ◀─────────────  config    when it changed
//	renew        ─────────────▶            signing request
//	             ◀─────────────  renewed   certificate
//	             ◀─────────────  bye       why, and when to come back
package link

import (
	"encoding/json"
	"net/netip"
	"time"
)

// ALPN is the protocol that an appliance names in its TLS handshake.
const ALPN = "parley-link/1"

// Bounds and times of the link.
const (
	MaxMessage = 256 << 10 // bytes
	Heartbeat  = 5 * time.Second
	// SilentAfter is how long after its last word an appliance counts as silent:
	// two heartbeats and what a slow network adds.
	SilentAfter = 12 * time.Second
)

// Kind says what a message is.
type Kind string

// The messages.
const (
	KindHello   Kind = "hello"
	KindWelcome Kind = "welcome"
	KindStatus  Kind = "status"
	KindEvent   Kind = "event"
	KindAck     Kind = "ack"
	KindConfig  Kind = "config"
	KindRenew   Kind = "renew"
	KindRenewed Kind = "renewed"
	KindBye     Kind = "bye"
)

// Message is a frame.
type Message struct {
	Kind Kind            `json:"kind"`
	Body json.RawMessage `json:"body"`
}

// Role is what an appliance is.
type Role string

// The roles. A controller VM, which holds a router too, is a controller.
const (
	Controller Role = "controller"
	Router     Role = "router"
)

// EnrolRequest is the body of POST /api/v1/link/enrol; the token goes as a bearer
// token.
type EnrolRequest struct {
	Role    Role   `json:"role"`
	Host    string `json:"host"`    // name of the machine
	Version string `json:"version"` // of the appliance
	Request string `json:"request"` // PKCS #10, PEM; its key counts, its names do not
}

// EnrolAnswer is what an appliance keeps.
type EnrolAnswer struct {
	Appliance   string   `json:"appliance"`   // id
	Zone        string   `json:"zone"`        // id
	Certificate string   `json:"certificate"` // PEM, leaf first
	Authority   string   `json:"authority"`   // the zone's, PEM: appliances trust each other by it
	Portals     []string `json:"portals"`     // addresses of the link, "wss://…/link"
}

// Hello is the appliance's first word.
type Hello struct {
	Version string `json:"version"`
	Host    string `json:"host"`
	Boot    string `json:"boot"`   // changes with each start of the process
	Config  int64  `json:"config"` // generation that it has; 0 is none
	Status  Status `json:"status"`
}

// Welcome is the portal's answer.
type Welcome struct {
	Now       time.Time     `json:"now"`
	Heartbeat time.Duration `json:"heartbeat"` // ns
	Event     uint64        `json:"event"`     // number of the last event taken from this Boot
	Config    *Config       `json:"config,omitempty"`
}

// Status is how an appliance is.
type Status struct {
	Addresses    []netip.Addr `json:"addresses"`             // of eth0 and eth0:0
	HTTPS        uint16       `json:"https"`                 // port that browsers use; 0: none
	Media        []uint16     `json:"media,omitempty"`       // UDP ports that answer
	Clock        time.Time    `json:"clock"`                 // of the appliance
	Synced       bool         `json:"synced"`                // its clock follows a time server
	Meetings     int          `json:"meetings"`              // that run
	Participants int          `json:"participants"`          // in them
	Limit        int          `json:"limit"`                 // participants that it takes
	CPU          float64      `json:"cpu"`                   // share of all processors, 0 to 1
	Memory       int64        `json:"memory"`                // bytes in use
	MemoryTotal  int64        `json:"memoryTotal"`           // bytes
	SendBits     int64        `json:"sendBits"`              // bit/s of media
	ReceiveBits  int64        `json:"receiveBits"`           // bit/s
	Services     []Service    `json:"services,omitempty"`    // processes
	Certificate  *Certificate `json:"certificate,omitempty"` // that browsers are shown
	ConfigInUse  int64        `json:"configInUse"`           // generation
	Peers        []string     `json:"peers,omitempty"`       // ids of appliances on the zone's bus
	Problems     []Problem    `json:"problems,omitempty"`    // that it knows of itself
	Unreachable  []string     `json:"unreachable,omitempty"` // "udp 8801": ports that its own check did not reach
	Dropped      int          `json:"dropped,omitempty"`     // events of this Boot that did not fit in what is kept without a link
	DroppedAt    time.Time    `json:"droppedAt,omitzero"`    // of the last of them
}

// Service is a process of the appliance.
type Service struct {
	Name  string `json:"name"`  // "zctrl", "mmr"
	State string `json:"state"` // "ready" and others of image/control
}

// Certificate is what browsers are shown.
type Certificate struct {
	Names   []string  `json:"names"`
	Expires time.Time `json:"expires"`
	Trusted bool      `json:"trusted"` // by the usual authorities
}

// Problem is something that is wrong: a code that the portal has words for, and
// what it is about.
type Problem struct {
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// Event is something that happened once. Its numbers grow by one within a Boot.
type Event struct {
	Number uint64          `json:"number"`
	At     time.Time       `json:"at"`
	Name   string          `json:"name"` // "meeting.started", "meeting.ended", "service.failed" …
	Data   json.RawMessage `json:"data,omitempty"`
}

// Ack takes all events up to a number.
type Ack struct {
	Event uint64 `json:"event"`
}

// Config is what the portal tells an appliance.
type Config struct {
	Generation int64           `json:"generation"`
	Zone       string          `json:"zone"`   // name
	Portal     string          `json:"portal"` // its address: the issuer of tickets
	Production bool            `json:"production"`
	PublicName string          `json:"publicName,omitempty"` // of this controller
	External   []string        `json:"external,omitempty"`   // addresses outside 1:1 NAT
	Appliances []Peer          `json:"appliances"`           // of the zone, this one too
	Keys       json.RawMessage `json:"keys"`                 // JWKS (RFC 7517) of tickets
	Authority  string          `json:"authority"`            // the zone's, PEM
	Challenges []Challenge     `json:"challenges,omitempty"`
	Chain      string          `json:"chain,omitempty"` // PEM, answer to CSR below: certificate for browsers
}

// Peer is another appliance of the zone.
type Peer struct {
	ID         string       `json:"id"`
	Role       Role         `json:"role"`
	Host       string       `json:"host"`
	PublicName string       `json:"publicName,omitempty"`
	Addresses  []netip.Addr `json:"addresses"`
	// Serials are those of its certificates that are good, hexadecimal, the newest
	// first: those before are, until a newer one has been renewed. Another one is
	// refused, though the authority signed it.
	Serials []string `json:"serials"`
}

// Challenge is an answer of ACME http-01 (RFC 8555, 8.3) that a controller gives
// on port 80.
type Challenge struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// Renew asks for a new certificate: Link for the link's own, or, for browsers,
// one for the controller's public name.
type Renew struct {
	For     string `json:"for"`     // "link" or "browsers"
	Request string `json:"request"` // PKCS #10, PEM
}

// Renewed is the answer.
type Renewed struct {
	For         string `json:"for"`
	Certificate string `json:"certificate,omitempty"` // PEM, leaf first
	Error       string `json:"error,omitempty"`
}

// Bye ends a connection.
type Bye struct {
	Why    string        `json:"why"` // one of Why…
	Detail string        `json:"detail,omitempty"`
	After  time.Duration `json:"after,omitempty"` // ns; come back within it, at random. 0: as the appliance likes
}

// Package bus is the zone bus: how the controllers and routers of a zone talk to
// each other, and an appliance's end of it.
//
// The engine is NATS, core messaging alone: nothing is stored. Each controller has
// a server in its process (package hub). Whoever takes part opens one connection
// to each controller, on TCP 443 with ALPN and the zone's certificate, and sends
// every message on all of them; the receiver takes the first copy and drops the
// others. So controllers are not joined to each other, no one of them is needed,
// and one that dies takes no message with it that another has.
//
// A subject says who wrote a message and to whom:
//
//	parley.ZONE.ROLE.FROM.ROLE.TO.TOPIC
//	parley.z7.router.r1.controller.all.announce
//	parley.z7.controller.c1.router.r1.signal.m42
//
// A server lets everybody write below his own name only, so FROM is true. Routers
// hear what controllers write to them; controllers hear what anybody writes to
// them. FROM and TO are appliances' ids. A controller VM has one id and one
// certificate, and two processes that take part: the controller, and the router in
// the role of one.
//
// Messages may be lost, when a connection breaks or a bound is reached, and a
// message that is overtaken while a controller comes or goes may arrive late.
// What matters is numbered, acknowledged and sent again by its two ends. A message
// never arrives twice at a Conn.
package bus

import (
	"errors"
	"fmt"
	"strings"

	"github.com/parley-meet/parley/services/internal/link"
)

// ALPN is the protocol that an appliance names in its TLS handshake with a
// controller.
const ALPN = "parley-bus/1"

// all stands for everybody of a role.
const all = "all"

// Those who get what is meant for all of a role.
var (
	AllControllers = Peer{link.Controller, all}
	AllRouters     = Peer{link.Router, all}
)

// Bounds.
const (
	// MaxPayload is the longest message on the wire in bytes, headers too.
	MaxPayload = 256 << 10
	// MaxData is the longest message that Publish, Request and Reply take, in bytes.
	MaxData = MaxPayload - headerSize
	// MaxTopic is the longest topic in bytes.
	MaxTopic = 160
	// maxID is the longest id of a zone or an appliance in bytes.
	maxID = 64
)

// Errors of sending.
var (
	// ErrNoPath says that no controller is connected: the message is lost.
	ErrNoPath = errors.New("no controller of the zone is connected")
	// ErrFull says that no connection takes a message now: it is lost.
	ErrFull = errors.New("the queue to each controller is full")
	// ErrTooLong is of a message that is longer than MaxData.
	ErrTooLong = fmt.Errorf("message longer than %d bytes", MaxData)
)

// Peer is a process of an appliance that takes part, as author or receiver of a
// message.
type Peer struct {
	Role link.Role // controller or router
	ID   string    // of the appliance
}

// String returns "router r1".
func (p Peer) String() string { return string(p.Role) + " " + p.ID }

func (p Peer) good() bool {
	return (p.Role == link.Controller || p.Role == link.Router) && goodID(p.ID)
}

// goodID reports whether s can stand for itself in a subject.
func goodID(s string) bool {
	return s != "" && len(s) <= maxID && s != all && goodToken(s)
}

func goodToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return s != ""
}

// GoodTopic reports whether s can be a topic: words of A-Z, a-z, 0-9, "-" and "_"
// with dots between, MaxTopic bytes at most.
func GoodTopic(s string) bool {
	if len(s) > MaxTopic {
		return false
	}
	for word := range strings.SplitSeq(s, ".") {
		if !goodToken(word) {
			return false
		}
	}
	return true
}

// subject is where a message goes.
func subject(zone string, from, to Peer, topic string) string {
	return "parley." + zone + "." + string(from.Role) + "." + from.ID + "." + string(to.Role) + "." + to.ID + "." + topic
}

// parseSubject is the reverse of subject.
func parseSubject(s, zone string) (from, to Peer, topic string, ok bool) {
	s, ok = strings.CutPrefix(s, "parley."+zone+".")
	w := strings.SplitN(s, ".", 5)
	if !ok || len(w) != 5 {
		return Peer{}, Peer{}, "", false
	}
	from, to, topic = Peer{link.Role(w[0]), w[1]}, Peer{link.Role(w[2]), w[3]}, w[4]
	if !from.good() || !to.good() && to != AllControllers && to != AllRouters || !GoodTopic(topic) {
		return Peer{}, Peer{}, "", false
	}
	return from, to, topic, true
}

// Rights are the subjects that an appliance may publish to and subscribe to, with
// NATS's wildcards. A server of the zone grants no others.
func Rights(zone string, who Peer) (publish, subscribe []string) {
	zone = "parley." + zone + "."
	publish = []string{zone + string(who.Role) + "." + who.ID + ".>"}
	from := "*"
	if who.Role == link.Router {
		from = string(link.Controller)
	}
	for _, to := range []string{who.ID, all} {
		subscribe = append(subscribe, zone+from+".*."+string(who.Role)+"."+to+".>")
	}
	return publish, subscribe
}

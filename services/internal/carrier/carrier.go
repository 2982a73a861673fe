// Package carrier carries the frames of meeting pages (package signal) over the
// zone bus, between the controller that holds a page's WebSocket and the router
// that holds its meeting.
//
//	page ══WebSocket══ Controller ──bus──▶ Router ──▶ hall.Receive, hall.Cut
//	                        ◀──────bus──── Router.Write ◀── hall.Config.Write
//
// A link is one WebSocket. The router names it signal.Link("CONTROLLER/BOOT/N"):
// names are never used again. Nothing here is kept for a link that breaks: what a
// page and a router say is numbered, acknowledged and sent again by package
// signal, so a message that is lost, comes twice or too late costs time and
// nothing else.
//
//	controller → router             router → controller
//	frame  and what the meeting     frame  the last one has the WebSocket closed
//	       is, until one came back  keep   of each meeting, for the case that its
//	cut    the WebSocket is gone           router is lost
//	alive  each AliveEvery
//	end    another router has the
//	       meeting
//	who    asks which process it is  its boot
//	meet   what a meeting is         its boot
//	ask    a request of HTTP         the answer
//
// A frame that is longer than a message of the bus goes in parts, in order; where
// one is missing the frame is lost. A controller of which nothing was heard for
// AliveFor, or that has begun anew, has its links cut at the router; so has a
// link without a word for idle, for pages ping. A router that falls silent is
// seen by package placement.
//
// Routers tell all controllers what they keep of their meetings (meeting.Kept)
// when it changes, each KeepEvery, and when they hear a controller that is new.
// Controllers hold it in memory for keptFor,
// and send it along with the first frames to the meeting's next router.
package carrier

import (
	"context"
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/signal"
)

// Topic is what both ends subscribe to: conn.Subscribe(carrier.Topic, end.Hear).
const Topic = "link"

// Times.
const (
	AliveEvery = 2 * time.Second
	AliveFor   = 3*AliveEvery + time.Second
	KeepEvery  = 10 * time.Second
	// keepPause is between two tellings of a meeting that changes all the time.
	keepPause = time.Second
	// overFor is how long a router goes on to say that a meeting is over.
	overFor = time.Minute
	// keptFor is how long a controller holds what it hears no more of.
	keptFor = 10 * time.Minute
	// idle is twice what the ends of a session wait for a word.
	idle = 2 * signal.Silence
)

// Bounds.
const (
	MaxLinks = 16384 // of an end
	// MaxKept is the longest meeting.Kept in JSON, in bytes: that of 2000 people.
	MaxKept = 200 << 10
	// maxTold is what is sent along to a router that says that the meeting runs:
	// it may have begun anew a moment ago.
	maxTold     = 32 << 10
	maxMeetings = 2000     // whose Kept a controller holds
	maxHeld     = 32 << 20 // bytes of them
	maxPartial  = 32 << 20 // bytes of frames of which parts are missing, of an end
	maxMeeting  = 64       // bytes of a meeting's id
)

// ErrMany says that an end has MaxLinks.
var ErrMany = errors.New("too many links")

// Bus is the part of bus.Conn that the ends need.
type Bus interface {
	Publish(to bus.Peer, topic string, data []byte) error
	Self() bus.Peer
}

// Asking is a Bus by which one can ask, too.
type Asking interface {
	Bus
	Request(ctx context.Context, to bus.Peer, topic string, data []byte) ([]byte, error)
}

// Meet is what a controller tells a router of the meeting that a link is for.
type Meet struct {
	Meeting string `json:"meeting"` // id
	// Epoch is what the meeting begins with, if it does not run.
	Epoch uint64 `json:"epoch"`
	// Kept is what its router before told of it; nil: nothing is known.
	Kept *meeting.Kept `json:"kept,omitempty"`
}

// Counts are figures since the start.
type Counts struct {
	Links    int    // now
	Sent     uint64 // frames
	Received uint64 // frames
	Lost     uint64 // frames that the bus did not take, or of which a part was missing
	Strange  uint64 // messages that were not understood
}

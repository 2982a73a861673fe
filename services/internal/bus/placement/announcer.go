package placement

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
)

// Bus is the part of bus.Conn that an Announcer needs.
type Bus interface {
	Publish(to bus.Peer, topic string, data []byte) error
	Joined() <-chan struct{}
}

// Announcer announces a router.
type Announcer struct {
	bus    Bus
	state  func() Announcement
	log    *slog.Logger
	change chan struct{}
}

// NewAnnouncer returns one. It starts nothing. state is asked for each
// announcement and does not wait; log may be nil.
func NewAnnouncer(b Bus, state func() Announcement, log *slog.Logger) *Announcer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Announcer{b, state, log, make(chan struct{}, 1)}
}

// Changed has the router announced soon: a meeting came or went, it is draining, it
// is full. It never waits.
func (a *Announcer) Changed() {
	select {
	case a.change <- struct{}{}:
	default: // it will be announced
	}
}

// Run announces the router each Every, settle after a change, and when a
// controller has come, until ctx ends; it returns nil then. The last one says that
// it is draining and runs nothing, so that nobody waits until it is silent.
func (a *Announcer) Run(ctx context.Context) error {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	problem := ""
	for {
		problem = a.announce(false, problem)
		select {
		case <-tick.C:
			continue
		case <-a.change:
		case <-a.bus.Joined():
		case <-ctx.Done():
			a.announce(true, problem)
			return nil
		}
		select {
		case <-time.After(settle):
		case <-ctx.Done():
		}
	}
}

// announce sends one, and logs a problem when it is another than the last.
func (a *Announcer) announce(last bool, problem string) string {
	s := a.state()
	if last {
		s.Draining, s.Meetings, s.Participants = true, nil, 0
	}
	b, err := s.Encode()
	if err == nil {
		err = a.bus.Publish(bus.AllControllers, Topic, b)
	}
	if err == nil {
		return ""
	}
	if err.Error() != problem {
		a.log.Warn("bus: not announced", "error", err)
	}
	return err.Error()
}

package mmr

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/hall"
	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/signal"
)

// Events of meetings that the portal reads.
const (
	eventStarted      = "meeting.started"
	eventParticipants = "meeting.participants"
	eventEnded        = "meeting.ended"
)

// Bounds of events.
const (
	maxEvent    = 15 << 10 // bytes as JSON; the link takes 16 KiB with the name
	eventsWait  = 500      // for the zone's controller to take them
	eventsAgain = 2 * time.Second
)

// started is what meeting.started says.
type started struct {
	Meeting      string    `json:"meeting"`
	Run          string    `json:"run"`
	Participants int       `json:"participants"`
	Started      time.Time `json:"started"`
	Again        bool      `json:"again,omitempty"` // its router before is lost
}

// participants is what meeting.participants says.
type participants struct {
	Meeting      string `json:"meeting"`
	Run          string `json:"run"`
	Participants int    `json:"participants"` // now
}

// ended is what meeting.ended says. People who do not fit are counted in More:
// those who were there longest stay.
type ended struct {
	Meeting      string               `json:"meeting"`
	Run          string               `json:"run"`
	Participants int                  `json:"participants"` // most at a time
	Started      time.Time            `json:"started"`
	Ended        time.Time            `json:"ended"`
	Why          signal.Code          `json:"why"`
	People       []meeting.Attendance `json:"people"`
	More         int                  `json:"more,omitempty"`
}

// report makes what is told of a meeting that is over, within maxEvent.
func report(run hall.Run, why signal.Code, r meeting.Report) ended {
	e := ended{Meeting: run.Meeting, Run: run.ID, Participants: r.Peak, Started: r.Started, Ended: r.Ended, Why: why, People: []meeting.Attendance{}, More: r.More}
	size := func(v any) int {
		b, err := json.Marshal(v)
		if err != nil {
			return maxEvent // it cannot be; it is left out
		}
		return len(b)
	}
	room := maxEvent - size(e) - len(`,"more":100000`)
	sizes := make([]int, len(r.People))
	all := 0
	for i, a := range r.People {
		sizes[i] = size(a) + 1
		all += sizes[i]
	}
	// The shortest visits go first, the later ones of equals.
	least := func() int {
		at := -1
		for i := range r.People {
			if sizes[i] > 0 && (at < 0 || r.People[i].Present <= r.People[at].Present) {
				at = i
			}
		}
		return at
	}
	for all > room {
		i := least()
		all -= sizes[i]
		sizes[i] = 0
		e.More++
	}
	for i, a := range r.People {
		if sizes[i] > 0 {
			e.People = append(e.People, a)
		}
	}
	return e
}

// events tells the portal what happened, in order; what nobody takes now waits.
type events struct {
	tell func(name string, data any) error
	log  *slog.Logger

	mu      sync.Mutex
	list    []*event
	dropped int
	wake    chan struct{}
}

type event struct {
	name string
	data any
}

func newEvents(tell func(string, any) error, log *slog.Logger) *events {
	return &events{tell: tell, log: log, wake: make(chan struct{}, 1)}
}

// add queues one. It never waits; the oldest goes where there are too many.
func (e *events) add(name string, data any) {
	e.mu.Lock()
	e.list = append(e.list, &event{name, data})
	if len(e.list) > eventsWait {
		e.list = e.list[1:]
		e.dropped++
	}
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run tells them until ctx ends, and then what it can at once.
func (e *events) run(ctx context.Context) {
	t := time.NewTicker(eventsAgain)
	defer t.Stop()
	problem := ""
	for {
		err := e.flush()
		if err != nil && err.Error() != problem {
			e.log.Warn("events wait", "error", err)
			problem = err.Error()
		} else if err == nil {
			problem = ""
		}
		select {
		case <-ctx.Done():
			if err := e.flush(); err != nil {
				e.log.Warn("events are lost", "error", err)
			}
			return
		case <-e.wake:
		case <-t.C:
		}
	}
}

func (e *events) flush() error {
	for {
		e.mu.Lock()
		if len(e.list) == 0 {
			e.mu.Unlock()
			return nil
		}
		next := e.list[0]
		e.mu.Unlock()
		if err := e.tell(next.name, next.data); err != nil {
			return err
		}
		e.mu.Lock()
		if len(e.list) > 0 && e.list[0] == next {
			e.list = e.list[1:]
		}
		e.mu.Unlock()
	}
}

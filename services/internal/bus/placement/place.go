package placement

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// Why a meeting has no place.
var (
	// ErrNoRouter says that no router is there that takes meetings: all are silent or
	// draining.
	ErrNoRouter = errors.New("no router of the zone takes meetings")
	// ErrFull says that the routers are there, and none has room.
	ErrFull = errors.New("no router of the zone has room")
)

const (
	// cpuFull is the share of its processors from which a router takes no more
	// meetings: those that run have the rest.
	cpuFull = 0.85
	// step is how coarse weights are, in participants. Announcements that differ a
	// little between two controllers weigh the same.
	step = 10
)

// Room returns for how many more participants a router has room, by its limit and
// by its processors: as many more as the share of them that is free takes of the
// limit.
func (r Router) Room() int {
	free := r.Limit - r.Participants
	cpu := int(float64(r.Limit) * (cpuFull - r.CPU) / cpuFull)
	return max(min(free, cpu), 0)
}

// Place returns where a meeting is or has to go that is expected to have so many
// participants. A meeting that runs stays where it is, whatever its router's load,
// and draining or not. Another goes to a router with room for it, or if none has
// so much to one with any. Its epoch is higher than every one that is remembered
// of the meeting, and than those that were given before now by clocks that agree.
func (t *Table) Place(now time.Time, meeting string, expected int) (Place, error) {
	if p, ok := t.Find(now, meeting); ok {
		return p, nil
	}
	var best *Router
	var most float64
	var enough, there bool
	for _, r := range t.routers {
		switch r.State(now) {
		case Full:
			there = true
		case Ready:
			there = true
			room := r.Room()
			fits := room >= expected
			s := score(meeting, r.ID, (room+step-1)/step)
			if best == nil || fits && !enough || fits == enough && (s > most || s == most && r.ID > best.ID) {
				best, most, enough = r, s, fits
			}
		}
	}
	if best == nil {
		if there {
			return Place{}, ErrFull
		}
		return Place{}, ErrNoRouter
	}
	epoch := uint64(max(now.UnixMilli(), 1))
	for _, e := range t.at[meeting] { // of silent routers
		epoch = max(epoch, e+1)
	}
	return Place{best.ID, epoch, false}, nil
}

// hash is even over (0, 1), and the same on each machine.
func hash(meeting, router string) float64 {
	h := sha256.New()
	h.Write([]byte(meeting))
	h.Write([]byte{0})
	h.Write([]byte(router))
	// 53 bits and a half: never 0 and never 1.
	return (float64(binary.BigEndian.Uint64(h.Sum(nil))>>11) + 0.5) / (1 << 53)
}

// score is by which a router is chosen: the highest has a chance of its weight's
// share (weighted rendezvous hashing; Resch, SNIA SDC 2015).
func score(meeting, router string, weight int) float64 {
	return float64(weight) / -math.Log(hash(meeting, router))
}

// before reports whether of two routers with the same claim a has the meeting.
func before(meeting, a, b string) bool {
	x, y := hash(meeting, a), hash(meeting, b)
	return x > y || x == y && a > b
}

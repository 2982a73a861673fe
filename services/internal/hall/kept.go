package hall

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// How meetings outlive a router.
const (
	// KeepEvery is how often what is kept of a meeting is told anew.
	KeepEvery = 10 * time.Second
	// keepLook is how often it is looked at: a lock that is set a moment before the
	// router is lost may be forgotten.
	keepLook = 500 * time.Millisecond
	// A controller says what it knows of a meeting with the first link; somebody's
	// ticket follows it within this.
	expectFor   = time.Minute
	maxExpected = maxMeetings
	// passBefore is how long before the end of the last pass or ticket somebody gets
	// another one.
	passBefore = time.Minute
)

// expected is a meeting that controllers have placed here.
type expected struct {
	epoch uint64
	kept  *meeting.Kept
	until time.Time
}

// keeping is what was told of a meeting.
type keeping struct {
	look time.Time
	told time.Time
	sum  [sha256.Size]byte
}

// Expect says what a controller knows of a meeting that it has placed here: the
// epoch of its place, and what was kept of it when its router was lost, nil if it
// begins anew. It comes before the first frame of a link. A meeting that runs here
// goes on as it is, under the higher epoch.
func (h *Hall) Expect(id string, epoch uint64, kept *meeting.Kept) {
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.meetings[id]; m != nil {
		if epoch > m.epoch {
			m.epoch = epoch
			h.changed()
		}
		return
	}
	if epoch == 0 {
		epoch = uint64(now.UnixMilli())
	}
	e := h.expected[id]
	if e == nil {
		for other, o := range h.expected {
			if now.After(o.until) {
				delete(h.expected, other)
			}
		}
		if len(h.expected) >= maxExpected {
			h.log.Warn("meeting not expected: too many are", "meeting", id)
			return
		}
		e = &expected{}
		h.expected[id] = e
	}
	e.epoch, e.until = max(e.epoch, epoch), now.Add(expectFor)
	// One controller may know what another has not heard.
	if kept != nil && (e.kept == nil || len(kept.People) > len(e.kept.People)) {
		e.kept = kept
	}
}

// expects returns what is known of a meeting that does not run here. mu is held.
func (h *Hall) expects(id string, now time.Time) *expected {
	if e := h.expected[id]; e != nil && !now.After(e.until) {
		return e
	}
	return nil
}

// Yield ends a meeting that another router has with a higher epoch, or with the
// same: its people join again there with their passes. One that has a higher epoch
// here goes on.
func (h *Hall) Yield(id string, epoch uint64) {
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.meetings[id]
	if m == nil || m.epoch > epoch {
		return
	}
	h.log.Warn("meeting runs twice, and moves to where it has the higher epoch", "meeting", id, "epoch", m.epoch, "theirs", epoch)
	h.effects(m, m.meeting.Stop(signal.Moved, now), now)
}

// Drain says that no meeting may begin here any more; those that run go on.
func (h *Hall) Drain() {
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
	h.changed()
}

// verify checks a ticket, or a pass. mu is held.
func (h *Hall) verify(text string, now time.Time) (ticket.Claims, error) {
	issuer, keys := h.cfg.Trust()
	c, err := ticket.Verify(text, keys, ticket.Expect{Issuer: issuer, Zone: h.cfg.Zone}, now)
	if !errors.Is(err, ticket.ErrKey) {
		return c, err
	}
	// Whose pass it is says its key; that key must be one of the pass's own meeting.
	all := ticket.Set{}
	for _, m := range h.meetings {
		h.passKeys(all, m.kept, true, now)
	}
	for id := range h.expected {
		if e := h.expects(id, now); e != nil {
			h.passKeys(all, e.kept, false, now)
		}
	}
	want := ticket.Expect{Issuer: meeting.PassIssuer(h.cfg.Zone), Zone: h.cfg.Zone}
	if c, err = ticket.Verify(text, all, want, now); err != nil {
		return c, err
	}
	of := ticket.Set{}
	if m := h.meetings[c.Meeting.ID]; m != nil {
		h.passKeys(of, m.kept, true, now)
	} else if e := h.expects(c.Meeting.ID, now); e != nil {
		h.passKeys(of, e.kept, false, now)
	}
	return ticket.Verify(text, of, want, now)
}

// passKeys adds the keys of passes for one meeting: those that were kept, and if it
// runs here the own one.
func (h *Hall) passKeys(set ticket.Set, k *meeting.Kept, runs bool, now time.Time) {
	if k != nil {
		for id, key := range k.PassKeys(now) {
			set[id] = key
		}
	}
	if own := h.cfg.PassKey; runs && own.ID != "" {
		set[own.ID] = own.Private.Public().(ed25519.PublicKey)
	}
}

// passes gives each one inside a fresh pass before the old one ends. mu is held.
func (h *Hall) passes(m *held, now time.Time) {
	if h.cfg.PassKey.ID == "" {
		return
	}
	for id, x := range m.members {
		if x.session == "" || now.Before(x.passAt) {
			continue
		}
		c, ok := m.meeting.Claims(id, ticket.NewID(), now)
		if !ok {
			x.passAt = now.Add(passBefore)
			continue
		}
		x.passAt = c.Expires.Add(-passBefore)
		c.Issuer = meeting.PassIssuer(h.cfg.Zone)
		text, err := ticket.Sign(h.cfg.PassKey, c)
		if err != nil {
			h.log.Error("pass", "meeting", m.info.ID, "participant", id, "error", err)
			continue
		}
		h.send(m, []signal.ID{id}, &signal.Pass{Ticket: text}, now)
	}
}

// keep tells what another router needs to go on, if it is time. mu is held.
func (h *Hall) keep(m *held, now time.Time, must bool) {
	if h.cfg.Keep == nil || !must && now.Before(m.keeping.look) {
		return
	}
	m.keeping.look = now.Add(keepLook)
	k := m.meeting.Keep()
	k.Run = m.run
	b, err := json.Marshal(k) // before what changes with the time alone
	if err != nil {
		h.log.Error("keep", "meeting", m.info.ID, "error", err)
		return
	}
	sum := sha256.Sum256(b)
	if !must && sum == m.keeping.sum && now.Before(m.keeping.told.Add(KeepEvery)) {
		return
	}
	m.keeping.sum, m.keeping.told = sum, now
	if own := h.cfg.PassKey; own.ID != "" {
		k.Passes = append(k.Passes, meeting.PassKey{ID: own.ID, Public: own.Private.Public().(ed25519.PublicKey), Until: now.Add(ticket.TTL + ticket.Skew + 2*KeepEvery)})
	}
	if m.kept != nil {
		for _, p := range m.kept.Passes {
			if len(k.Passes) < meeting.MaxPassKeys && now.Before(p.Until) && p.ID != h.cfg.PassKey.ID {
				k.Passes = append(k.Passes, p)
			}
		}
	}
	h.cfg.Keep(m.info.ID, m.epoch, &k)
}

// goodRun bounds what came from another router.
func goodRun(s string) bool { return s != "" && len(s) <= 64 }

// Package placement is what controllers know of the routers of their zone, and
// where a meeting goes.
//
// Each router announces itself on the bus every two seconds, and at once when
// something that matters has changed. Nobody keeps that but in memory, and it ends
// by itself: a router of which nothing was heard for Expiry is silent. Each
// controller fills a Table of its own from the same announcements, so that two
// agree without asking each other.
//
// A meeting is where a router says that it runs. A meeting that runs nowhere is
// placed by a rendezvous hash (Thaler and Ravishankar, "Using name-based mappings
// to increase hit rates", 1998), weighted by what each router has room for: two
// controllers that know the same choose the same router, and a router more or less
// moves no meeting but its own. With the place comes an epoch, that is higher for
// each later placing. Where two routers run a meeting, because two controllers knew
// different things, the higher epoch has it, then the higher hash.
//
// A router is trusted with the zone's meetings: one that lies about which ones it
// runs gets them. Its lies are bounded in size, and in how far ahead an epoch may
// be.
package placement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
)

// Topic is what announcements are published under, to bus.AllControllers.
const Topic = "announce"

// Times of announcements.
const (
	Every  = 2 * time.Second
	Expiry = 3*Every + time.Second
	// settle gathers changes that come together.
	settle = 100 * time.Millisecond
)

// Bounds of an announcement, in entries and bytes.
const (
	MaxMeetings  = 2000
	MaxAddresses = 32
	maxText      = 100
	maxMeetingID = 64
	maxLimit     = 100_000 // participants
	// maxAhead is how far ahead of this controller's clock an epoch may be.
	maxAhead = 24 * time.Hour
)

// Announcement is what a router says of itself.
type Announcement struct {
	Version      string       `json:"version"` // of the appliance
	Host         string       `json:"host"`    // name of the machine
	Addresses    []netip.Addr `json:"addresses,omitempty"`
	Limit        int          `json:"limit"`        // participants that it takes
	Participants int          `json:"participants"` // in its meetings
	CPU          float64      `json:"cpu"`          // share of its processors in use, 0 to 1
	Draining     bool         `json:"draining,omitempty"`
	Meetings     []Meeting    `json:"meetings,omitempty"`
}

// Meeting is one that runs on a router.
type Meeting struct {
	ID           string `json:"id"`
	Epoch        uint64 `json:"epoch"` // as it was placed
	Participants int    `json:"participants"`
}

// Encode returns the announcement as it is sent. It is within bus.MaxData where
// its bounds are kept.
func (a Announcement) Encode() ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

// Decode reads what a router sent.
func Decode(b []byte) (Announcement, error) {
	var a Announcement
	if len(b) > bus.MaxData {
		return a, fmt.Errorf("announcement of %d bytes, want at most %d", len(b), bus.MaxData)
	}
	// Fields of later versions are passed over.
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&a); err != nil {
		return a, fmt.Errorf("announcement: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return a, fmt.Errorf("announcement: something follows")
	}
	return a, a.check()
}

func (a Announcement) check() error {
	switch {
	case len(a.Version) > maxText || strings.ContainsFunc(a.Version, control):
		return fmt.Errorf("announcement: version %.100q", a.Version)
	case len(a.Host) > 253 || strings.ContainsFunc(a.Host, control):
		return fmt.Errorf("announcement: host %.100q", a.Host)
	case len(a.Addresses) > MaxAddresses:
		return fmt.Errorf("announcement: %d addresses, want at most %d", len(a.Addresses), MaxAddresses)
	case a.Limit < 0 || a.Limit > maxLimit:
		return fmt.Errorf("announcement: limit %d, want 0 to %d", a.Limit, maxLimit)
	case a.Participants < 0 || a.Participants > maxLimit:
		return fmt.Errorf("announcement: %d participants, want 0 to %d", a.Participants, maxLimit)
	case !(a.CPU >= 0 && a.CPU <= 1):
		return fmt.Errorf("announcement: CPU %v, want 0 to 1", a.CPU)
	case len(a.Meetings) > MaxMeetings:
		return fmt.Errorf("announcement: %d meetings, want at most %d", len(a.Meetings), MaxMeetings)
	}
	seen := make(map[string]bool, len(a.Meetings))
	for _, m := range a.Meetings {
		switch {
		case !goodMeeting(m.ID):
			return fmt.Errorf("announcement: meeting %.80q", m.ID)
		case m.Epoch == 0:
			return fmt.Errorf("announcement: meeting %s without an epoch", m.ID)
		case m.Participants < 0 || m.Participants > maxLimit:
			return fmt.Errorf("announcement: meeting %s with %d participants", m.ID, m.Participants)
		case seen[m.ID]:
			return fmt.Errorf("announcement: meeting %s twice", m.ID)
		}
		seen[m.ID] = true
	}
	return nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

func goodMeeting(id string) bool {
	return len(id) <= maxMeetingID && bus.GoodTopic(id) && !strings.Contains(id, ".")
}

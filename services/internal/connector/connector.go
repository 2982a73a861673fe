// Package connector is what an administrator tells an appliance of the zone that
// it works in: the token by which it enrols with the portal, the addresses of its
// zone, its public name. The consoles write it, and the zone controller and the
// multimedia router read it: it is a file in a folder that they share.
package connector

import (
	"fmt"
	"net/netip"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netconfig"
	"github.com/parley-meet/parley/services/internal/statefile"
)

// Version is that of the file which this package knows.
const Version = 1

// FileName is the name of the file in the shared folder.
const FileName = "connector.json"

// Bounds of what is kept. Any text without blanks is taken as a token: what it
// means is the portal's.
const (
	MinToken    = 16  // characters
	MaxToken    = 512 // characters
	MaxExternal = 8
	MinLimit    = 2        // participants: a meeting is of two
	MaxLimit    = 100_000  // participants; more than any machine carries
	maxSize     = 16 << 10 // bytes of the file
)

// DefaultLimit is how many participants a router takes that was told no number.
const DefaultLimit = 200

// Settings are what is kept. The token is a secret.
type Settings struct {
	Version             int        `json:"version"`
	Token               string     `json:"token,omitempty"`
	ZoneController      netip.Addr `json:"zoneController,omitzero"`      // zero: the network's first address
	Router              netip.Addr `json:"router,omitzero"`              // zero: the network's second address, or its first
	OtherZoneController netip.Addr `json:"otherZoneController,omitzero"` // of the zone's other controller
	PublicName          string     `json:"publicName,omitempty"`         // host name that people use
	External            []External `json:"external"`
	Limit               int        `json:"limit,omitempty"` // participants that the router takes; 0: DefaultLimit
}

// External is an address that the outside knows a local one by (1:1 NAT).
type External struct {
	Local    netip.Addr `json:"local"`
	External netip.Addr `json:"external"`
}

// New returns the settings of an appliance that was told nothing.
func New() Settings { return Settings{Version: Version, External: []External{}} }

// File returns the file in the shared folder.
func File(f *statefile.Folder) *statefile.File[Settings] {
	return &statefile.File[Settings]{Folder: f, Name: FileName, Mode: 0o640, Version: Version, Limit: maxSize, Check: check}
}

func check(s *Settings) error {
	if s.Token != "" && CheckToken(s.Token) != nil {
		return fmt.Errorf("token of %d bytes is none", len(s.Token))
	}
	for _, a := range []netip.Addr{s.ZoneController, s.Router, s.OtherZoneController} {
		if a.IsValid() && netconfig.CheckHost(a) != nil {
			return fmt.Errorf("%v is no address of a host", a)
		}
	}
	if s.PublicName != "" && netconfig.CheckName(s.PublicName) != nil {
		return fmt.Errorf("public name %.80q", s.PublicName)
	}
	if len(s.External) > MaxExternal {
		return fmt.Errorf("%d external addresses, want at most %d", len(s.External), MaxExternal)
	}
	for _, e := range s.External {
		if !Reachable(e.Local) || !Reachable(e.External) || e.Local.Is4() != e.External.Is4() {
			return fmt.Errorf("external address %v of %v", e.External, e.Local)
		}
	}
	if s.Limit != 0 && (s.Limit < MinLimit || s.Limit > MaxLimit) {
		return fmt.Errorf("limit of %d participants, want %d to %d", s.Limit, MinLimit, MaxLimit)
	}
	return nil
}

// Participants returns how many the router takes.
func (s Settings) Participants() int {
	if s.Limit == 0 {
		return DefaultLimit
	}
	return s.Limit
}

// Outside returns the address by which the outside knows a local one.
func (s Settings) Outside(local netip.Addr) netip.Addr {
	for _, e := range s.External {
		if e.Local == local {
			return e.External
		}
	}
	return local
}

// Reachable reports whether a host can be reached at the address from afar.
func Reachable(a netip.Addr) bool {
	if a.Is4() {
		return netconfig.CheckHost(a) == nil
	}
	return a.Is6() && !a.Is4In6() && a.Zone() == "" && a.IsGlobalUnicast()
}

// CheckToken tells what is wrong with the form of a token, of the field "token".
func CheckToken(s string) fault.List {
	switch {
	case len(s) < MinToken:
		return fault.New("token", "short", MinToken)
	case len(s) > MaxToken:
		return fault.New("token", "long", MaxToken)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return fault.New("token", "connector-token")
		}
	}
	return nil
}

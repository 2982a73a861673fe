// Package meetings keeps what the portal knows of meetings, and lets people in:
// it signs the ticket that a controller wants to see. Nothing that is said or
// shown in a meeting passes through it.
//
// Who sees a meeting: its host, its alternative hosts, and the account's admins,
// who see neither its passcode nor its agenda unless they are hosts of it. Who
// changes it: its host. For everybody else there is no such meeting
// (people.ErrUnknown), unless they join it by its number and passcode.
//
// # Keys of tickets
//
// They belong to the portal, not to an account: an account's own would be in the
// same database under the same master key and be used by the same process, so
// whoever got one would have all; what keeps accounts apart is the audience, the
// zone, that a controller checks. The private halves are sealed by package vault
// (purpose "ticket key", row kid), are opened only to sign, and are in no answer
// and no log. Whoever has the database and the master key can sign.
//
//	published ──keyLead──▶ signs ──keyLife──▶ the next signs ──keyLinger──▶ gone
package meetings

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// Config is what a Service works with.
type Config struct {
	DB    *store.DB
	Vault *vault.Vault
	URL   *url.URL // of the portal
	// Controllers returns the zone controllers of a zone that run now.
	Controllers func(ctx context.Context, zone string) ([]live.Controller, error)
	Log         *slog.Logger
	Now         func() time.Time // nil: time.Now
}

// Service keeps meetings. It is safe for concurrent use.
type Service struct {
	cfg   Config
	guard *guard
	decoy []byte // a sealed passcode that is nobody's
}

// New returns a service. It starts nothing.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg, guard: newGuard()}
	if cfg.Vault != nil {
		s.decoy = cfg.Vault.Seal(purposePasscode, "", []byte(newPasscode()))
	}
	return s
}

const purposePasscode = "meeting passcode"

// SetControllers says how to find the zone controllers of a zone that run now:
// that part needs the service first. Without it none does.
func (s *Service) SetControllers(f func(ctx context.Context, zone string) ([]live.Controller, error)) {
	s.cfg.Controllers = f
}

// HandleEvent takes what a controller tells of meetings, for package live.
func (s *Service) HandleEvent(tx *store.Tx, from live.Identity, e link.Event) error {
	return handle(tx, from.Zone, e, s.cfg.Now())
}

// Kind is a kind of meeting.
type Kind string

// The kinds.
const (
	Scheduled Kind = "scheduled"
	Instant   Kind = "instant" // started now, listed for a day
	Room      Kind = "room"    // a person's own, which never ends
)

// Rights are what the caller may do with a meeting.
type Rights string

// The rights.
const (
	Own         Rights = "own"         // everything
	Alternative Rights = "alternative" // start it
	Look        Rights = "look"        // an admin: see that it is there
)

// Person is a host.
type Person struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email,omitempty"`
}

// Meeting is a meeting as the caller may see it.
type Meeting struct {
	ID             string    `json:"id"`
	Kind           Kind      `json:"kind"`
	Number         string    `json:"number"`
	Topic          string    `json:"topic"`
	Agenda         string    `json:"agenda,omitempty"`
	Host           Person    `json:"host"`
	AltHosts       []Person  `json:"alternativeHosts"`
	Start          string    `json:"start,omitempty"`    // of the first occurrence, by the clocks of Timezone
	Timezone       string    `json:"timezone,omitempty"` // IANA name
	Duration       int       `json:"duration,omitempty"` // minutes
	Repeat         Repeat    `json:"repeat"`
	Rule           string    `json:"rule,omitempty"` // RRULE (RFC 5545)
	First          time.Time `json:"first,omitzero"`
	Last           time.Time `json:"last,omitzero"` // end of the last occurrence
	Zone           string    `json:"zone,omitempty"`
	Passcode       string    `json:"passcode,omitempty"`
	Link           string    `json:"link,omitempty"` // with the passcode, where it may be seen
	WaitingRoom    bool      `json:"waitingRoom"`
	JoinBeforeHost bool      `json:"joinBeforeHost"`
	Rights         Rights    `json:"rights"`
	Created        time.Time `json:"created"`
	// Next is the occurrence that runs or comes next.
	Next *Occurrence `json:"next,omitempty"`
	// Run is when it was held last.
	Run *Run `json:"run,omitempty"`

	account  string
	sequence int64
	changed  time.Time
	sealed   []byte
	autoZone string
	autoAt   time.Time
	changes  []change
}

// Run is one time that a meeting was held, as its controller told.
type Run struct {
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"` // zero: it goes on
	Peak    int       `json:"peak"`           // most participants at a time
}

// Hosting says whether a person may host, and where.
type Hosting struct {
	Allowed bool   `json:"allowed"`
	Why     string `json:"why,omitempty"` // what is missing: "kind", "zone", "test", "off", "suspended"
	Test    bool   `json:"test"`          // meetings are tests, until the account goes to production
	Zones   []Zone `json:"zones"`
}

// Zone is one to choose.
type Zone struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Test bool   `json:"test"` // its account is not in production
}

// hosting says it for a person of the database.
func hosting(tx *store.Tx, u people.User) (Hosting, error) {
	h := Hosting{Zones: []Zone{}}
	list, err := zones.MayHost(tx, u)
	for why, word := range map[error]string{zones.ErrKind: "kind", zones.ErrSuspended: "suspended", zones.ErrTest: "test", zones.ErrNoZone: "zone", zones.ErrOff: "off"} {
		if errors.Is(err, why) {
			h.Why = word
			return h, nil
		}
	}
	if err != nil {
		return h, err
	}
	h.Test = true
	for _, z := range list {
		a, err := people.GetAccount(tx, z.Account)
		if err != nil {
			return h, err
		}
		test := a.Production.IsZero()
		h.Zones = append(h.Zones, Zone{z.ID, z.Name, test})
		h.Test = h.Test && test
	}
	h.Allowed = len(list) > 0
	return h, nil
}

// Hosting says whether the caller may host, and in which zones.
func (s *Service) Hosting(ctx context.Context, who people.Actor) (h Hosting, err error) {
	err = s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		u, err := people.GetUser(tx, who.User)
		if err != nil {
			return err
		}
		h, err = hosting(tx, u)
		return err
	})
	return h, err
}

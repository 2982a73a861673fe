package member

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/statefile"
	"github.com/parley-meet/parley/services/internal/throttle"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// UsageLife is how long what a router has reported counts. It reports again
// before: every few seconds.
const UsageLife = 15 * time.Second

// pollEvery is how often the settings and the link are looked at.
const pollEvery = time.Second

// Config is what a Member works with.
type Config struct {
	Role    link.Role // of the machine: link.Controller on a controller VM
	Host    string    // name of the machine
	Version string    // of the appliance
	// Dir is the folder of this process alone, which it keeps its keys in. It is
	// there.
	Dir string
	// Settings is the folder that has connector.json; it is only read.
	Settings string
	// Roots are what the portal's certificate may chain to; it is asked at each
	// enrolment and start of the link. nil, or a nil pool: the system's.
	Roots func() *x509.CertPool
	Proxy func(*http.Request) (*url.URL, error) // nil: none
	// Status says how the machine is, at each heartbeat; it does not wait. Member
	// adds Clock, ConfigInUse, and what was given to Report. nil: nothing is known.
	Status func() link.Status
	Log    *slog.Logger // nil: none
}

// Member is an appliance's membership. Make it with New.
type Member struct {
	board
	cfg      Config
	keep     keep
	settings *statefile.File[connector.Settings]
	poll     time.Duration
	patience time.Duration // lastWords
	wake     chan struct{} // something is to be kept
	outcomes chan outcome  // of enrolments
	tasks    sync.WaitGroup
	tickets  throttle.Bucket // of trial meetings

	mu     sync.Mutex
	client *link.Client // nil: there is no link to hold
	own    *standalone  // nil: not standalone
	told   *told        // what the portal told and is not kept yet
	usage  Usage
	usedAt time.Time // of usage
}

// told is a configuration for whom it is.
type told struct {
	cred   link.Credentials
	config link.Config
}

// New returns the membership of a machine. It starts nothing, and knows nothing
// until Run has read its folder.
func New(cfg Config) (*Member, error) {
	if cfg.Role != link.Controller && cfg.Role != link.Router {
		return nil, fmt.Errorf("member: role %q", cfg.Role)
	}
	if cfg.Dir == "" || cfg.Settings == "" {
		return nil, errors.New("member: want the own folder, and the settings'")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Member{cfg: cfg, keep: newKeep(cfg.Dir, cfg.Log), settings: connector.File(statefile.New(cfg.Settings)), poll: pollEvery, patience: lastWords,
		wake: make(chan struct{}, 1), outcomes: make(chan outcome), tickets: throttle.Bucket{Size: ticketBurst, Every: ticketEvery}}, nil
}

// Event is Zone's. Without an enrolment it is ErrAway; without a link it waits.
func (m *Member) Event(name string, data any) error { return m.event(name, data, time.Now()) }

func (m *Member) event(name string, data any, at time.Time) error {
	m.mu.Lock()
	client, own := m.client, m.own
	m.mu.Unlock()
	switch {
	case client != nil:
		return client.Event(name, data, at)
	case own != nil:
		return nil
	}
	return ErrAway
}

// Sign is Zone's.
func (m *Member) Sign(c ticket.Claims) (string, error) {
	m.mu.Lock()
	own := m.own
	m.mu.Unlock()
	if own == nil {
		return "", ErrNoKey
	}
	if c.Zone != Standalone || c.Issuer != Standalone {
		return "", fmt.Errorf("member: sign a ticket of %.80q, zone %.80q: want %q", c.Issuer, c.Zone, Standalone)
	}
	return ticket.Sign(own.key, c)
}

// Report is Zone's.
func (m *Member) Report(u Usage) {
	m.mu.Lock()
	began := m.usage.Meetings != u.Meetings
	m.usage, m.usedAt = u, time.Now()
	m.mu.Unlock()
	if began {
		m.Changed()
	}
}

// Changed has the portal told soon of what Config.Status says.
func (m *Member) Changed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.client != nil {
		m.client.Changed()
	}
}

// status is what the portal is told of the machine.
func (m *Member) status() link.Status {
	var st link.Status
	if m.cfg.Status != nil {
		st = m.cfg.Status()
	}
	st.Clock = time.Now()
	if c := m.State().Config; c != nil {
		st.ConfigInUse = c.Generation
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.usedAt.IsZero() || st.Clock.Sub(m.usedAt) > UsageLife {
		return st
	}
	u := m.usage
	st.Meetings += u.Meetings
	st.Participants += u.Participants
	st.Limit += u.Limit
	st.SendBits += u.SendBits
	st.ReceiveBits += u.ReceiveBits
	st.CPU = max(st.CPU, min(u.CPU, 1))
	// Who reports is at work.
	st.Services = append(st.Services[:len(st.Services):len(st.Services)], link.Service{Name: "mmr", State: string(control.StateReady)})
	st.Media = append(st.Media[:len(st.Media):len(st.Media)], u.Media...)
	st.Unreachable = append(st.Unreachable[:len(st.Unreachable):len(st.Unreachable)], u.Unreachable...)
	return st
}

package member

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// UsageLife is how long what a router has reported counts. It reports again
// before: every few seconds.
const UsageLife = 15 * time.Second

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
	cfg Config
}

// New returns the membership of a machine. It starts nothing, and knows nothing
// until Run has read its folder.
func New(cfg Config) (*Member, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Member{cfg: cfg}, nil
}

func (m *Member) run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Event is Zone's.
func (m *Member) Event(name string, data any) error { return ErrAway }

// Sign is Zone's.
func (m *Member) Sign(c ticket.Claims) (string, error) { return "", ErrNoKey }

// Report is Zone's.
func (m *Member) Report(u Usage) {}

// Changed has the portal told soon of what Config.Status says.
func (m *Member) Changed() {}

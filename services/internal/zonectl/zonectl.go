// Package zonectl is what an appliance's consoles ask of the process that holds
// its membership in a zone: the zone controller, or the router on an appliance
// without one. They ask how the zone is, and for trial meetings while there is no
// portal. How it is asked is package exchange's; the codes in a trial's links are
// what lets in, so they stand in answers alone, and in no log.
package zonectl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/services/internal/exchange"
	"github.com/parley-meet/parley/services/internal/fault"
)

// roleRouter is the role of an appliance without a zone controller, as config.json
// spells it.
const roleRouter = "router"

const (
	maxRequest = 4 << 10
	maxAnswer  = 64 << 10
)

// Socket returns where the process that holds the membership answers, on an
// appliance of the role.
func Socket(role string) string {
	service := "zctrl"
	if role == roleRouter {
		service = "mmr"
	}
	return filepath.Join(layout.RunDir, service, "console.sock")
}

// Op is what is asked.
type Op string

// The operations.
const (
	OpShow   Op = "show"
	OpTrials Op = "trials" // those that have not ended
	OpNew    Op = "new"    // makes a trial meeting
	OpEnd    Op = "end"    // of one
)

// Request is what a console says.
type Request struct {
	Op      Op     `json:"op"`
	Topic   string `json:"topic,omitempty"`   // of OpNew
	Meeting string `json:"meeting,omitempty"` // of OpEnd: its id
	Host    string `json:"host,omitempty"`    // of OpNew and OpTrials: that links lead to, HOST or HOST:PORT
}

// Phase is how far the appliance is with its zone.
type Phase string

// The phases.
const (
	Away       Phase = "away"       // nobody answers: of the consoles alone
	NoToken    Phase = "no-token"   // and nothing works without, on a router
	Standalone Phase = "standalone" // no token: trial meetings alone
	Enrolling  Phase = "enrolling"  // a token, and no zone yet
	Linked     Phase = "linked"     // with the portal
	Unlinked   Phase = "unlinked"   // in a zone, and the portal is not reached
)

// State is how the appliance's zone is.
type State struct {
	Phase      Phase     `json:"phase"`
	Zone       string    `json:"zone,omitempty"`      // its name, as the portal has it
	Appliance  string    `json:"appliance,omitempty"` // its id in the zone
	Production bool      `json:"production,omitempty"`
	Portal     string    `json:"portal,omitempty"` // address of the link, or of the last attempt
	Since      time.Time `json:"since,omitzero"`   // of being linked, or not
	// Why is the portal's reason for no link, as link.Bye has it, and Reason what
	// the attempt ended with, for people who know networks.
	Why    string `json:"why,omitempty"`
	Reason string `json:"reason,omitempty"`
	// NeedsToken: it comes back only with another token.
	NeedsToken bool `json:"needsToken,omitempty"`
	// Problem is why it is in no zone, or not in that of the token saved last.
	Problem *Problem `json:"problem,omitempty"`
}

// Problem is a code of package fault, with what its text needs.
type Problem struct {
	Code string `json:"code"`
	Args []any  `json:"args,omitempty"` // strings and whole numbers
}

// Fault returns it as package fault has it.
func (p Problem) Fault(field string) fault.Fault {
	f := fault.Fault{Field: field, Code: p.Code}
	for _, a := range p.Args {
		if n, ok := a.(float64); ok { // JSON has no other
			a = int(n)
		}
		f.Args = append(f.Args, a)
	}
	return f
}

// Trial is a trial meeting. Who has a link comes in by it.
type Trial struct {
	Meeting string    `json:"meeting"` // id
	Number  string    `json:"number"`
	Topic   string    `json:"topic"`
	Host    string    `json:"host"`  // link of those who lead it
	Guest   string    `json:"guest"` // link of everybody else
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// Refusal is why an operation was not carried out.
type Refusal string

// The refusals.
const (
	HasPortal Refusal = "portal"  // meetings are the portal's
	TooMany   Refusal = "many"    // trial meetings are open
	Unknown   Refusal = "unknown" // there is no such meeting
	NotHere   Refusal = "role"    // a router alone holds none
)

// Answer is what the process says.
type Answer struct {
	State   State     `json:"state"`
	Trials  []Trial   `json:"trials,omitempty"`  // of OpTrials, the newest first; of OpNew the one that was made
	Refused Refusal   `json:"refused,omitempty"` // "" is done
	Faults  []Problem `json:"faults,omitempty"`  // what is wrong with the topic
	Error   string    `json:"error,omitempty"`   // why there is no answer
}

// Errors of Ask, beside a fault.List about the topic.
var (
	ErrPortal  = errors.New("the appliance has a token: its meetings are made on the portal")
	ErrMany    = errors.New("too many trial meetings are open")
	ErrUnknown = errors.New("there is no such trial meeting")
	ErrRole    = errors.New("a router appliance holds no trial meetings by itself")
)

// Err returns why it is no answer.
func (a Answer) Err() error {
	switch a.Refused {
	case HasPortal:
		return ErrPortal
	case TooMany:
		return ErrMany
	case Unknown:
		return ErrUnknown
	case NotHere:
		return ErrRole
	}
	var l fault.List
	for _, p := range a.Faults {
		l = append(l, p.Fault("topic"))
	}
	if a.Error != "" {
		return fmt.Errorf("zone: %s", a.Error)
	}
	return l.Err()
}

// Ask asks on the socket path.
func Ask(ctx context.Context, path string, req Request) (Answer, error) {
	a, err := exchange.Ask[Answer](ctx, path, req, maxAnswer)
	if err != nil {
		return Answer{}, fmt.Errorf("zone: %w", err)
	}
	if err := a.Err(); err != nil {
		return Answer{}, err
	}
	return a, nil
}

// Serve answers on the socket path until ctx ends, to processes of the readers.
func Serve(ctx context.Context, path string, readers []uint32, answer func(Request) Answer, log *slog.Logger) error {
	s := exchange.Server[Request, Answer]{Path: path, Readers: readers, Limit: maxRequest, Log: log,
		Answer: func(_ context.Context, req Request, err error) Answer {
			if err != nil {
				return Answer{Error: err.Error()}
			}
			switch req.Op {
			case OpShow, OpTrials, OpNew, OpEnd:
				return answer(req)
			}
			return Answer{Error: "op: there is no such operation"}
		}}
	return s.Run(ctx)
}

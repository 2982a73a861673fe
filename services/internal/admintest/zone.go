package admintest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

// Token is one of a portal for the connector.
var Token = link.Token{URL: "https://portal.example.com", ID: "t1", Secret: strings.Repeat("A", 43)}.String()

// TrialCode begins the codes of Zone's trial meetings: no log may have it.
const TrialCode = "TrialCodeSecret"

// Zone is the process that holds the membership, as a test wants it. A new one is
// standalone.
type Zone struct {
	mu     sync.Mutex
	state  zonectl.State
	trials []zonectl.Trial
	made   int
	err    error
}

// NewZone returns one.
func NewZone() *Zone { return &Zone{state: zonectl.State{Phase: zonectl.Standalone}} }

// Set says how the zone is; with an error nobody answers.
func (z *Zone) Set(s zonectl.State, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.state, z.err = s, err
}

// Ask is admin.Config.Zone.
func (z *Zone) Ask(_ context.Context, req zonectl.Request) (zonectl.Answer, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.err != nil {
		return zonectl.Answer{}, z.err
	}
	a := zonectl.Answer{State: z.state}
	if req.Op != zonectl.OpShow && z.state.Phase != zonectl.Standalone {
		return zonectl.Answer{}, zonectl.ErrPortal
	}
	switch req.Op {
	case zonectl.OpNew:
		z.made++
		at := time.Date(2026, 11, 25, 12, 0, z.made, 0, time.UTC)
		code := func(who string) string { return fmt.Sprintf("/#trial=%s-%s-%d", TrialCode, who, z.made) }
		t := zonectl.Trial{Meeting: fmt.Sprintf("m%d", z.made), Number: fmt.Sprintf("10000%05d", z.made), Topic: req.Topic,
			Host: code("host"), Guest: code("guest"), Created: at, Expires: at.Add(24 * time.Hour)}
		z.trials = slices.Insert(z.trials, 0, t)
		a.Trials = linked(z.trials[:1], req.Host)
	case zonectl.OpTrials:
		a.Trials = linked(z.trials, req.Host)
	case zonectl.OpEnd:
		n := len(z.trials)
		if z.trials = slices.DeleteFunc(z.trials, func(t zonectl.Trial) bool { return t.Meeting == req.Meeting }); len(z.trials) == n {
			return zonectl.Answer{}, zonectl.ErrUnknown
		}
	case zonectl.OpShow:
	default:
		return zonectl.Answer{}, errors.New("no such operation")
	}
	return a, nil
}

// linked returns meetings whose links lead to host.
func linked(list []zonectl.Trial, host string) (out []zonectl.Trial) {
	for _, t := range list {
		t.Host, t.Guest = "https://"+host+t.Host, "https://"+host+t.Guest
		out = append(out, t)
	}
	return out
}

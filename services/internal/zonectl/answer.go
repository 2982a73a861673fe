package zonectl

import (
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/member"
)

// Answerer answers for a member; trials is nil on an appliance without a zone
// controller.
func Answerer(zone member.Zone, trials member.Trials) func(Request) Answer {
	return func(req Request) Answer {
		a := Answer{State: Of(zone.State())}
		if req.Op == OpShow {
			return a
		}
		if trials == nil {
			a.Refused = NotHere
			return a
		}
		now := time.Now()
		switch req.Op {
		case OpTrials:
			for _, t := range trials.Trials(now) {
				a.Trials = append(a.Trials, trialOf(t, req.Host))
			}
		case OpNew:
			t, err := trials.NewTrial(req.Topic, now)
			if err == nil {
				a.Trials = []Trial{trialOf(t, req.Host)}
			}
			a.refuse(err)
		case OpEnd:
			a.refuse(trials.EndTrial(req.Meeting))
		}
		return a
	}
}

func trialOf(t member.Trial, host string) Trial {
	return Trial{Meeting: t.Meeting, Number: t.Number, Topic: t.Topic, Created: t.Created, Expires: t.Expires,
		Host: member.TrialLink(host, t.Host), Guest: member.TrialLink(host, t.Guest)}
}

func (a *Answer) refuse(err error) {
	switch {
	case err == nil:
	case errors.Is(err, member.ErrPortal):
		a.Refused = HasPortal
	case errors.Is(err, member.ErrTrials):
		a.Refused = TooMany
	case errors.Is(err, member.ErrNoTrial):
		a.Refused = Unknown
	case fault.Of(err) != nil:
		for _, f := range fault.Of(err) {
			a.Faults = append(a.Faults, problemOf(f))
		}
	default:
		a.Error = err.Error()
	}
}

func problemOf(f fault.Fault) Problem {
	return Problem{Code: f.Code, Args: f.Args}
}

// Of returns what consoles show of a membership.
func Of(s member.State) State {
	c := s.Connection
	out := State{Portal: c.Portal, Since: c.Since, Why: c.Why, Reason: c.Problem, NeedsToken: c.NeedsToken()}
	if s.Credentials != nil {
		out.Appliance = s.Credentials.Appliance
	}
	if s.Config != nil {
		out.Zone, out.Production = s.Config.Zone, s.Config.Production
	}
	if s.Problem != nil {
		p := problemOf(*s.Problem)
		out.Problem = &p
	}
	switch {
	case s.Standalone:
		// Nothing of a zone that it made for itself is for people.
		return State{Phase: Standalone, Problem: out.Problem}
	case s.Credentials != nil && c.Connected:
		out.Phase = Linked
	case s.Credentials != nil:
		out.Phase = Unlinked
	case s.Settings.Token != "":
		out.Phase = Enrolling
	default:
		out.Phase = NoToken
	}
	return out
}

package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

// zoneLimit is for an answer of the zone controller's.
const zoneLimit = 3 * time.Second

// maxTopic is how much of a topic is shown.
const maxTopic = 120

// Zone returns how the appliance's zone is; zonectl.Away is that nobody answers.
func (a *Admin) Zone(ctx context.Context) zonectl.State {
	ctx, cancel := context.WithTimeout(ctx, zoneLimit)
	defer cancel()
	r, err := a.cfg.Zone(ctx, zonectl.Request{Op: zonectl.OpShow})
	if err != nil {
		return zonectl.State{Phase: zonectl.Away}
	}
	return r.State
}

// Trials returns the trial meetings with their links, the newest first. Who has a
// host's link leads the meeting, so that only who may change things sees them.
func (a *Admin) Trials(ctx context.Context, who Actor) ([]zonectl.Trial, error) {
	if who.Authority != account.Operate {
		a.Note(who, "trial.list", "", ErrDenied)
		return nil, ErrDenied
	}
	host, err := a.trialHost(ctx)
	if err != nil {
		return nil, err
	}
	r, err := a.askZone(ctx, zonectl.Request{Op: zonectl.OpTrials, Host: host})
	if err != nil {
		return nil, err
	}
	list := append([]zonectl.Trial{}, r.Trials...)
	for i := range list {
		list[i].Topic = clean(list[i].Topic, maxTopic)
	}
	return list, nil
}

// NewTrial makes a trial meeting; an empty topic is allowed.
func (a *Admin) NewTrial(ctx context.Context, who Actor, topic string) (zonectl.Trial, error) {
	var t zonectl.Trial
	err := a.act(ctx, who, "trial.new", func() (string, error) {
		host, err := a.trialHost(ctx)
		if err != nil {
			return "", err
		}
		r, err := a.askZone(ctx, zonectl.Request{Op: zonectl.OpNew, Topic: topic, Host: host})
		if err != nil {
			return "", err
		}
		if len(r.Trials) != 1 {
			return "", errors.New("zone: no meeting in the answer")
		}
		t = r.Trials[0]
		t.Topic = clean(t.Topic, maxTopic)
		return t.Number, nil
	})
	return t, err
}

// EndTrial ends a trial meeting: its links let nobody in any more.
func (a *Admin) EndTrial(ctx context.Context, who Actor, meeting string) error {
	return a.act(ctx, who, "trial.end", func() (string, error) {
		_, err := a.askZone(ctx, zonectl.Request{Op: zonectl.OpEnd, Meeting: meeting})
		if errors.Is(err, zonectl.ErrUnknown) {
			return "", ErrUnknown
		}
		return clean(meeting, 40), err
	})
}

// askZone asks, and puts refusals into faults.
func (a *Admin) askZone(ctx context.Context, req zonectl.Request) (zonectl.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, zoneLimit)
	defer cancel()
	r, err := a.cfg.Zone(ctx, req)
	switch {
	case err == nil, fault.Of(err) != nil, errors.Is(err, zonectl.ErrUnknown):
		return r, err
	case errors.Is(err, zonectl.ErrPortal):
		return r, fault.New("", "trials-portal")
	case errors.Is(err, zonectl.ErrMany):
		return r, fault.New("", "trials-many")
	case errors.Is(err, zonectl.ErrRole):
		return r, fault.New("", "trials-role")
	}
	return r, fmt.Errorf("%w: %w", ErrAway, err)
}

// trialHost returns where the links of trial meetings lead: to the public name, or
// else to the zone controller's address as the outside knows it.
func (a *Admin) trialHost(ctx context.Context) (string, error) {
	s, err := a.connectorNow()
	if err != nil {
		return "", err
	}
	if s.PublicName != "" {
		return s.PublicName, nil
	}
	at := s.ZoneController
	if !at.IsValid() {
		if n, err := a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpStatus}); err == nil {
			at, _ = suggest(n)
		}
	}
	if own, _ := a.addresses(); !at.IsValid() { // IPv6 alone
		for _, o := range own {
			if o.Is6() && o.IsGlobalUnicast() {
				at = o
				break
			}
		}
	}
	if !at.IsValid() {
		return "", fault.New("", "trials-address")
	}
	return linkHost(s.Outside(at)), nil
}

// linkHost is an address as it stands in a link.
func linkHost(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.WithZone("").String() + "]"
	}
	return a.String()
}

package webconsole

import (
	"cmp"
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

// ZoneState is how the appliance's zone is.
type ZoneState struct {
	zonectl.State
	// Text is the problem or the reason for no link in words, "" where all is well.
	Text string `json:"text,omitempty"`
}

// TrialInput is a new trial meeting.
type TrialInput struct {
	Topic string `json:"topic"`
}

// Trials are the trial meetings that have not ended, the newest first.
type Trials struct {
	Trials []zonectl.Trial `json:"trials"`
}

func (c *Console) zoneEndpoints() []endpoint {
	a := c.cfg.Admin
	return []endpoint{
		api.Get("/api/v1/zone", "getZone", "How the appliance's zone is: standalone, enrolling, linked with the portal since when, or why not.", needView,
			func(k *call) (ZoneState, error) {
				s := a.Zone(k.ctx())
				return ZoneState{s, zoneText(k.words, s)}, nil
			}),
		api.Get("/api/v1/zone/trials", "listTrials", "The trial meetings of an appliance without a token, with their links. Who has a host's link leads the meeting.", needOperate,
			func(k *call) (Trials, error) {
				list, err := a.Trials(k.ctx(), k.who)
				return Trials{list}, err
			}),
		api.Send("POST", "/api/v1/zone/trials", "makeTrial", "Make a trial meeting; an empty topic is allowed. It ends after a day.", needOperate,
			func(k *call, in TrialInput) (zonectl.Trial, error) { return a.NewTrial(k.ctx(), k.who, in.Topic) }),
		api.Act("DELETE", "/api/v1/zone/trials/{meeting}", "endTrial", "End a trial meeting: its links let nobody in any more.", needOperate,
			func(k *call) (none, error) { return none{}, a.EndTrial(k.ctx(), k.who, k.r.PathValue("meeting")) }),
	}
}

// zoneText says what is wrong with the zone, or "".
func zoneText(w *look.Words, s zonectl.State) string {
	switch {
	case s.Problem != nil:
		return api.Cut(s.Problem.Fault("").Text(w), 400)
	case s.Phase != zonectl.Unlinked:
		return ""
	case s.Why != "" && w.Has("zone.why."+s.Why):
		return w.T("zone.why." + s.Why)
	}
	return api.Cut(cmp.Or(s.Reason, s.Why), 300)
}

// zone puts the zone into fields.
func (v view) zone(s *state, w *look.Words) {
	z := s.zone
	phase := field{Text: w.T("zone.phase." + string(z.Phase)), State: fieldWarn}
	switch z.Phase {
	case zonectl.Linked, zonectl.Standalone:
		phase.State = fieldGood
	case zonectl.Away:
		phase.State = fieldBad
	}
	if z.NeedsToken {
		phase.State = fieldBad
	}
	v["zone.state"] = phase
	v["zone.hint"] = field{Hidden: true}
	if hint := "zone.hint." + string(z.Phase); w.Has(hint) {
		v["zone.hint"] = field{Text: w.T(hint)}
	}
	text := zoneText(w, z)
	v["zone.text"] = field{Text: text, Hidden: text == ""}
	or := func(text string) field { return field{Text: cmp.Or(api.Cut(text, 200), "–")} }
	v["zone.name"], v["zone.portal"] = or(z.Zone), or(z.Portal)
	v["zone.since"] = or("")
	if !z.Since.IsZero() && z.Phase != zonectl.Away {
		v["zone.since"] = timeField(z.Since, exact(z.Since))
	}
	v["zone.facts"] = field{Hidden: z.Phase != zonectl.Linked && z.Phase != zonectl.Unlinked}
	v["zone.trials"] = field{Hidden: z.Phase != zonectl.Standalone}
}

// trialRow is a trial meeting on the page.
type trialRow struct {
	zonectl.Trial
	Until field
}

// trialRows returns those that who asks may see.
func trialRows(k *call, now time.Time) ([]trialRow, error) {
	if !k.may() || k.c.source.get(k.ctx(), fresh).zone.Phase != zonectl.Standalone {
		return nil, nil
	}
	list, err := k.admin().Trials(k.ctx(), k.who)
	if errors.Is(err, admin.ErrAway) {
		return nil, nil
	}
	var out []trialRow
	for _, t := range list {
		out = append(out, trialRow{t, timeField(t.Expires, k.words.Duration(max(0, t.Expires.Sub(now))))})
	}
	return out, err
}

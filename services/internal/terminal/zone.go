package terminal

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

var trialForms = []string{"trial", "trial new [TOPIC]", "trial end NUMBER"}

// showZone shows how the appliance's zone is.
func (s *session) showZone(ctx context.Context) error {
	z, err := get(s, ctx, statusLimit, func(ctx context.Context) (zonectl.State, error) { return s.c.cfg.Admin.Zone(ctx), nil })
	if err != nil {
		return err
	}
	w := s.words()
	key := "zone." + string(cmp.Or(z.Phase, zonectl.Away))
	if z.Phase != zonectl.Linked && z.Phase != zonectl.Unlinked {
		s.row("field.zone", w.T(key))
	} else {
		s.row("field.zone", w.T(key, clean(z.Zone, 80)))
		s.row("field.portal", orNone(w, clean(z.Portal, 200)))
		if !z.Since.IsZero() {
			s.row("field.since", z.Since.UTC().Format("2006-01-02 15:04:05 UTC"))
		}
	}
	if text := zoneProblem(w, z); text != "" {
		s.row("field.problem", text)
	}
	return nil
}

// zoneProblem says what is wrong with the zone, or "".
func zoneProblem(w *look.Words, z zonectl.State) string {
	switch {
	case z.Problem != nil:
		return clean(z.Problem.Fault("").Text(w), 400)
	case z.Phase != zonectl.Unlinked:
		return ""
	case z.Why != "" && w.Has("zone.why-"+z.Why):
		return w.T("zone.why-" + z.Why)
	}
	return clean(cmp.Or(z.Reason, z.Why), 300)
}

func (s *session) cmdTrial(ctx context.Context, args []string) error {
	if now := s.c.snapshot().status; now != nil && !s.inZone(now.Role) {
		return nil
	}
	verb := ""
	if len(args) > 0 {
		verb = strings.ToLower(args[0])
	}
	switch {
	case verb == "":
		return s.showTrials(ctx)
	case verb == "new":
		return s.newTrial(ctx, strings.Join(args[1:], " "))
	case verb == "end" && len(args) == 2:
		return s.endTrial(ctx, args[1])
	}
	return find("trial").wrong()
}

func (s *session) trials(ctx context.Context) ([]zonectl.Trial, error) {
	return get(s, ctx, opLimit, func(ctx context.Context) ([]zonectl.Trial, error) { return s.c.cfg.Admin.Trials(ctx, s.who) })
}

func (s *session) showTrials(ctx context.Context) error {
	list, err := s.trials(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		s.say("trial.none")
	}
	for _, t := range list {
		s.showTrial(t)
	}
	return nil
}

// showTrial shows a meeting. Its links are not wrapped: they are copied.
func (s *session) showTrial(t zonectl.Trial) {
	s.heading("trial.is", clean(t.Number, 20), clean(t.Topic, 120), s.words().Duration(max(0, time.Until(t.Expires))))
	s.say("trial.host")
	s.printf("  %s\n", clean(t.Host, 400))
	s.say("trial.guest")
	s.printf("  %s\n\n", clean(t.Guest, 400))
}

func (s *session) newTrial(ctx context.Context, topic string) error {
	made := make(chan zonectl.Trial, 1)
	err := s.do(ctx, "trial new", opLimit, func(ctx context.Context, who admin.Actor) error {
		t, err := s.c.cfg.Admin.NewTrial(ctx, who, topic)
		made <- t
		return err
	})
	if err != nil {
		return err
	}
	s.showTrial(<-made)
	return nil
}

func (s *session) endTrial(ctx context.Context, number string) error {
	list, err := s.trials(ctx)
	if err != nil {
		return err
	}
	for _, t := range list {
		if t.Number != number {
			continue
		}
		err := s.do(ctx, "trial end", opLimit, func(ctx context.Context, who admin.Actor) error {
			return s.c.cfg.Admin.EndTrial(ctx, who, t.Meeting)
		})
		return s.done(err, "trial.ended")
	}
	return usageError{"trial.unknown", clean(number, 40)}
}

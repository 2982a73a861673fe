package terminal

import (
	"context"
	"strconv"
	"strings"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
)

func (s *session) cmdTime(ctx context.Context, args []string) error {
	a := s.c.cfg.Admin
	if len(args) > 0 {
		switch verb := strings.ToLower(args[0]); {
		case verb == "set" && len(args) > 1:
			t := strings.Join(args[1:], " ")
			err := s.do(ctx, "time set", opLimit, func(ctx context.Context, who admin.Actor) error { return a.SetTime(ctx, who, t) })
			if err != nil {
				return err
			}
		case verb == "sync" && len(args) == 1:
			err := s.do(ctx, "time sync", netLimit, func(ctx context.Context, who admin.Actor) error {
				_, err := a.SyncTime(ctx, who)
				return err
			})
			if err != nil {
				return err
			}
		default:
			return find("time").wrong()
		}
	}
	sys, err := get(s, ctx, statusLimit, a.System)
	if err != nil {
		return err
	}
	s.row("status.time", sys.Now.UTC().Format("2006-01-02 15:04:05 UTC"))
	s.row("network.clock", s.clock(sys.Clock))
	if len(sys.Clock.Servers) > 0 {
		s.row("field.ntp.servers", clean(strings.Join(sys.Clock.Servers, " "), 400))
	}
	return nil
}

// maxAudit is how many lines of the audit log can be asked for.
const maxAudit = 500

func parseAudit(args []string) (int, error) {
	text := "20"
	if len(args) > 0 {
		var is bool
		if text, is = strings.CutPrefix(args[0], "-n"); !is || (text == "") != (len(args) == 2) {
			return 0, find("audit").wrong()
		}
		if text == "" {
			text = args[1]
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxAudit {
		return 0, usageError{"logs.lines", strconv.Itoa(maxAudit)}
	}
	return n, nil
}

func (s *session) cmdAudit(ctx context.Context, args []string) error {
	n, err := parseAudit(args)
	if err != nil {
		return err
	}
	list, err := get(s, ctx, statusLimit, func(ctx context.Context) ([]admin.Entry, error) { return s.c.cfg.Admin.Audit(ctx, n) })
	if err != nil {
		return err
	}
	w := s.words()
	width, _ := s.size()
	if len(list) == 0 {
		s.say("logs.none")
	}
	for _, e := range list {
		text := e.At.UTC().Format("2006-01-02 15:04:05") + " " + clean(e.Who, 64) + " (" + clean(e.Via, 16) + " " + clean(e.From, 64) + "): " +
			clean(w.Or("audit.", e.What), 80)
		if e.Detail != "" {
			text += ": " + clean(e.Detail, 2000)
		}
		if e.Error != "" {
			text += " – " + w.T("error", clean(e.Error, 400))
		}
		s.printf("%s\n", hang(text, width-1, 4))
	}
	return nil
}

// cloneText says what makes one think that this machine is a copy.
func cloneText(w interface {
	T(string, ...any) string
	Or(string, string) string
}, m control.Machine) string {
	return w.T("clone.what", clean(w.Or("clone.", m.Why), 80), clean(m.Was, 40), clean(m.Now, 40), m.Since.UTC().Format("2006-01-02 15:04 UTC"))
}

// askClone asks what must be answered before two appliances use one identity.
func (s *session) askClone(ctx context.Context) error {
	s.say("clone.question")
	answer, err := s.ask(ctx, s.words().T("clone.prompt"), false)
	if err != nil {
		return err
	}
	switch a := strings.ToLower(strings.TrimSpace(answer)); a {
	case "copy", "same":
		return s.answerClone(ctx, a)
	}
	s.say("clone.later")
	return nil
}

func (s *session) answerClone(ctx context.Context, answer string) error {
	err := s.do(ctx, "identity "+answer, opLimit, func(ctx context.Context, who admin.Actor) error { return s.c.cfg.Admin.AnswerClone(ctx, who, answer) })
	return s.done(err, "clone.is-"+answer)
}

func (s *session) cmdIdentity(ctx context.Context, args []string) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if !st.Machine.Changed {
		s.say("clone.none", orNone(s.words(), clean(st.Machine.Now, 40)))
		return nil
	}
	if len(args) == 0 {
		s.say("clone.shown", cloneText(s.words(), st.Machine))
		s.say("more.identity")
		return nil
	}
	answer := strings.ToLower(args[0])
	if answer != "same" && answer != "copy" {
		return find("identity").wrong()
	}
	if ok, err := s.confirm(ctx, "clone.sure-"+answer); err != nil || !ok {
		return err
	}
	return s.answerClone(ctx, answer)
}

func (s *session) cmdFactoryReset(ctx context.Context, _ []string) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	s.say("reset.what")
	typed, err := s.ask(ctx, s.words().T("reset.confirm", clean(st.Hostname, 60)), false)
	if err != nil {
		return err
	}
	if typed = strings.TrimSpace(typed); typed != st.Hostname {
		s.say("cancelled")
		return nil
	}
	err = s.do(ctx, "factory-reset", opLimit, func(ctx context.Context, who admin.Actor) error { return s.c.cfg.Admin.FactoryReset(ctx, who, typed) })
	if err != nil {
		return err
	}
	s.say("reset.now")
	return errLogout
}

package terminal

import (
	"context"
	"strings"

	"github.com/parley-meet/parley/services/internal/portalctl"
)

// rolePortal is the appliance's that is a portal.
const rolePortal = "portal"

var portalForms = []string{"portal", "portal acme EMAIL", "portal install", "portal self"}

func (s *session) cmdPortal(ctx context.Context, args []string) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if st.Role != rolePortal {
		s.say("portal.none")
		return nil
	}
	verb := ""
	if len(args) > 0 {
		verb = strings.ToLower(args[0])
	}
	req := portalctl.Request{Op: portalctl.OpSelf}
	switch {
	case verb == "" && len(args) == 0:
		return s.showPortal(ctx)
	case verb == "self" && len(args) == 1:
	case verb == "acme" && len(args) == 2:
		req = portalctl.Request{Op: portalctl.OpACME, Email: args[1]}
	case verb == "install" && len(args) == 1:
		pem, err := s.readPEM(ctx, "portal.paste")
		if err != nil {
			return err
		}
		req = portalctl.Request{Op: portalctl.OpFiles, PEM: pem}
	default:
		return find("portal").wrong()
	}
	return s.setPortal(ctx, req)
}

// showPortal shows where the portal is and, while nobody operates it, a new link
// for the first operator. The link is on this screen alone: that it was shown is
// noted, and what it is is not.
func (s *session) showPortal(ctx context.Context) error {
	a, err := s.askPortal(ctx, portalctl.Request{Op: portalctl.OpShow})
	if err != nil {
		return err
	}
	if a.Waits != "" {
		s.say("portal.waits-" + string(a.Waits))
		return nil
	}
	s.say("portal.address", clean(a.URL, 300))
	s.say("portal.tls-" + string(a.TLS))
	if a.Link == "" {
		s.say("portal.operated")
		return nil
	}
	s.note(ctx, s.who, "portal.link", "", nil)
	s.say("portal.link")
	// Not wrapped: it is copied.
	s.printf("\n  %s\n\n", clean(a.Link, 400))
	return nil
}

func (s *session) setPortal(ctx context.Context, req portalctl.Request) error {
	a, err := s.askPortal(ctx, req)
	if err == nil && a.Waits != "" {
		s.say("portal.waits-" + string(a.Waits))
		return nil
	}
	if err == nil && a.Problem != "" {
		s.say("portal.problem-"+string(a.Problem), clean(a.URL, 300))
		return nil
	}
	s.note(ctx, s.who, "portal.tls", string(req.Op), err)
	return s.done(err, "portal.saved")
}

func (s *session) askPortal(ctx context.Context, req portalctl.Request) (portalctl.Answer, error) {
	return get(s, ctx, 2*portalctl.Timeout, func(ctx context.Context) (portalctl.Answer, error) { return s.c.cfg.Portal(ctx, req) })
}

// inZone says it and returns false on a portal, whose image has nothing else.
func (s *session) inZone(role string) bool {
	if role != rolePortal {
		return true
	}
	s.say("portal.no-zone")
	return false
}

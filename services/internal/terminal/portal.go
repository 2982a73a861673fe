package terminal

import (
	"context"

	"github.com/parley-meet/parley/services/internal/setuplink"
)

// rolePortal is the appliance's that is a portal.
const rolePortal = "portal"

// cmdPortal shows where the portal is and, while nobody operates it, a new link
// for the first operator. The link is on this screen alone: that it was shown is
// noted, and what it is is not.
func (s *session) cmdPortal(ctx context.Context, _ []string) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if st.Role != rolePortal {
		s.say("portal.none")
		return nil
	}
	a, err := get(s, ctx, 2*setuplink.Timeout, s.c.cfg.Setup)
	if err != nil {
		return err
	}
	switch {
	case a.Waits != "":
		s.say("portal.waits-" + string(a.Waits))
	case a.Link == "":
		s.say("portal.address", clean(a.URL, 300))
		s.say("portal.operated")
	default:
		s.note(ctx, s.who, "portal.link", "", nil)
		s.say("portal.address", clean(a.URL, 300))
		s.say("portal.link")
		// Not wrapped: it is copied.
		s.printf("\n  %s\n\n", clean(a.Link, 400))
	}
	return nil
}

// inZone says it and returns false on a portal, whose image has nothing else.
func (s *session) inZone(role string) bool {
	if role != rolePortal {
		return true
	}
	s.say("portal.no-zone")
	return false
}

package webconsole

import (
	"fmt"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portalctl"
)

// PortalLink is the way in for a portal's first operator.
type PortalLink struct {
	URL  string `json:"url"`  // of the portal
	Link string `json:"link"` // good for a day, and until another is made
}

func (c *Console) portalEndpoints() []endpoint {
	return []endpoint{
		api.Act("POST", "/api/v1/portal/link", "makePortalLink", "Make a link for the first operator of the portal that runs here; those before it are void. It is in this answer and nowhere else.",
			needOperate, c.portalLink).With(func(e *endpoint) { e.NoToken = true }),
	}
}

func (c *Console) portalLink(k *call) (PortalLink, error) {
	if !c.source.get(k.ctx(), fresh).portal() {
		return PortalLink{}, errNotFound
	}
	a, err := c.cfg.Portal(k.ctx(), portalctl.Request{Op: portalctl.OpShow})
	switch {
	case err != nil:
		return PortalLink{}, fmt.Errorf("%w: %w", admin.ErrAway, err)
	case a.Waits != "":
		return PortalLink{}, fault.New("", "portal-waits")
	case a.Link == "":
		return PortalLink{}, fault.New("", "portal-operated", a.URL)
	}
	k.admin().Note(k.who, "portal.link", "", nil)
	return PortalLink{a.URL, a.Link}, nil
}

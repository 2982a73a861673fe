package web

import (
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// EnableInput turns the connector on.
type EnableInput struct {
	Zone string `json:"zone"` // name of the first zone; counts when there is none
}

// ZoneInput is a zone's name.
type ZoneInput struct {
	Name string `json:"name"`
}

// RotateInput replaces a token.
type RotateInput struct {
	Hours int `json:"hours"` // that the old one goes on, 0 to 168
}

// RevokeInput ends a token.
type RevokeInput struct {
	Appliances bool `json:"appliances"` // take out what was enrolled with it
}

// ProductionInput is where the account is to be.
type ProductionInput struct {
	On     bool `json:"on"`     // in production
	Accept bool `json:"accept"` // although some checks are not good
}

// AllowInput is who may host in a zone.
type AllowInput struct {
	Everybody bool     `json:"everybody"`        // of the account; then no users and groups
	Users     []string `json:"users,omitempty"`  // ids or e-mail addresses
	Groups    []string `json:"groups,omitempty"` // ids
	// Accounts are ids of sub-accounts. Left out they stay as they are; to change
	// them is the owner's, and a token's with account:write.
	Accounts []string `json:"accounts,omitempty"`
}

// allowed checks that a choice is one: nobody chosen would be everybody.
func (in AllowInput) allowed() (zones.Allowed, error) {
	if in.Everybody {
		return zones.Allowed{Accounts: in.Accounts}, nil
	}
	if len(in.Users)+len(in.Groups) == 0 {
		return zones.Allowed{}, fault.New("users", "zone-nobody")
	}
	return zones.Allowed{Users: in.Users, Groups: in.Groups, Accounts: in.Accounts}, nil
}

func (p *Portal) connectorEndpoints() []endpoint {
	z := p.cfg.Zones
	read, write := scope("connector:read"), scope("connector:write")
	id := func(k *call) string { return k.r.PathValue("id") }
	return []endpoint{
		api.Get("/api/v1/connector", "getConnector", "The account's meeting connector with its zones.", needAdmin,
			func(k *call) (zones.Connector, error) { return z.Get(k.ctx(), k.who) }).With(read),
		api.Send("POST", "/api/v1/connector/enable", "enableConnector", "Enable the meeting connector. The first time it makes a zone.", needAdmin,
			func(k *call, in EnableInput) (none, error) { return none{}, z.Enable(k.ctx(), k.who, in.Zone) }).With(write),
		api.Act("POST", "/api/v1/connector/disable", "disableConnector", "Disable the meeting connector: appliances are sent away and no meeting starts. Zones, tokens and appliances are kept.", needAdmin,
			func(k *call) (none, error) { return none{}, z.Disable(k.ctx(), k.who) }).With(write),
		api.Get("/api/v1/connector/readiness", "getReadiness", "The checklist before production.", needAdmin,
			func(k *call) (zones.Readiness, error) { return z.Readiness(k.ctx(), k.who) }).With(read),
		api.Send("PUT", "/api/v1/connector/production", "setProduction", "Go to production, or back to test.", needAdmin,
			func(k *call, in ProductionInput) (none, error) {
				return none{}, z.SetProduction(k.ctx(), k.who, in.On, in.Accept)
			}).With(write),
		api.Get("/api/v1/connector/tokens", "listEnrolmentTokens", "Enrolment tokens without their secrets, the newest first.", needAdmin,
			func(k *call) ([]zones.Token, error) { return z.Tokens(k.ctx(), k.who) }).With(read),
		api.Send("POST", "/api/v1/connector/tokens", "addEnrolmentToken", "Make an enrolment token. Its secret is in this answer alone.", needAdmin,
			func(k *call, in zones.TokenInput) (zones.MadeToken, error) { return z.AddToken(k.ctx(), k.who, in) }).With(write),
		api.Send("POST", "/api/v1/connector/tokens/{id}/rotate", "rotateEnrolmentToken", "Replace an enrolment token by a new one; the old one ends after some hours.", needAdmin,
			func(k *call, in RotateInput) (zones.MadeToken, error) {
				return z.RotateToken(k.ctx(), k.who, id(k), in.Hours)
			}).With(write),
		api.Send("POST", "/api/v1/connector/tokens/{id}/revoke", "revokeEnrolmentToken", "End an enrolment token at once.", needAdmin,
			func(k *call, in RevokeInput) (none, error) {
				return none{}, z.RevokeToken(k.ctx(), k.who, id(k), in.Appliances)
			}).With(write),
		api.Send("POST", "/api/v1/connector/zones", "addZone", "Make a zone with an authority of its own.", needAdmin,
			func(k *call, in ZoneInput) (zones.Zone, error) { return z.Add(k.ctx(), k.who, in.Name) }).With(write),
		api.Send("PUT", "/api/v1/connector/zones/{id}", "setZone", "Rename a zone.", needAdmin,
			func(k *call, in ZoneInput) (none, error) { return none{}, z.Rename(k.ctx(), k.who, id(k), in.Name) }).With(write),
		api.Act("DELETE", "/api/v1/connector/zones/{id}", "removeZone", "Remove a zone in which nothing is enrolled.", needAdmin,
			func(k *call) (none, error) { return none{}, z.Remove(k.ctx(), k.who, id(k)) }).With(write),
		api.Get("/api/v1/connector/zones/{id}/allowed", "getAllowed", "Who may host in a zone. No users and groups: everybody of the account.", needAdmin,
			func(k *call) (zones.Allowed, error) { return z.Allowed(k.ctx(), k.who, id(k)) }).With(read),
		api.Send("PUT", "/api/v1/connector/zones/{id}/allowed", "setAllowed", "Say who may host in a zone. Sub-accounts that are left out stay as they are; an owner alone changes them.", needAdmin,
			func(k *call, in AllowInput) (none, error) {
				a, err := in.allowed()
				if err == nil && in.Accounts != nil && !k.who.Scoped("account:write") {
					err = errScope
				}
				if err != nil {
					return none{}, err
				}
				return none{}, z.Allow(k.ctx(), k.who, id(k), a)
			}).With(write),
		api.Get("/api/v1/connector/appliances", "listAppliances", "Appliances that are enrolled.", needAdmin,
			func(k *call) ([]zones.Appliance, error) { return z.Appliances(k.ctx(), k.who) }).With(read),
		api.Send("PUT", "/api/v1/connector/appliances/{id}", "setApplianceNames", "Say how an appliance is reached from outside.", needAdmin,
			func(k *call, in zones.NamesInput) (none, error) {
				return none{}, z.SetNames(k.ctx(), k.who, id(k), in)
			}).With(write),
		api.Act("DELETE", "/api/v1/connector/appliances/{id}", "removeAppliance", "Take an appliance out of its zone. Its link ends within seconds.", needAdmin,
			func(k *call) (none, error) { return none{}, z.RemoveAppliance(k.ctx(), k.who, id(k)) }).With(write),
	}
}

package web

import (
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/portal/names"
)

func (p *Portal) nameEndpoints() []endpoint {
	n := p.cfg.Names
	read, write := scope("connector:read"), scope("connector:write")
	return []endpoint{
		api.Get("/api/v1/connector/certificates", "listControllerCertificates", "Certificates for browsers that controllers have asked for.", needAdmin,
			func(k *call) ([]names.Order, error) { return n.Orders(k.ctx(), k.who) }).With(read),
		api.Get("/api/v1/connector/names", "getNameSettings", "How certificates for browsers are ordered, without the secret.", needAdmin,
			func(k *call) (names.Settings, error) { return n.Settings(k.ctx(), k.who) }).With(read),
		api.Send("PUT", "/api/v1/connector/names", "setNameSettings", "Say how certificates for browsers are ordered. An empty secret keeps the one there is, unless the server or the key changes.", needAdmin,
			func(k *call, in names.Settings) (none, error) { return none{}, n.SetSettings(k.ctx(), k.who, in) }).With(write),
	}
}

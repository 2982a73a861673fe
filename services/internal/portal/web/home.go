package web

import (
	"net/http"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

func (p *Portal) homePages() []page {
	return []page{
		{Path: "/", Section: "home", Title: "home.title", Template: "home", Need: needPerson, Load: func(k *call) (any, error) {
			return homeData{k.session.User}, nil
		}},
	}
}

type homeData struct{ User people.User }

// Self is who calls.
type Self struct {
	User people.User `json:"user"`
	Via  string      `json:"via"` // "web" or "api"
}

func (p *Portal) homeEndpoints() []endpoint {
	return []endpoint{
		api.Get("/api/v1/self", "getSelf", "Who calls.", needPerson, func(k *call) (Self, error) {
			if k.session != nil {
				return Self{k.session.User, k.who.Via}, nil
			}
			return Self{}, errNoToken
		}).With(person),
	}
}

func (p *Portal) apiPages() []page { return nil }

func (p *Portal) apiEndpoints() []endpoint {
	return []endpoint{
		api.Raw("GET", "/api/openapi.json", "getDescription", "This description.", needNobody, "application/json", func(k *call) error {
			k.w.Header().Set("Content-Type", "application/json")
			if _, err := k.w.Write(p.openapi()); err != nil {
				return http.ErrAbortHandler
			}
			return nil
		}),
	}
}

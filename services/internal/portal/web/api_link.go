package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/zones"
	"github.com/parley-meet/parley/services/internal/throttle"
)

// maxEnrolNetworks is how many networks that send wrong tokens are counted.
const maxEnrolNetworks = 4096

// linkEndpoints are what appliances call before they have a certificate.
func (p *Portal) linkEndpoints() []endpoint {
	wrong := throttle.NewTable(maxEnrolNetworks)
	return []endpoint{
		api.Send("POST", "/api/v1/link/enrol", "enrol", "Take an appliance into the zone of a token, which goes as a bearer token, and issue its first certificate.", needNobody,
			func(k *call, in link.EnrolRequest) (link.EnrolAnswer, error) {
				secret, ok := api.Bearer(k.r)
				if !ok {
					return link.EnrolAnswer{}, errUnauthorized
				}
				// Of 256 random bits nobody guesses any; what is held up is the load.
				from, now := throttle.Network(remote(k.r)), time.Now()
				if wait := wrong.Wait(from, now); wait > 0 {
					return link.EnrolAnswer{}, api.Throttled{Wait: wait}
				}
				out, err := k.p.cfg.Zones.Enrol(k.ctx(), secret, remote(k.r), in)
				if errors.Is(err, zones.ErrToken) {
					wrong.Fail(from, now)
				}
				return out, err
			}).With(func(e *endpoint) { e.Bearer = true }),
	}
}

// connectorProblem is what is wrong with the connector itself, or nil.
func connectorProblem(err error) (status int, code string) {
	switch {
	case errors.Is(err, zones.ErrToken):
		return http.StatusUnauthorized, "enrol-token"
	case errors.Is(err, zones.ErrType):
		return http.StatusConflict, "connector-type"
	case errors.Is(err, zones.ErrOff):
		return http.StatusConflict, "connector-off"
	}
	return 0, ""
}

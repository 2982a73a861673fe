package webconsole

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/firewall"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// networkLimit is how long a change of the network may take until it is in
// force: an address is probed, DHCP asked.
const networkLimit = 60 * time.Second

// Change names a pending change of the network.
type Change struct {
	ID string `json:"id"`
}

// holdParam says whether a change must be confirmed.
var holdParam = []api.Param{{Name: "hold", Summary: "false: no confirmation is needed", Schema: "boolean"}}

// setNetwork applies a configuration.
func (c *Console) setNetwork(k *call, in netconfig.Input) (*netclient.Status, error) {
	hold := true
	switch v := k.r.URL.Query().Get("hold"); v {
	case "", "true":
	case "false":
		hold = false
	default:
		return nil, fault.New("hold", "choice", api.Cut(v, 40), "true, false")
	}
	k.patient(networkLimit)
	// A browser that the change cuts off does not undo it; the deadline does.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.ctx()), networkLimit)
	defer cancel()
	return k.admin().SetNetwork(ctx, k.who, in, hold)
}

// firewallRules answers GET /api/v1/network/firewall.
func (c *Console) firewallRules(k *call) error {
	st, err := k.admin().Network(k.ctx())
	if err != nil {
		return err
	}
	rules := c.siteRules(k, st)
	h := k.w.Header()
	switch v := k.r.URL.Query().Get("format"); v {
	case "", "json":
		api.WriteJSON(k.w, http.StatusOK, rules)
	case "text":
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Content-Disposition", `attachment; filename="parley-firewall.txt"`)
		_, _ = io.WriteString(k.w, firewall.Text(rules, k.words))
	case "csv":
		h.Set("Content-Type", "text/csv; charset=utf-8")
		h.Set("Content-Disposition", `attachment; filename="parley-firewall.csv"`)
		_, _ = k.w.Write(firewall.CSV(rules, k.words))
	default:
		return fault.New("format", "choice", api.Cut(v, 40), "json, text, csv")
	}
	return nil
}

func (c *Console) networkEndpoints() []endpoint {
	a := c.cfg.Admin
	return []endpoint{
		api.Get("/api/v1/network", "getNetwork", "The network: saved configuration, what is in force, a change that waits to be confirmed, clock, firewall.", needView,
			func(k *call) (*netclient.Status, error) { return a.Network(k.ctx()) }),
		api.Send("PUT", "/api/v1/network", "setNetwork", "Apply a configuration. The old one returns after 90 s unless the change is confirmed from a connection that was made after it; hold=false saves it at once, for programs that reach the appliance another way.", needOperate,
			c.setNetwork).With(func(e *endpoint) { e.Query = holdParam }),
		c.changeNetwork(),
		api.Raw("GET", "/api/v1/network/firewall", "getFirewallRules", "What the site's own firewall must let through: JSON, or with format=text or csv a file in the caller's language.", needView,
			"application/json", c.firewallRules).With(func(e *endpoint) {
			e.Query = []api.Param{{Name: "format", Summary: "text or csv", Schema: "string"}}
		}),
		api.Send("POST", "/api/v1/network/confirm", "confirmNetwork", "Confirm the pending change, from a connection that was made after it.", needOperate,
			func(k *call, in Change) (none, error) {
				return none{}, a.ConfirmNetwork(k.ctx(), k.who, in.ID, k.connected())
			}),
		api.Send("POST", "/api/v1/network/revert", "revertNetwork", "Undo the pending change now.", needOperate,
			func(k *call, in Change) (none, error) {
				k.patient(networkLimit)
				return none{}, a.RevertNetwork(context.WithoutCancel(k.ctx()), k.who, in.ID)
			}),
		api.Act("POST", "/api/v1/network/sync", "syncTime", "Ask the time servers now.", needOperate,
			func(k *call) (*netclient.Status, error) {
				k.patient(networkLimit)
				return a.SyncTime(k.ctx(), k.who)
			}),
		api.Get("/api/v1/connector", "getConnector", "What the meeting connector is told, and what is missing.", needView,
			func(k *call) (admin.Connector, error) { return a.Connector(k.ctx()) }),
		api.Send("PUT", "/api/v1/connector", "setConnector", "Set it. A token that is not given stays as it is.", needOperate,
			func(k *call, in admin.ConnectorInput) (admin.Connector, error) {
				return a.SetConnector(k.ctx(), k.who, in)
			}),
		api.Act("DELETE", "/api/v1/connector/token", "removeConnectorToken", "Remove the token; the rest stays as it is.", needOperate, c.removeConnectorToken),
	}
}

// removeConnectorToken answers DELETE /api/v1/connector/token.
func (c *Console) removeConnectorToken(k *call) (admin.Connector, error) {
	n, err := k.admin().Connector(k.ctx())
	if err != nil {
		return admin.Connector{}, err
	}
	in := admin.ConnectorInput{Token: new(string), ZoneController: addrText(n.ZoneController), Router: addrText(n.Router),
		OtherZoneController: addrText(n.OtherZoneController), PublicName: n.PublicName, Limit: strconv.Itoa(n.Limit)}
	for _, e := range n.External {
		in.External = append(in.External, struct {
			Local    string `json:"local"`
			External string `json:"external"`
		}{addrText(e.Local), addrText(e.External)})
	}
	return k.admin().SetConnector(k.ctx(), k.who, in)
}

// endpoints is the whole API.
func (c *Console) endpoints() []endpoint {
	return slices.Concat(
		c.networkEndpoints(),
		c.zoneEndpoints(),
		c.serviceEndpoints(),
		[]endpoint{c.meetingEndpoint()},
		c.accountEndpoints(),
		c.certificateEndpoints(),
		c.systemEndpoints(),
		c.portalEndpoints(),
		[]endpoint{api.Raw("GET", "/api/openapi.json", "getDescription", "This description, OpenAPI 3.1.", needNobody, "application/json", c.apiDocument)})
}

// verbs are what may be done with a service.
var verbs = map[string]control.Op{"start": control.OpStart, "stop": control.OpStop, "restart": control.OpRestart}

package webconsole

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/firewall"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// networkPages show what is in force and change what is wanted.
func (c *Console) networkPages() []page {
	return []page{
		{Path: "/network", Section: "network", Title: "net.status.title", Template: "network", Scripts: []string{"live.js"}, Load: c.networkPage},
		{Path: "/network/address", Section: "network", Title: "net.address.title", Template: "address", Load: c.networkForm},
		{Path: "/network/services", Section: "network", Title: "net.services.title", Template: "names", Load: c.networkForm},
		{Path: "/network/firewall", Section: "network", Title: "net.firewall.title", Template: "firewall", Load: c.firewallPage},
	}
}

// networkData is the page of what is in force.
type networkData struct {
	statusData
	Operators []operator
	Cards     []card
	Problems  []string
	Undone    string
}

// operator is one of the two processes that operators look for on this page.
type operator struct {
	Name, Title string
	Stop        string // what the dialog says
}

// card is a block of facts.
type card struct {
	ID, Title, Code string
	State           field
	Facts           []fact
}

func (c *Console) networkPage(k *call) (any, error) {
	o, err := c.overview(k)
	if err != nil {
		return nil, err
	}
	w := k.words
	d := networkData{statusData: o.(statusData)}
	for _, r := range d.Services {
		if r.Name == "zctrl" || r.Name == "mmr" {
			d.Operators = append(d.Operators, operator{r.Name, r.Title, w.T("confirm.stop.any")})
		}
	}
	st, err := k.admin().Network(k.ctx())
	if err != nil {
		d.Problems = append(d.Problems, k.failure(err).Message)
		return d, nil
	}
	if p := st.State.Problem; p != "" {
		d.Problems = append(d.Problems, api.Cut(p, 300))
	}
	for _, dup := range st.State.Duplicates {
		d.Problems = append(d.Problems, w.T("net.duplicate", dup.Address.String(), api.Cut(dup.HardwareAddress, 40)))
	}
	if p := st.Firewall.Problem; p != "" {
		d.Problems = append(d.Problems, w.T("net.firewall.problem", api.Cut(p, 300)))
	}
	if r := st.Reverted; r != nil && st.Pending == nil {
		d.Undone = w.T("net.undone."+api.Cut(r.Why, 20), exact(r.At), changedBy(w, r.By))
	}
	d.Cards = networkCards(w, st, time.Now())
	return d, nil
}

// facts collects the lines of a card.
type facts struct {
	w    *look.Words
	list []fact
}

func (f *facts) add(key string, v field) { f.list = append(f.list, fact{f.w.T(key), v}) }

// text leaves out what is empty.
func (f *facts) text(key, v string) {
	if v != "" {
		f.add(key, field{Text: api.Cut(v, 300)})
	}
}

func joined[T any](list []T, text func(T) string) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = text(v)
	}
	return strings.Join(out, ", ")
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// networkCards puts the state into words.
func networkCards(w *look.Words, st *netclient.Status, now time.Time) []card {
	s := st.State
	link := field{Text: w.Or("net.link.", string(s.Link)), State: fieldGood}
	if s.Link != netconfig.LinkUp {
		link.State = fieldBad
	}
	f := facts{w: w}
	f.text("net.mode", w.Or("net.mode.", s.Mode))
	if len(s.Addresses) == 0 {
		f.add("net.address", field{Text: w.T("no-address"), State: fieldWarn})
	}
	f.text("net.address", joined(s.Addresses, netip.Prefix.String))
	f.text("net.gateway", addrText(s.Gateway))
	f.text("row.mac", s.HardwareAddress)
	if s.MTU > 0 {
		f.text("row.mtu", w.T("mtu", s.MTU))
	}
	if l := s.Lease; l != nil {
		f.text("net.lease.server", addrText(l.Server))
		if !l.Expires.IsZero() {
			f.add("net.lease.until", timeField(l.Expires, w.T("net.in", w.Duration(l.Expires.Sub(now)))))
		}
	}
	cards := []card{{ID: "eth0", Title: w.T("net.master"), Code: "eth0", State: link, Facts: f.list}}

	f = facts{w: w}
	slave := field{Text: w.T("net.slave.none")}
	if s.Slave.IsValid() {
		slave = field{Text: w.T("net.in-force"), State: fieldGood}
		f.text("net.address", s.Slave.String())
	} else if st.Config.Slave.IsValid() {
		slave = field{Text: w.T("net.not-in-force"), State: fieldBad}
		f.text("net.address", st.Config.Slave.String())
	}
	if s.Slave.IsValid() || st.Config.Slave.IsValid() {
		f.text("net.note", w.T("net.slave.note"))
	}
	cards = append(cards, card{ID: "slave", Title: w.T("net.slave"), Code: "eth0:0", State: slave, Facts: f.list})

	f = facts{w: w}
	f.text("net.mode", w.Or("net.mode6.", st.Config.IPv6.Mode))
	f.text("net.address", joined(s.IPv6, netip.Prefix.String))
	if st.Config.IPv6.Mode != netconfig.ModeOff && len(s.IPv6) == 0 {
		f.text("net.address", w.T("net.address6.none"))
	}
	f.text("net.gateway", addrText(s.Gateway6))
	cards = append(cards, card{ID: "ipv6", Title: w.T("net.ipv6"), Facts: f.list})

	f = facts{w: w}
	f.text("net.dns", joined(s.DNS, netip.Addr.String))
	if len(s.DNS) == 0 {
		f.add("net.dns", field{Text: w.T("net.none"), State: fieldWarn})
	}
	f.text("net.dns.source", w.Or("net.source.", s.DNSSource))
	f.text("net.search", strings.Join(s.Search, ", "))
	f.text("net.ntp", strings.Join(st.Clock.Servers, ", "))
	if p := st.Config.Proxy; p.Host != "" {
		f.text("net.proxy", w.T("net.proxy.is", api.Cut(p.Host, 253), p.Port))
	}
	f.text("net.routes", joined(st.Config.Routes, func(r netconfig.Route) string {
		return w.T("net.route.via", r.Destination.String(), addrText(r.Gateway))
	}))
	cards = append(cards, card{ID: "names", Title: w.T("net.names"), Facts: f.list})

	f = facts{w: w}
	fw := field{Text: w.T("net.firewall.on"), State: fieldGood}
	if !st.Firewall.Active {
		fw = field{Text: w.T("net.firewall.off"), State: fieldBad}
	}
	f.text("net.firewall.dropped", w.T("number", int(st.Firewall.Dropped)))
	return append(cards, card{ID: "firewall", Title: w.T("net.firewall"), State: fw, Facts: f.list})
}

// networkFormData is a form of the configuration.
type networkFormData struct {
	In       netconfig.Input
	Modes    []option
	Modes6   []option
	Host     string // in force
	Password bool   // the proxy's is saved
	Blank    struct{ Destination, Gateway string }
}

// wanted is the configuration that a form begins with: the one that waits to be
// confirmed, or else the saved one.
func wanted(st *netclient.Status) netconfig.Config {
	if st.Pending != nil {
		return st.Pending.Config
	}
	return st.Config
}

func (c *Console) networkForm(k *call) (any, error) {
	st, err := k.admin().Network(k.ctx())
	if err != nil {
		return nil, err
	}
	w, cfg := k.words, wanted(st)
	d := networkFormData{In: cfg.Input(), Password: cfg.Proxy.PasswordSet}
	d.Host = c.source.get(k.ctx(), fresh).host()
	for _, m := range []string{netconfig.ModeDHCP, netconfig.ModeStatic} {
		d.Modes = append(d.Modes, option{m, w.T("net.mode." + m), w.T("net.mode.hint." + m)})
	}
	for _, m := range []string{netconfig.ModeAuto, netconfig.ModeStatic, netconfig.ModeOff} {
		d.Modes6 = append(d.Modes6, option{m, w.T("net.mode6." + m), w.T("net.mode6.hint." + m)})
	}
	return d, nil
}

// firewallData is the page of the firewall.
type firewallData struct {
	Active  field
	Dropped string
	Ports   []allowRow
	Header  []string
	Rules   [][]string
}

// allowRow is a port that can be narrowed.
type allowRow struct {
	Name, Label, Hint, Value string
}

func (c *Console) firewallPage(k *call) (any, error) {
	st, err := k.admin().Network(k.ctx())
	if err != nil {
		return nil, err
	}
	w, cfg := k.words, wanted(st)
	d := firewallData{Active: field{Text: w.T("net.firewall.on"), State: fieldGood}, Dropped: w.T("number", int(st.Firewall.Dropped))}
	if !st.Firewall.Active {
		d.Active = field{Text: w.T("net.firewall.off"), State: fieldBad}
	}
	for _, name := range firewall.Names {
		d.Ports = append(d.Ports, allowRow{name, w.T("net.allow." + name), w.T("net.allow.hint." + name),
			strings.Join(cfg.Input().Firewall.Allow[name], "\n")})
	}
	d.Header = firewall.Header(w)
	for _, r := range c.siteRules(k, st) {
		d.Rules = append(d.Rules, r.Columns(w))
	}
	return d, nil
}

// siteRules is the list for the site's own firewall.
func (c *Console) siteRules(k *call, st *netclient.Status) []firewall.Rule {
	role := ""
	if now := c.source.get(k.ctx(), fresh); now.status != nil {
		role = now.status.Role
	}
	return firewall.Site(wanted(st), role, st.State)
}

// changeNetwork answers PATCH /api/v1/network: what the request does not name
// stays as it is (RFC 7396, but that null is an error).
func (c *Console) changeNetwork() endpoint {
	return endpoint{
		Method: http.MethodPatch, Path: "/api/v1/network", ID: "changeNetwork", Need: needOperate,
		Summary: "Change a part of the configuration: what is left out stays as it is, lists and allow lists that are there are replaced. It must be confirmed as with PUT.",
		Request: reflect.TypeFor[netconfig.Input](), Response: reflect.TypeFor[netclient.Status](),
		Query: holdParam,
		Do: func(k *call) (any, error) {
			st, err := k.admin().Network(k.ctx())
			if err != nil {
				return nil, err
			}
			var part json.RawMessage
			if err := api.Read(k, &part, api.MaxBody); err != nil {
				return nil, err
			}
			in := wanted(st).Input()
			var named struct {
				Routes *json.RawMessage `json:"routes"`
			}
			// A list that is there is a new one: none of its rows begins with what
			// an old row said.
			if json.Unmarshal(part, &named) == nil && named.Routes != nil {
				in.Routes = nil
			}
			if err := api.Decode(part, &in); err != nil {
				return nil, err
			}
			return c.setNetwork(k, in)
		},
	}
}

package terminal

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/firewall"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// netLimit is how long a change of the network may take: looking for who else
// has an address takes seconds.
const netLimit = 60 * time.Second

// Words in the place of a value: none, and what DHCP or the image says.
const (
	wordOff  = "off"
	wordAuto = "auto"
)

var networkForms = []string{
	"network", "network set eth0 dhcp", "network set eth0 static ADDRESS/LENGTH [GATEWAY]", "network set eth0:0 ADDRESS/LENGTH|off",
	"network set ipv6 auto|off", "network set ipv6 static ADDRESS/LENGTH [GATEWAY]", "network set mtu N|auto",
	"network set dns ADDRESS…|auto", "network set search DOMAIN…|auto", "network set ntp SERVER…|auto|off",
	"network set proxy HOST PORT [USER]", "network set proxy off", "network set except NAME|NETWORK…|off", "network set hostname NAME|auto",
	"network route add NETWORK GATEWAY", "network route del NETWORK [GATEWAY]", "network confirm", "network revert",
}

var networkTree = tree{
	"":          {"set", "route", "confirm", "revert"},
	"set":       {"eth0", "eth0:0", "ipv6", "mtu", "dns", "search", "ntp", "proxy", "except", "hostname"},
	"set eth0":  {"dhcp", "static"},
	"set ipv6":  {wordAuto, wordOff, "static"},
	"set ntp":   {wordAuto, wordOff},
	"set proxy": {wordOff}, "set eth0:0": {wordOff}, "set except": {wordOff},
	"set dns": {wordAuto}, "set search": {wordAuto}, "set mtu": {wordAuto}, "set hostname": {wordAuto},
	"route": {"add", "del"},
}

func networkWords(s *session, before []string) []string {
	if len(before) == 2 && strings.EqualFold(strings.Join(before, " "), "route del") {
		var out []string
		if n := s.c.snapshot().network; n != nil {
			for _, r := range n.Config.Routes {
				out = append(out, r.Destination.String())
			}
		}
		return out
	}
	return networkTree.words(s, before)
}

// route is a line of netconfig.Input.Routes.
type route = struct {
	Destination string `json:"destination"`
	Gateway     string `json:"gateway"`
}

// edit changes in as the arguments of network say, without judging the values.
// It reports whether the proxy's password must be asked for. in shares nothing
// that is changed with what it was made from.
func edit(in *netconfig.Input, args []string) (password bool, err error) {
	wrong := usageError{"usage", strings.Join(networkForms, "\n       ")}
	verb := strings.ToLower(args[0])
	if verb == "route" && len(args) >= 3 {
		return false, editRoutes(in, strings.ToLower(args[1]), args[2:], wrong)
	}
	if verb != "set" || len(args) < 3 {
		return false, wrong
	}
	what, values := strings.ToLower(args[1]), args[2:]
	first := strings.ToLower(values[0])
	one := len(values) == 1
	// list is a list of words, or none for the word that stands for that.
	list := func(none string) []string {
		if one && first == none {
			return nil
		}
		return slices.Clone(values)
	}
	switch {
	case what == "eth0" && first == netconfig.ModeDHCP && one:
		in.Eth0 = netconfig.MasterInput{Mode: netconfig.ModeDHCP, MTU: in.Eth0.MTU}
	case what == "eth0" && first == netconfig.ModeStatic && len(values) >= 2:
		m := netconfig.MasterInput{Mode: netconfig.ModeStatic, Address: values[1], MTU: in.Eth0.MTU}
		rest := values[2:]
		if !strings.Contains(m.Address, "/") && len(rest) > 0 { // ADDRESS NETMASK [GATEWAY]
			m.Netmask, rest = rest[0], rest[1:]
		}
		if len(rest) > 1 {
			return false, wrong
		}
		m.Gateway = strings.Join(rest, "")
		in.Eth0 = m
	case what == "eth0:0" && one:
		in.Slave = strings.Join(list(wordOff), "")
	case what == "ipv6" && one && (first == wordAuto || first == wordOff):
		in.IPv6 = netconfig.IPv6Input{Mode: first}
	case what == "ipv6" && first == netconfig.ModeStatic && (len(values) == 2 || len(values) == 3):
		in.IPv6 = netconfig.IPv6Input{Mode: netconfig.ModeStatic, Address: values[1], Gateway: strings.Join(values[2:], "")}
	case what == "mtu" && one:
		in.Eth0.MTU = strings.Join(list(wordAuto), "")
	case what == "dns":
		in.DNS.Servers = list(wordAuto)
	case what == "search":
		in.DNS.Search = list(wordAuto)
	case what == "ntp":
		in.NTP.Off = one && first == wordOff
		if in.NTP.Servers = list(wordAuto); in.NTP.Off {
			in.NTP.Servers = nil
		}
	case what == "proxy" && one && first == wordOff:
		except := in.Proxy.Except
		in.Proxy = netconfig.Input{}.Proxy
		in.Proxy.Except = except
	case what == "proxy" && (len(values) == 2 || len(values) == 3):
		in.Proxy.Host, in.Proxy.Port, in.Proxy.User = values[0], values[1], strings.Join(values[2:], "")
		in.Proxy.Password = new(string) // none, unless one is given
		return len(values) == 3, nil
	case what == "except":
		in.Proxy.Except = list(wordOff)
	case what == "hostname" && one:
		in.Hostname = strings.Join(list(wordAuto), "")
	default:
		return false, wrong
	}
	return false, nil
}

func editRoutes(in *netconfig.Input, verb string, values []string, wrong error) error {
	in.Routes = slices.Clone(in.Routes)
	switch {
	case verb == "add" && len(values) == 2:
		in.Routes = append(in.Routes, route{values[0], values[1]})
	case verb == "del" && len(values) <= 2:
		n := len(in.Routes)
		in.Routes = slices.DeleteFunc(in.Routes, func(r route) bool {
			return sameNetwork(r.Destination, values[0]) && (len(values) == 1 || r.Gateway == values[1])
		})
		if len(in.Routes) == n {
			return usageError{"network.no-route", clean(strings.Join(values, " "), 80)}
		}
	default:
		return wrong
	}
	return nil
}

func sameNetwork(a, b string) bool {
	p, err := netip.ParsePrefix(a)
	q, err2 := netip.ParsePrefix(b)
	if err != nil || err2 != nil {
		return a == b
	}
	return p.Masked() == q.Masked()
}

func (s *session) cmdNetwork(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return s.showNetwork(ctx)
	}
	switch verb := strings.ToLower(args[0]); {
	case verb == "confirm" && len(args) == 1:
		return s.settle(ctx, "network.confirmed", func(ctx context.Context, who admin.Actor, id string) error {
			return s.c.cfg.Admin.ConfirmNetwork(ctx, who, id, time.Now())
		})
	case verb == "revert" && len(args) == 1:
		return s.settle(ctx, "network.reverted", s.c.cfg.Admin.RevertNetwork)
	}
	var password bool
	in, err := s.networkInput(ctx)
	if err == nil {
		password, err = edit(&in, args)
	}
	if err != nil {
		return err
	}
	if password {
		text, err := s.ask(ctx, s.words().T("network.proxy-password"), true)
		if err != nil {
			return err
		}
		in.Proxy.Password = &text
	}
	return s.setNetwork(ctx, in)
}

// network asks the network service.
func (s *session) network(ctx context.Context) (*netclient.Status, error) {
	return get(s, ctx, statusLimit, s.c.cfg.Admin.Network)
}

// networkInput is what is saved, to be changed. While a change waits to be
// confirmed there is none: which of the two is meant must be said first.
func (s *session) networkInput(ctx context.Context) (netconfig.Input, error) {
	n, err := s.network(ctx)
	if err != nil {
		return netconfig.Input{}, err
	}
	if n.Pending != nil {
		return netconfig.Input{}, usageError{"network.is-pending", clean(n.Pending.By, 80)}
	}
	return n.Config.Input(), nil
}

// setNetwork saves and applies: a terminal is not cut off by what it sets.
func (s *session) setNetwork(ctx context.Context, in netconfig.Input) error {
	s.say("network.applying")
	err := s.do(ctx, "network set", netLimit, func(ctx context.Context, who admin.Actor) error {
		_, err := s.c.cfg.Admin.SetNetwork(ctx, who, in, false)
		return err
	})
	return s.done(err, "network.saved")
}

// settle ends the change that is pending.
func (s *session) settle(ctx context.Context, key string, f func(context.Context, admin.Actor, string) error) error {
	n, err := s.network(ctx)
	if err != nil {
		return err
	}
	if n.Pending == nil {
		s.say("network.none-pending")
		return nil
	}
	id := n.Pending.ID
	return s.done(s.do(ctx, key, netLimit, func(ctx context.Context, who admin.Actor) error { return f(ctx, who, id) }), key)
}

// valueWidth is the column where values begin in lists of them.
const valueWidth = 24

// row prints a label and its value.
func (s *session) row(key, value string) {
	width, _ := s.size()
	s.printf("%s%s\n", pad(s.words().T(key), valueWidth-1)+" ", hang(value, width-1, valueWidth))
}

func (s *session) heading(key string, args ...any) {
	s.printf("%s%s%s\n", bold, s.words().T(key, args...), plain)
}

func (s *session) showNetwork(ctx context.Context) error {
	n, err := s.network(ctx)
	if err != nil {
		return err
	}
	w := s.words()
	if p := n.Pending; p != nil {
		s.heading("network.pending", clean(p.By, 80), w.Duration(time.Until(p.Deadline)+time.Second))
		s.showConfig(p.Config)
		s.say("network.how-pending")
		s.printf("\n")
	}
	s.heading("network.is-saved")
	s.showConfig(n.Config)
	s.printf("\n")
	s.heading("network.in-force")
	s.showState(n.State)
	c := n.Clock
	s.row("network.clock", s.clock(c))
	switch {
	case n.Firewall.Active:
		s.row("network.firewall", w.T("firewall.active", strconv.FormatInt(n.Firewall.Dropped, 10)))
	default:
		s.row("network.firewall", w.T("firewall.inactive", clean(n.Firewall.Problem, 160)))
	}
	if r := n.Reverted; r != nil {
		s.row("network.last-reverted", w.T("network.why", since(w, r.At), clean(r.By, 80), clean(w.Or("reverted.", r.Why), 80)))
	}
	return nil
}

func (s *session) showConfig(c netconfig.Config) {
	w := s.words()
	none := func(text, none string) string {
		if text == "" {
			return w.T(none)
		}
		return clean(text, 600)
	}
	in := c.Input()
	address := func(mode, address, gateway string) string {
		if mode != netconfig.ModeStatic {
			return clean(w.Or("mode.", mode), 40)
		}
		if gateway == "" {
			return clean(address, 80)
		}
		return w.T("network.through", clean(address, 80), clean(gateway, 80))
	}
	s.row("field.eth0", address(in.Eth0.Mode, in.Eth0.Address, in.Eth0.Gateway))
	s.row("field.slave", none(in.Slave, "none"))
	s.row("field.ipv6", address(in.IPv6.Mode, in.IPv6.Address, in.IPv6.Gateway))
	s.row("field.eth0.mtu", none(in.Eth0.MTU, "automatic"))
	for _, r := range in.Routes {
		s.row("field.routes", w.T("network.through", clean(r.Destination, 80), clean(r.Gateway, 80)))
	}
	s.row("field.dns.servers", none(strings.Join(in.DNS.Servers, " "), "by-dhcp"))
	s.row("field.dns.search", none(strings.Join(in.DNS.Search, " "), "by-dhcp"))
	ntp := none(strings.Join(in.NTP.Servers, " "), "by-dhcp")
	if in.NTP.Off {
		ntp = w.T("off")
	}
	s.row("field.ntp.servers", ntp)
	proxy := w.T("none")
	if in.Proxy.Host != "" {
		proxy = clean(in.Proxy.Host, 120) + " " + clean(in.Proxy.Port, 10)
		if in.Proxy.User != "" {
			proxy += " " + w.T("network.as-user", clean(in.Proxy.User, 80))
		}
	}
	s.row("field.proxy", proxy)
	if len(in.Proxy.Except) > 0 {
		s.row("field.proxy.except", clean(strings.Join(in.Proxy.Except, " "), 2000))
	}
	s.row("field.hostname", none(in.Hostname, "automatic"))
}

func (s *session) showState(st netconfig.State) {
	w := s.words()
	s.row("network.link", clean(w.Or("link.", string(st.Link)), 40)+", "+clean(w.Or("mode.", st.Mode), 40)+", mtu "+strconv.Itoa(st.MTU))
	s.row("network.addresses", orNone(w, list(st.Addresses)))
	if st.Gateway.IsValid() {
		s.row("network.gateway", st.Gateway.String())
	}
	if len(st.DNS) > 0 {
		s.row("field.dns.servers", list(st.DNS))
	}
	if len(st.Search) > 0 {
		s.row("field.dns.search", clean(strings.Join(st.Search, " "), 400))
	}
	if l := st.Lease; l != nil {
		text := l.Server.String()
		if !l.Expires.IsZero() {
			text = w.T("network.lease-until", text, l.Expires.UTC().Format("2006-01-02 15:04:05 UTC"))
		}
		s.row("network.lease", text)
	}
	if st.Problem != "" {
		s.row("network.problem", clean(w.Detail(st.Problem), 300))
	}
}

// clock says in a line how the time is kept.
func (s *session) clock(c netclient.Clock) string {
	w := s.words()
	switch {
	case c.Off:
		return w.T("clock.off")
	case c.Synced:
		return w.T("clock.synced", clean(c.Server, 80), w.Seconds(c.Offset.Abs()))
	case c.Problem != "":
		return w.T("clock.problem", clean(c.Problem, 160))
	}
	return w.T("clock.waiting")
}

func list[T fmt.Stringer](values []T) string {
	var out []string
	for _, v := range values {
		out = append(out, v.String())
	}
	return clean(strings.Join(out, " "), 1000)
}

func orNone(w interface{ T(string, ...any) string }, text string) string {
	if text == "" {
		return w.T("none")
	}
	return text
}

func firewallWords(_ *session, before []string) []string {
	switch {
	case len(before) == 0:
		return []string{"allow"}
	case len(before) == 1:
		return netconfig.AllowNames
	case len(before) == 2:
		return []string{"all"}
	}
	return nil
}

func (s *session) cmdFirewall(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return s.showFirewall(ctx)
	}
	if !strings.EqualFold(args[0], "allow") || len(args) < 3 {
		return find("firewall").wrong()
	}
	in, err := s.networkInput(ctx)
	if err != nil {
		return err
	}
	allow := map[string][]string{}
	for port, nets := range in.Firewall.Allow {
		allow[port] = nets
	}
	if port := strings.ToLower(args[1]); len(args) == 3 && strings.EqualFold(args[2], "all") {
		if !slices.Contains(netconfig.AllowNames, port) {
			return usageError{"firewall.no-port", clean(args[1], 40) + " (" + strings.Join(netconfig.AllowNames, ", ") + ")"}
		}
		delete(allow, port)
	} else {
		allow[port] = args[2:]
	}
	in.Firewall.Allow = allow
	return s.setNetwork(ctx, in)
}

// showFirewall prints what the site's own firewall must let through, and who may
// connect here.
func (s *session) showFirewall(ctx context.Context) error {
	n, err := s.network(ctx)
	if err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	w := s.words()
	width, _ := s.size()
	s.heading("firewall.head-allow")
	for _, port := range netconfig.AllowNames {
		nets := w.T("firewall.all")
		if list := n.Config.Firewall.Allow[port]; len(list) > 0 {
			var out []string
			for _, p := range list {
				out = append(out, p.String())
			}
			nets = strings.Join(out, " ")
		}
		s.printf("  %s %s\n", pad(port, 12), hang(nets, width-1, 15))
	}
	s.printf("\n")
	s.heading("firewall.head-site")
	for _, r := range firewall.Site(n.Config, st.Role, n.State) {
		c := r.Columns(w)
		s.printf("%s %s %s %s\n", pad(clean(c[0], 20), 10), pad(clean(c[1], 10), 6), pad(clean(c[2], 40), 17), hang(clean(c[5], 300), width-1, 36))
		s.printf("    %s\n", hang(clean(c[3], 2000)+" → "+clean(c[4], 2000), width-1, 6))
	}
	return nil
}

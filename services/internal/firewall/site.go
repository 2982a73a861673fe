package firewall

import (
	"encoding/csv"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// End is a side of a rule: who it is, and the addresses, networks or names that
// are known of it. None known: any.
type End struct {
	Who       Party    `json:"who"`
	Addresses []string `json:"addresses,omitempty"`
}

// Rule is a line of the list for the site's own firewall. Answers to what is
// allowed are not listed: such firewalls follow connections.
type Rule struct {
	Direction   string   `json:"direction"` // In or Out
	Protocol    string   `json:"protocol"`
	Ports       []uint16 `json:"ports,omitempty"` // of the destination
	Source      End      `json:"source"`
	Destination End      `json:"destination"`
	Purpose     string   `json:"purpose"` // "firewall.purpose."+Purpose are its words
}

// Site returns what a firewall between the appliance and the world must let
// through, with the configuration cfg, in the role, where st is in force.
func Site(cfg netconfig.Config, role string, st netconfig.State) []Rule {
	s := site{cfg: cfg, st: st}
	var out []Rule
	for _, f := range table {
		if !slices.Contains(f.roles, role) || !s.applies(f) {
			continue
		}
		r := Rule{
			Direction: f.direction, Protocol: f.protocol, Ports: f.ports, Purpose: f.purpose,
			Source: s.end(f.from, f), Destination: s.end(f.to, f),
		}
		if f.to == Proxy {
			r.Ports = []uint16{uint16(cfg.Proxy.Port)}
		}
		out = append(out, r)
	}
	return out
}

type site struct {
	cfg netconfig.Config
	st  netconfig.State
}

// applies leaves out what the configuration does not use.
func (s site) applies(f flow) bool {
	switch {
	case f.to == Portal:
		return s.cfg.Proxy.Host == ""
	case f.to == Proxy:
		return s.cfg.Proxy.Host != ""
	case f.to == TimeServers:
		return !s.cfg.NTP.Off
	case f.purpose == "dhcp":
		return s.cfg.Eth0.Mode == netconfig.ModeDHCP
	case f.purpose == "dhcpv6":
		return s.cfg.IPv6.Mode == netconfig.ModeAuto
	}
	return true
}

// end says who is at an end of f.
func (s site) end(p Party, f flow) End {
	e := End{Who: p}
	switch p {
	case Appliance:
		e.Addresses = s.own()
	case Controller:
		e.Addresses = s.own(s.first())
	case Router:
		e.Addresses = s.own(s.last())
	case NameServers:
		servers := s.cfg.DNS.Servers
		if len(servers) == 0 {
			servers = s.st.DNS
		}
		e.Addresses = texts(servers)
	case TimeServers:
		if e.Addresses = slices.Clone(s.cfg.NTP.Servers); len(e.Addresses) == 0 {
			e.Addresses = texts(s.st.NTP)
		}
	case DHCPServers:
		if f.purpose == "dhcp" && s.st.Lease != nil && s.st.Lease.Server.IsValid() {
			e.Addresses = texts([]netip.Addr{s.st.Lease.Server})
		}
		if f.purpose == "dhcpv6" && s.st.Lease6 != nil && s.st.Lease6.Server.IsValid() {
			e.Addresses = texts([]netip.Addr{s.st.Lease6.Server})
		}
	case Proxy:
		e.Addresses = []string{s.cfg.Proxy.Host}
	case Administrators, Clients, Routers, Anyone, People:
		if f.direction == In && f.name != "" {
			e.Addresses = texts(s.cfg.Firewall.Allow[f.name])
		}
	}
	return e
}

// first is the zone controller's IPv4 address, eth0's own.
func (s site) first() netip.Addr {
	if len(s.st.Addresses) > 0 {
		return s.st.Addresses[0].Addr()
	}
	return s.cfg.Eth0.Address.Addr()
}

// last is the router's IPv4 address, the second one where there is one.
func (s site) last() netip.Addr {
	if s.cfg.Slave.IsValid() {
		return s.cfg.Slave.Addr()
	}
	return s.first()
}

// own are the appliance's addresses: of IPv4 those given or all, and those of
// IPv6 that others reach it by.
func (s site) own(v4 ...netip.Addr) (out []string) {
	if len(v4) == 0 {
		if v4 = []netip.Addr{s.first()}; s.last() != s.first() {
			v4 = append(v4, s.last())
		}
	}
	for _, a := range v4 {
		if a.IsValid() {
			out = append(out, a.String())
		}
	}
	for _, a := range s.st.IPv6 {
		out = append(out, a.Addr().String())
	}
	return out
}

func texts[T fmt.Stringer](list []T) (out []string) {
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}

// text puts an end into words: "clients (10.0.0.0/8, 192.0.2.7)".
func (e End) text(t fault.Texts) string {
	who := t.T("firewall.who." + string(e.Who))
	if len(e.Addresses) == 0 {
		return who
	}
	return who + " (" + strings.Join(e.Addresses, ", ") + ")"
}

// Columns puts the rule into words: direction, protocol, ports, source,
// destination, purpose.
func (r Rule) Columns(t fault.Texts) []string {
	ports := make([]string, len(r.Ports))
	for i, p := range r.Ports {
		ports[i] = strconv.Itoa(int(p))
	}
	return []string{
		t.T("firewall.direction." + r.Direction), strings.ToUpper(r.Protocol), strings.Join(ports, ", "),
		r.Source.text(t), r.Destination.text(t), t.T("firewall.purpose." + r.Purpose),
	}
}

// Header are the names of the columns.
func Header(t fault.Texts) []string {
	var out []string
	for _, c := range []string{"direction", "protocol", "ports", "source", "destination", "purpose"} {
		out = append(out, t.T("firewall.column."+c))
	}
	return out
}

// Text returns the rules as a table to be read, a line each.
func Text(rules []Rule, t fault.Texts) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows(rules, t) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush() // a Builder does not fail
	return b.String()
}

// CSV returns the rules as RFC 4180 says, with a header.
func CSV(rules []Rule, t fault.Texts) []byte {
	var b strings.Builder
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	w.WriteAll(rows(rules, t)) // a Builder does not fail
	return []byte(b.String())
}

func rows(rules []Rule, t fault.Texts) [][]string {
	out := [][]string{Header(t)}
	for _, r := range rules {
		out = append(out, r.Columns(t))
	}
	return out
}

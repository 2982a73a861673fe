package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// connectorNow returns what is saved; a damaged file is empty (Notices tells).
func (a *Admin) connectorNow() (connector.Settings, error) {
	c, err := a.connector.Read()
	if empty(err) {
		return connector.New(), nil
	}
	return c, err
}

// publicName returns the host name that people use, or "".
func (a *Admin) publicName() string {
	c, err := a.connectorNow()
	if err != nil {
		return ""
	}
	return c.PublicName
}

// Connector returns what the connector would need to know.
func (a *Admin) Connector(ctx context.Context) (Connector, error) {
	s, err := a.connectorNow()
	if err != nil {
		return Connector{}, err
	}
	c := Connector{
		TokenSet: s.Token != "", ZoneController: s.ZoneController, Router: s.Router, OtherZoneController: s.OtherZoneController,
		PublicName: s.PublicName, External: slices.Clone(s.External), Limit: s.Limit, Missing: []string{}, Warnings: []string{},
	}
	if c.External == nil {
		c.External = []External{}
	}
	if c.TokenSet {
		c.TokenHint = s.Token[len(s.Token)-4:]
	}
	own, known := a.addresses()
	if n, err := a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpStatus}); err == nil {
		c.Suggested.ZoneController, c.Suggested.Router = suggest(n)
	}
	zone, router := first(c.ZoneController, c.Suggested.ZoneController), first(c.Router, c.Suggested.Router)
	missing := func(code string, is bool) {
		if is {
			c.Missing = append(c.Missing, code)
		}
	}
	missing("token", !c.TokenSet)
	missing("zoneController", !zone.IsValid())
	missing("router", !router.IsValid())
	warn := func(code string, is bool) {
		if is {
			c.Warnings = append(c.Warnings, code)
		}
	}
	warn("zone-address", known && zone.IsValid() && !slices.Contains(own, zone))
	warn("router-address", known && router.IsValid() && !slices.Contains(own, router))
	// One address serves both where the network has one only.
	warn("same-address", zone.IsValid() && zone == router && c.Suggested.Router != c.Suggested.ZoneController)
	if c.PublicName != "" {
		cert, err := a.Certificate(ctx)
		warn("name-certificate", err == nil && !cert.CoversName)
	}
	return c, nil
}

// suggest returns the addresses that the roles have by the network's settings:
// the zone controller has eth0's, the router the second one where there is one.
func suggest(n *netclient.Status) (zone, router netip.Addr) {
	slave := n.Config.Slave.Addr()
	for _, p := range n.State.Addresses {
		if a := p.Addr(); netconfig.CheckHost(a) == nil && a != slave && !zone.IsValid() {
			zone = a
		}
	}
	return zone, first(slave, zone)
}

func first(a, b netip.Addr) netip.Addr {
	if a.IsValid() {
		return a
	}
	return b
}

// addresses returns the machine's own addresses.
func (a *Admin) addresses() ([]netip.Addr, bool) {
	list, err := a.cfg.Interfaces()
	if err != nil {
		return nil, false
	}
	var out []netip.Addr
	for _, i := range list {
		for _, p := range i.Addresses {
			out = append(out, p.Addr())
		}
	}
	return out, true
}

// SetConnector saves what the connector needs to know. What is empty stays empty:
// it follows the network's addresses.
func (a *Admin) SetConnector(ctx context.Context, who Actor, in ConnectorInput) (Connector, error) {
	err := a.act(ctx, who, "connector.set", func() (string, error) {
		next, err := in.parse()
		if err != nil {
			return "", err
		}
		// The other one is nobody if it is this one.
		zone := next.ZoneController
		if n, err := a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpStatus}); err == nil && !zone.IsValid() {
			zone, _ = suggest(n)
		}
		own, _ := a.addresses()
		if o := next.OtherZoneController; o.IsValid() && (o == zone || slices.Contains(own, o)) {
			return "", fault.New("otherZoneController", "connector-other-own", o.String())
		}
		if err := a.savable(ctx); err != nil {
			return "", err
		}
		detail := ""
		err = change(ctx, a, a.connector, connector.New(), func(s *connector.Settings) error {
			if in.Token == nil {
				next.Token = s.Token
			}
			detail = connectorDifference(*s, next)
			*s = next
			return nil
		})
		return detail, err
	})
	if err != nil {
		return Connector{}, err
	}
	return a.Connector(ctx)
}

// Check judges what a person gave without saving it.
func (in ConnectorInput) Check() error {
	_, err := in.parse()
	return err
}

// parse checks what a person gave.
func (in ConnectorInput) parse() (connector.Settings, error) {
	s := connector.New()
	var faults fault.List
	if in.Token != nil {
		// Blanks and line breaks that a mail put into it do not matter.
		s.Token = strings.Join(strings.Fields(*in.Token), "")
		if s.Token != "" {
			faults = append(faults, checkToken(s.Token)...)
		}
	}
	host := func(field, text string) netip.Addr {
		text = strings.TrimSpace(text)
		if text == "" {
			return netip.Addr{}
		}
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil || !a.Is4():
			faults.Add(field, "connector-ipv4", clean(text, 60))
		case netconfig.CheckHost(a) != nil:
			faults.Add(field, "connector-host", a.String())
		default:
			return a
		}
		return netip.Addr{}
	}
	s.ZoneController = host("zoneController", in.ZoneController)
	s.Router = host("router", in.Router)
	s.OtherZoneController = host("otherZoneController", in.OtherZoneController)
	name := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(in.PublicName), "."))
	if name != "" {
		faults = append(faults, checkPublicName(name)...)
		s.PublicName = name
	}
	if text := strings.TrimSpace(in.Limit); text != "" && text != "0" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n < connector.MinLimit || n > connector.MaxLimit {
			faults.Add("limit", "number", clean(text, 60), connector.MinLimit, connector.MaxLimit)
		} else {
			s.Limit = int(n)
		}
	}
	// An empty line of a form is no pair.
	pairs := 0
	for i, p := range in.External {
		local, external := strings.TrimSpace(p.Local), strings.TrimSpace(p.External)
		if local == "" && external == "" {
			continue
		}
		if pairs++; pairs > connector.MaxExternal {
			faults.Add("external", "many", connector.MaxExternal)
			break
		}
		way := fmt.Sprintf("external.%d", i)
		l, lf := pairAddress(local)
		e, ef := pairAddress(external)
		faults.Under(way+".local", lf)
		faults.Under(way+".external", ef)
		if lf != nil || ef != nil {
			continue
		}
		switch {
		case l.Is4() != e.Is4():
			faults.Add(way+".external", "connector-family", l.String())
		case slices.ContainsFunc(s.External, func(o External) bool { return o.Local == l }):
			faults.Add(way+".local", "connector-twice", l.String())
		case slices.ContainsFunc(s.External, func(o External) bool { return o.External == e }):
			faults.Add(way+".external", "connector-twice", e.String())
		default:
			s.External = append(s.External, External{Local: l, External: e})
		}
	}
	return s, faults.Err()
}

func pairAddress(text string) (netip.Addr, fault.List) {
	if text == "" {
		return netip.Addr{}, fault.New("", "required")
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil || a.Zone() != "" || a.Is4In6():
		return netip.Addr{}, fault.New("", "connector-address", clean(text, 60))
	case !connector.Reachable(a):
		return netip.Addr{}, fault.New("", "connector-host", a.String())
	}
	return a, nil
}

// checkPublicName takes a host name (RFC 1123, 2.1), of one label or more. An
// address is none: certificates and links are made for the name.
func checkPublicName(s string) fault.List {
	if len(s) > 253 {
		return fault.New("publicName", "long", 253)
	}
	last := s[strings.LastIndexByte(s, '.')+1:]
	if netconfig.CheckName(s) != nil || strings.Contains(s, "_") || strings.Trim(last, "0123456789") == "" {
		return fault.New("publicName", "connector-name", clean(s, 80))
	}
	return nil
}

// checkToken tells what is wrong with a token that somebody typed or pasted: most
// often a part of it is missing.
func checkToken(s string) fault.List {
	_, err := link.ParseToken(s)
	switch {
	case errors.Is(err, link.ErrNewerToken):
		return fault.New("token", "connector-token-newer")
	case errors.Is(err, link.ErrCutToken):
		return fault.New("token", "connector-token-cut")
	case err != nil:
		return fault.New("token", "connector-token-other")
	}
	return connector.CheckToken(s)
}

// connectorDifference tells what changes; the token is told of and not told.
func connectorDifference(before, after connector.Settings) string {
	token := before.Token != after.Token
	before.Token, after.Token = "", ""
	d := differ(before, after)
	if token {
		d = append(d, "token")
	}
	return joinOr(d, "nothing")
}

// forgetToken removes the token, which belongs to the appliance that this one is
// a copy of.
func (a *Admin) forgetToken(ctx context.Context) error {
	if _, err := a.connector.Read(); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return change(ctx, a, a.connector, connector.New(), func(s *connector.Settings) error {
		s.Token = ""
		return nil
	})
}

package terminal

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// form asks for values one by one, shows what would change and asks whether it
// shall be so. Enter keeps the value that stands in brackets, a hyphen clears it.
type form struct {
	s       *session
	ctx     context.Context
	changes []string
	// numbered are the words of the choice that is under way.
	numbered []string
}

// value asks for a value until check has nothing against it.
func (f *form) value(field, present string, check func(text string) fault.List) (string, error) {
	return f.propose(field, present, present, check)
}

// propose is value where another one than the present one stands in the brackets.
func (f *form) propose(field, was, present string, check func(text string) fault.List) (string, error) {
	w := f.s.words()
	shown := present
	if shown == "" {
		shown = "-"
	}
	for {
		answer, err := f.s.ask(f.ctx, f.s.label(field)+" ["+clean(shown, 30)+"]: ", false)
		if err != nil {
			return "", err
		}
		next := strings.TrimSpace(answer)
		switch next {
		case "":
			next = present
		case "-":
			next = ""
		}
		if n, err := strconv.Atoi(next); err == nil && n >= 1 && n <= len(f.numbered) {
			next = f.numbered[n-1]
		}
		wrong := check(next)
		if len(wrong) == 0 {
			if next != was {
				f.changes = append(f.changes, f.s.label(field)+": "+orNone(w, clean(was, 300))+" → "+orNone(w, clean(next, 300)))
			}
			return next, nil
		}
		f.s.sayFaults(wrong)
	}
}

// choice is value for one of the words, which its number stands for too.
func (f *form) choice(field, present string, words ...string) (string, error) {
	w := f.s.words()
	var list []string
	for i, word := range words {
		text := word
		if named := w.Or("mode.", word); !strings.EqualFold(named, word) {
			text += " (" + named + ")"
		}
		list = append(list, strconv.Itoa(i+1)+" – "+text)
	}
	f.s.say("form.choice", f.s.label(field), strings.Join(list, ", "))
	f.numbered = words
	defer func() { f.numbered = nil }()
	return f.value(field, present, func(text string) fault.List {
		if slices.Contains(words, text) {
			return nil
		}
		return fault.New(field, "choice", clean(text, 40), strings.Join(words, ", "))
	})
}

// sure shows what would change and asks.
func (f *form) sure() (bool, error) {
	if len(f.changes) == 0 {
		f.s.say("form.nothing")
		return false, nil
	}
	width, _ := f.s.size()
	f.s.heading("form.summary")
	for _, c := range f.changes {
		f.s.printf("%s\n", hang("  "+c, width-1, 4))
	}
	return f.s.confirm(f.ctx, "form.sure")
}

// netForm runs a form about the network: values asks, with an Input to change.
func (s *session) netForm(ctx context.Context, values func(f *form, in *netconfig.Input, check netCheck) error) error {
	if err := s.mayOperate(); err != nil {
		return err
	}
	in, err := s.networkInput(ctx)
	if err != nil {
		return err
	}
	f := &form{s: s, ctx: ctx}
	s.say("form.how")
	check := func(field string, set func(in *netconfig.Input, text string)) func(string) fault.List {
		return func(text string) fault.List {
			set(&in, text)
			_, err := in.Config(netconfig.DefaultConfig())
			var out fault.List
			for _, w := range fault.Of(err) { // those that are asked for later have not been given yet
				if w.Field == field || strings.HasPrefix(w.Field, field+".") {
					out = append(out, w)
				}
			}
			return out
		}
	}
	if err := values(f, &in, check); err != nil {
		return err
	}
	ok, err := f.sure()
	if err != nil || !ok {
		return err
	}
	return s.setNetwork(ctx, in)
}

// netCheck returns what judges a field: set puts the text into the Input.
type netCheck = func(field string, set func(in *netconfig.Input, text string)) func(string) fault.List

func (s *session) formMaster(ctx context.Context) error {
	return s.netForm(ctx, func(f *form, in *netconfig.Input, check netCheck) (err error) {
		m := in.Eth0
		if m.Mode, err = f.choice("eth0.mode", m.Mode, netconfig.ModeDHCP, netconfig.ModeStatic); err != nil {
			return err
		}
		if in.Eth0.Mode = m.Mode; m.Mode == netconfig.ModeStatic {
			address, gateway := m.Address, m.Gateway
			if address == "" { // what DHCP gave is a good beginning
				address, gateway = f.inForce()
			}
			if _, err = f.propose("eth0.address", m.Address, address, check("eth0.address", func(in *netconfig.Input, text string) { in.Eth0.Address = text })); err != nil {
				return err
			}
			if _, err = f.propose("eth0.gateway", m.Gateway, gateway, check("eth0.gateway", func(in *netconfig.Input, text string) { in.Eth0.Gateway = text })); err != nil {
				return err
			}
		} else {
			in.Eth0.Address, in.Eth0.Gateway = "", ""
		}
		if _, err = f.value("eth0.mtu", m.MTU, check("eth0.mtu", func(in *netconfig.Input, text string) { in.Eth0.MTU = text })); err != nil {
			return err
		}
		if in.Eth0.Mode != netconfig.ModeStatic || len(in.DNS.Servers) > 0 {
			return nil
		}
		// Those of DHCP go with it.
		_, err = f.propose("dns.servers", "", f.namesInForce(), check("dns.servers", func(in *netconfig.Input, text string) { in.DNS.Servers = strings.Fields(text) }))
		return err
	})
}

// inForce is the address that eth0 has, and its gateway.
func (f *form) inForce() (address, gateway string) {
	n := f.s.c.snapshot().network
	if n == nil {
		return "", ""
	}
	i := slices.IndexFunc(n.State.Addresses, func(p netip.Prefix) bool { return p.Addr().Is4() && p != n.Config.Slave })
	if i < 0 {
		return "", ""
	}
	return n.State.Addresses[i].String(), text(n.State.Gateway)
}

// namesInForce are the name servers that are asked now.
func (f *form) namesInForce() string {
	n := f.s.c.snapshot().network
	if n == nil {
		return ""
	}
	var list []string
	for _, a := range n.State.DNS {
		list = append(list, a.String())
	}
	return strings.Join(list, " ")
}

func (s *session) formSlave(ctx context.Context) error {
	return s.netForm(ctx, func(f *form, in *netconfig.Input, check netCheck) error {
		_, err := f.value("slave", in.Slave, check("slave", func(in *netconfig.Input, text string) { in.Slave = text }))
		return err
	})
}

func (s *session) formIPv6(ctx context.Context) error {
	return s.netForm(ctx, func(f *form, in *netconfig.Input, check netCheck) (err error) {
		old := in.IPv6
		if in.IPv6.Mode, err = f.choice("ipv6.mode", old.Mode, netconfig.ModeAuto, netconfig.ModeStatic, netconfig.ModeOff); err != nil {
			return err
		}
		if in.IPv6.Mode != netconfig.ModeStatic {
			in.IPv6.Address, in.IPv6.Gateway = "", ""
			return nil
		}
		if _, err = f.value("ipv6.address", old.Address, check("ipv6.address", func(in *netconfig.Input, text string) { in.IPv6.Address = text })); err != nil {
			return err
		}
		_, err = f.value("ipv6.gateway", old.Gateway, check("ipv6.gateway", func(in *netconfig.Input, text string) { in.IPv6.Gateway = text }))
		return err
	})
}

func (s *session) formDNS(ctx context.Context) error {
	return s.netForm(ctx, func(f *form, in *netconfig.Input, check netCheck) error {
		_, err := f.value("dns.servers", strings.Join(in.DNS.Servers, " "),
			check("dns.servers", func(in *netconfig.Input, text string) { in.DNS.Servers = strings.Fields(text) }))
		if err != nil {
			return err
		}
		_, err = f.value("dns.search", strings.Join(in.DNS.Search, " "),
			check("dns.search", func(in *netconfig.Input, text string) { in.DNS.Search = strings.Fields(text) }))
		if err != nil {
			return err
		}
		_, err = f.value("hostname", in.Hostname, check("hostname", func(in *netconfig.Input, text string) { in.Hostname = text }))
		return err
	})
}

func (s *session) formNTP(ctx context.Context) error {
	return s.netForm(ctx, func(f *form, in *netconfig.Input, check netCheck) error {
		present := strings.Join(in.NTP.Servers, " ")
		if in.NTP.Off {
			present = wordOff
		}
		s.say("form.ntp")
		_, err := f.value("ntp.servers", present, check("ntp.servers", func(in *netconfig.Input, text string) {
			if in.NTP.Servers, in.NTP.Off = strings.Fields(text), strings.EqualFold(text, wordOff); in.NTP.Off {
				in.NTP.Servers = nil
			}
		}))
		return err
	})
}

func (s *session) formProxy(ctx context.Context) error {
	return s.netForm(ctx, func(f *form, in *netconfig.Input, check netCheck) error {
		old := in.Proxy
		_, err := f.value("proxy.host", old.Host, check("proxy.host", func(in *netconfig.Input, text string) { in.Proxy.Host = text }))
		if err != nil {
			return err
		}
		if in.Proxy.Host == "" {
			except := in.Proxy.Except
			in.Proxy = netconfig.Input{}.Proxy
			in.Proxy.Except = except
			return nil
		}
		if _, err = f.value("proxy.port", old.Port, check("proxy.port", func(in *netconfig.Input, text string) { in.Proxy.Port = text })); err != nil {
			return err
		}
		if _, err = f.value("proxy.user", old.User, check("proxy.user", func(in *netconfig.Input, text string) { in.Proxy.User = text })); err != nil {
			return err
		}
		if in.Proxy.User == "" {
			in.Proxy.Password = new(string)
		} else {
			s.say("form.password")
			text, err := s.ask(ctx, s.words().T("network.proxy-password"), true)
			if err != nil {
				return err
			}
			if text != "" {
				in.Proxy.Password = &text
				f.changes = append(f.changes, s.label("proxy.password"))
			}
		}
		_, err = f.value("proxy.except", strings.Join(old.Except, " "),
			check("proxy.except", func(in *netconfig.Input, text string) { in.Proxy.Except = strings.Fields(text) }))
		return err
	})
}

func (s *session) formConnector(ctx context.Context) error {
	if now := s.c.snapshot().status; now != nil && !s.inZone(now.Role) {
		return nil
	}
	if err := s.mayOperate(); err != nil {
		return err
	}
	c, err := get(s, ctx, statusLimit, s.c.cfg.Admin.Connector)
	if err != nil {
		return err
	}
	in := connectorInput(c)
	f := &form{s: s, ctx: ctx}
	s.say("form.how")
	s.say("configure.empty")
	for _, v := range []struct {
		field string
		value *string
		check func(string) fault.List
	}{
		{"zoneController", &in.ZoneController, address4("zoneController")}, {"router", &in.Router, address4("router")},
		{"otherZoneController", &in.OtherZoneController, address4("otherZoneController")},
		{"publicName", &in.PublicName, connectorCheck(func(in *admin.ConnectorInput, text string) { in.PublicName = text })},
		{"limit", &in.Limit, connectorCheck(func(in *admin.ConnectorInput, text string) { in.Limit = text })},
	} {
		if *v.value, err = f.value(v.field, *v.value, v.check); err != nil {
			return err
		}
	}
	check := connectorCheck(func(in *admin.ConnectorInput, text string) { in.Token = &text })
	for {
		token, err := s.ask(ctx, s.words().T("configure.token-keep"), true)
		if err != nil {
			return err
		}
		if token = strings.TrimSpace(token); token == "" {
			break
		}
		if token == "-" {
			token = ""
		}
		if wrong := check(token); len(wrong) > 0 {
			s.sayFaults(wrong) // the rest of the form is kept
			continue
		}
		in.Token = &token
		f.changes = append(f.changes, s.label("token"))
		break
	}
	ok, err := f.sure()
	if err != nil || !ok {
		return err
	}
	return s.setConnector(ctx, in)
}

// connectorCheck judges one value of the connector's as it is given.
func connectorCheck(set func(in *admin.ConnectorInput, text string)) func(string) fault.List {
	return func(text string) fault.List {
		var in admin.ConnectorInput
		set(&in, text)
		return fault.Of(in.Check())
	}
}

// address4 judges an IPv4 address before all is sent.
func address4(field string) func(string) fault.List {
	return func(text string) fault.List {
		if a, err := netip.ParseAddr(text); text == "" || err == nil && a.Is4() {
			return nil
		}
		return fault.New(field, "connector-ipv4", clean(text, 60))
	}
}

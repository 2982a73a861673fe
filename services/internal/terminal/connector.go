package terminal

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/connector"
)

var configureForms = []string{"configure", "configure token [TOKEN|off]", "configure zone ADDRESS|off", "configure router ADDRESS|off",
	"configure other ADDRESS|off", "configure name NAME|off", "configure external LOCAL EXTERNAL|off",
	"configure limit PARTICIPANTS|off"}

func configureWords(_ *session, before []string) []string {
	switch len(before) {
	case 0:
		return []string{"token", "zone", "router", "other", "name", "external", "limit"}
	case 1:
		if !strings.EqualFold(before[0], "external") {
			return []string{wordOff}
		}
	case 2:
		if strings.EqualFold(before[0], "external") {
			return []string{wordOff}
		}
	}
	return nil
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// pair is a line of admin.ConnectorInput.External.
type pair = struct {
	Local    string `json:"local"`
	External string `json:"external"`
}

// connectorInput is what is saved, to be changed.
func connectorInput(c admin.Connector) admin.ConnectorInput {
	in := admin.ConnectorInput{ZoneController: text(c.ZoneController), Router: text(c.Router),
		OtherZoneController: text(c.OtherZoneController), PublicName: c.PublicName}
	if c.Limit != 0 {
		in.Limit = strconv.Itoa(c.Limit)
	}
	for _, e := range c.External {
		in.External = append(in.External, pair{text(e.Local), text(e.External)})
	}
	return in
}

// configure changes in as the arguments say, without judging the values.
func configure(in *admin.ConnectorInput, args []string) error {
	what, values := strings.ToLower(args[0]), args[1:]
	if what == "external" && len(values) == 2 {
		in.External = slices.DeleteFunc(slices.Clone(in.External), func(p pair) bool { return p.Local == values[0] })
		if !strings.EqualFold(values[1], wordOff) {
			in.External = append(in.External, pair{values[0], values[1]})
		}
		return nil
	}
	fields := map[string]*string{"zone": &in.ZoneController, "router": &in.Router, "other": &in.OtherZoneController, "name": &in.PublicName, "limit": &in.Limit}
	if what == "token" {
		in.Token = new(string)
		fields["token"] = in.Token
	}
	field := fields[what]
	if field == nil || len(values) != 1 {
		return usageError{"usage", strings.Join(configureForms, "\n       ")}
	}
	*field = values[0]
	if strings.EqualFold(values[0], wordOff) {
		*field = ""
	}
	return nil
}

func (s *session) cmdConfigure(ctx context.Context, args []string) error {
	if now := s.c.snapshot().status; now != nil && !s.inZone(now.Role) {
		return nil
	}
	c, err := get(s, ctx, statusLimit, s.c.cfg.Admin.Connector)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		if err := s.showZone(ctx); err != nil {
			return err
		}
		s.showConnector(c)
		return nil
	}
	if len(args) == 1 && strings.EqualFold(args[0], "token") { // not to be seen by whoever looks on
		token, err := s.ask(ctx, s.words().T("configure.token"), true)
		if err != nil {
			return err
		}
		if token = strings.TrimSpace(token); token == "" {
			s.say("cancelled")
			return nil
		}
		args = append(args, token)
	}
	in := connectorInput(c)
	if err := configure(&in, args); err != nil {
		return err
	}
	return s.setConnector(ctx, in)
}

func (s *session) setConnector(ctx context.Context, in admin.ConnectorInput) error {
	saved := make(chan admin.Connector, 1)
	err := s.do(ctx, "configure", opLimit, func(ctx context.Context, who admin.Actor) error {
		c, err := s.c.cfg.Admin.SetConnector(ctx, who, in)
		saved <- c
		return err
	})
	if err != nil {
		return err
	}
	s.say("configure.saved")
	s.showMissing(<-saved)
	return nil
}

func (s *session) showConnector(c admin.Connector) {
	w := s.words()
	token := w.T("none")
	if c.TokenSet {
		token = w.T("configure.token-hint", clean(c.TokenHint, 8))
	}
	s.row("field.token", token)
	address := func(key string, a, suggested netip.Addr) {
		text := text(a)
		switch {
		case text != "":
		case suggested.IsValid():
			text = w.T("configure.suggested", suggested.String())
		default:
			text = w.T("none")
		}
		s.row(key, text)
	}
	address("field.zoneController", c.ZoneController, c.Suggested.ZoneController)
	address("field.router", c.Router, c.Suggested.Router)
	address("field.otherZoneController", c.OtherZoneController, netip.Addr{})
	s.row("field.publicName", orNone(w, clean(c.PublicName, 253)))
	for _, e := range c.External {
		s.row("field.external", text(e.Local)+" → "+text(e.External))
	}
	limit := w.T("configure.limit", connector.DefaultLimit)
	if c.Limit != 0 {
		limit = strconv.Itoa(c.Limit)
	}
	s.row("field.limit", limit)
	s.showMissing(c)
}

// showMissing says what is still needed, and what is odd.
func (s *session) showMissing(c admin.Connector) {
	w := s.words()
	width, _ := s.size()
	for _, m := range c.Missing {
		s.printf("%s\n", hang("- "+clean(w.Or("missing.", m), 300), width-1, 2))
	}
	for _, m := range c.Warnings {
		s.printf("%s\n", hang("! "+clean(w.Or("warning.", m), 300), width-1, 2))
	}
}

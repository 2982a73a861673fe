package admin_test

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/netclient"
)

// last returns the newest line of the audit log.
func last(t *testing.T, r *admintest.Rig) admin.Entry {
	t.Helper()
	e, err := r.Audit(t.Context(), 1)
	if err != nil || len(e) != 1 {
		t.Fatalf("%+v, %v", e, err)
	}
	return e[0]
}

func TestSetNetwork(t *testing.T) {
	r := admintest.New(t)
	ctx, who := t.Context(), admintest.Operator
	in := r.Input()
	in.Eth0.Mode, in.Eth0.Address = "static", "not an address; reboot"
	_, err := r.SetNetwork(ctx, who, in, true)
	want(t, "address", err, "eth0.address: "+errCode(err))
	if len(r.Network.Asked()) != 0 {
		t.Error("wrong values were sent to the service")
	}
	in.Eth0.Address, in.Eth0.Gateway, in.Hostname = "192.0.2.7/24", "192.0.2.1", "meet"
	secret := "proxy-secret"
	in.Proxy.Host, in.Proxy.Port, in.Proxy.User, in.Proxy.Password = "proxy.example.net", "3128", "parley", &secret
	st, err := r.SetNetwork(ctx, who, in, true)
	if err != nil || st.Pending == nil || st.Pending.By != "admin from 192.0.2.99" {
		t.Fatalf("%+v, %v", st, err)
	}
	e := last(t, r)
	for _, s := range []string{"eth0.address: – → 192.0.2.7/24", "eth0.mode: dhcp → static", "hostname: – → meet", "proxy.password", "(to be confirmed)"} {
		if e.What != "network.set" || !strings.Contains(e.Detail, s) {
			t.Errorf("%+v, want %q", e, s)
		}
	}
	if strings.Contains(e.Detail+r.Logs.String(), secret) {
		t.Error("the password is told")
	}
	id := st.Pending.ID
	if err := r.ConfirmNetwork(ctx, who, "x", time.Now()); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("another change: %v", err)
	}
	for _, connected := range []time.Time{{}, st.Pending.Since.Add(-time.Hour), st.Pending.Since} {
		if err := r.ConfirmNetwork(ctx, who, id, connected); !errors.Is(err, admin.ErrSameConnection) {
			t.Errorf("connected at %v: %v, want ErrSameConnection", connected, err)
		}
	}
	if err := r.ConfirmNetwork(ctx, who, id, st.Pending.Since.Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	st, err = r.Admin.Network(ctx)
	if err != nil || st.Config.Hostname != "meet" || !st.Config.Proxy.PasswordSet || st.Pending != nil {
		t.Errorf("%+v, %v", st, err)
	}
	// Nothing is changed: nothing is told; the password is kept.
	if _, err := r.SetNetwork(ctx, who, r.Input(), false); err != nil || last(t, r).Detail != "nothing" {
		t.Errorf("%v, %+v", err, last(t, r))
	}
	in = r.Input()
	in.Hostname = "other"
	if st, err = r.SetNetwork(ctx, who, in, true); err != nil {
		t.Fatal(err)
	}
	if err := r.RevertNetwork(ctx, who, st.Pending.ID); err != nil {
		t.Fatal(err)
	}
	if st, err := r.Admin.Network(ctx); err != nil || st.Config.Hostname != "meet" || st.Reverted.Why != netclient.RevertedOperator {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := r.SyncTime(ctx, who); err != nil || last(t, r).What != "time.sync" {
		t.Error(err)
	}
	// The service does not answer, or cannot save.
	for class, refusal := range map[error]error{
		admin.ErrAway:     netclient.ErrAway,
		admin.ErrReadOnly: &netclient.Error{Op: netclient.OpSet, Code: netclient.CodeReadOnly, Message: "x"},
		admin.ErrUnknown:  &netclient.Error{Op: netclient.OpSet, Code: netclient.CodeState, Message: "x"},
	} {
		r.Network.Refuse(netclient.OpSet, refusal)
		if _, err := r.SetNetwork(ctx, who, in, true); !errors.Is(err, class) {
			t.Errorf("%v, want %v", err, class)
		}
		if e := last(t, r); e.Error == "" {
			t.Errorf("%+v, want the error", e)
		}
	}
}

// errCode returns the code of the first fault.
func errCode(err error) string {
	_, code, _ := strings.Cut(err.Error(), ": ")
	return code
}

func TestSystem(t *testing.T) {
	r := admintest.New(t)
	ctx, who := t.Context(), admintest.Operator
	s, err := r.System(ctx)
	if err != nil || s.Status.Hostname != "parley" || s.Clock.Server != "192.0.2.123" || time.Since(s.Now) > time.Minute {
		t.Errorf("%+v, %v", s, err)
	}
	r.Network.Refuse(netclient.OpStatus, netclient.ErrAway)
	if s, err := r.System(ctx); err != nil || s.Clock.Problem == "" {
		t.Errorf("%+v, %v: want the rest without the network service", s, err)
	}
	for faults, err := range map[string]error{
		"op: choice; service: required": r.Operate(ctx, who, "format", ""),
		"service: long":                 r.Operate(ctx, who, control.OpStop, strings.Repeat("x", 65)),
		"typed: required":               r.FactoryReset(ctx, who, " "),
		"typed: system-hostname":        r.FactoryReset(ctx, who, "Parley"),
		"role: choice":                  r.SetRole(ctx, who, "king"),
		"role: required":                r.SetRole(ctx, who, ""),
		"answer: choice":                r.AnswerClone(ctx, who, "maybe"),
		"time: required":                r.SetTime(ctx, who, ""),
		"time: system-time":             r.SetTime(ctx, who, "tomorrow"),
		"time: system-time-range":       r.SetTime(ctx, who, "2025-12-31 23:59:59"),
	} {
		want(t, faults, err, faults)
	}
	want(t, "late", r.SetTime(ctx, who, "2100-01-01T00:00:00Z"), "time: system-time-range")
	if asked := r.PID1.Asked(); len(asked) != 0 {
		t.Fatalf("asked %+v for what is refused", asked)
	}
	if err := r.Operate(ctx, who, control.OpStart, "nothing"); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("%v, want ErrUnknown", err)
	}
	r.PID1.Refuse(control.OpClock, &control.Error{Code: control.CodeInvalid, Message: "before the image"})
	want(t, "floor", r.SetTime(ctx, who, "2026-01-02 00:00:00"), "time: system-time-refused")
	r.PID1.Refuse(control.OpClock, nil)
	for what, err := range map[string]error{
		"restart": r.Operate(ctx, who, control.OpRestart, "mmr"), "reboot": r.Reboot(ctx, who), "off": r.PowerOff(ctx, who),
		"reset": r.FactoryReset(ctx, who, "parley"), "role": r.SetRole(ctx, who, "router"), "same": r.AnswerClone(ctx, who, "same"),
		"time": r.SetTime(ctx, who, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)),
	} {
		want(t, what, err, "")
	}
	ops := map[control.Op]control.Request{}
	for _, q := range r.PID1.Asked() {
		ops[q.Op] = q
	}
	c := ops[control.OpClock].Clock
	if len(ops) != 8 || c == nil || !c.Step || !c.Save || c.Offset < 59*time.Minute || c.Offset > 61*time.Minute {
		t.Errorf("asked %+v, clock %+v", ops, c)
	}
	away := r.Config
	away.Appliance = &control.Client{Path: r.Dir + "/nobody"}
	if err := admin.New(away).Reboot(ctx, who); !errors.Is(err, admin.ErrAway) {
		t.Errorf("%v, want ErrAway", err)
	}
}

func TestConnector(t *testing.T) {
	r := admintest.New(t)
	ctx, who := t.Context(), admintest.Operator
	c, err := r.Connector(ctx)
	own := netip.MustParseAddr("192.0.2.7")
	if err != nil || !reflect.DeepEqual(c.Missing, []string{"token"}) || len(c.Warnings) != 0 || c.Suggested.Router != own || c.Suggested.ZoneController != own {
		t.Errorf("%+v, %v", c, err)
	}
	slave := netip.MustParsePrefix("192.0.2.8/24")
	r.Network.Change(func(s *netclient.Status) { s.Config.Slave = slave })
	if c, err := r.Connector(ctx); err != nil || c.Suggested.Router != slave.Addr() || c.Suggested.ZoneController != own ||
		!reflect.DeepEqual(c.Warnings, []string{"router-address"}) {
		t.Errorf("%+v, %v: the machine does not have the slave's address", c, err)
	}
	token := "a token of the portal"
	in := admin.ConnectorInput{Token: &token}
	_, err = r.SetConnector(ctx, who, in)
	want(t, "token", err, "token: connector-token-other")
	for bad, code := range map[string]string{
		"short": "connector-token-other", admintest.Token[:40]: "connector-token-cut", admintest.Token[1:]: "connector-token-other",
		admintest.Token[:len(admintest.Token)-1]: "connector-token-cut", strings.Replace(admintest.Token, "parley1.", "parley2.", 1): "connector-token-newer",
		admintest.Token + "x": "connector-token-cut",
	} {
		in.Token = &bad
		_, err = r.SetConnector(ctx, who, in)
		want(t, bad, err, "token: "+code)
	}
	cut := admintest.Token[:60]
	in.Token = &cut
	in.ZoneController, in.Router, in.OtherZoneController, in.PublicName = "10.0.0", "127.0.0.1", "2001:db8::1", "300.1.2.3"
	_, err = r.SetConnector(ctx, who, in)
	want(t, "all", err, "token: connector-token-cut; zoneController: connector-ipv4; router: connector-host; otherZoneController: connector-ipv4; publicName: connector-name")
	token = admintest.Token[:30] + "\r\n " + admintest.Token[30:]
	in = admin.ConnectorInput{Token: &token, Router: " 192.0.2.7 ", OtherZoneController: "198.51.100.3", PublicName: "Meet.Example.COM."}
	outside(&in, "192.0.2.7", "203.0.113.7")
	outside(&in, "", " ")
	outside(&in, "2001:db8::7", "2001:db8::8")
	c, err = r.SetConnector(ctx, who, in)
	if err != nil || !c.TokenSet || c.TokenHint != admintest.Token[len(admintest.Token)-4:] || c.PublicName != "meet.example.com" || len(c.External) != 2 || len(c.Missing) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if !reflect.DeepEqual(c.Warnings, []string{"same-address"}) {
		t.Errorf("%q, want that both have one address though there are two", c.Warnings)
	}
	e := last(t, r)
	if !strings.Contains(e.Detail, "publicName: – → meet.example.com") || !strings.HasSuffix(e.Detail, "token") || strings.Contains(r.Logs.String(), admintest.Token[30:]) {
		t.Errorf("%+v", e)
	}
	in.Token = nil // as it is
	for _, x := range [][3]string{
		{"x", "203.0.113.9", "external.3.local: connector-address"},
		{"192.0.2.9", "", "external.3.external: required"},
		{"192.0.2.9", "2001:db8::1", "external.3.external: connector-family"},
		{"192.0.2.7", "203.0.113.9", "external.3.local: connector-twice"},
		{"192.0.2.9", "203.0.113.7", "external.3.external: connector-twice"},
		{"192.0.2.9", "224.0.0.1", "external.3.external: connector-host"},
		{"fe80::1%eth0", "2001:db8::9", "external.3.local: connector-address"},
		{"::ffff:192.0.2.9", "2001:db8::9", "external.3.local: connector-address"},
	} {
		bad := in
		bad.External = append(bad.External[:3:3], bad.External[0])
		bad.External[3].Local, bad.External[3].External = x[0], x[1]
		_, err := r.SetConnector(ctx, who, bad)
		want(t, x[0], err, x[2])
	}
	for text, n := range map[string]int{"": 0, "0": 0, " 2 ": 2, "350": 350, "100000": 100000} {
		in.Limit = text
		if c, err := r.SetConnector(ctx, who, in); err != nil || c.Limit != n {
			t.Errorf("limit %q: %d, %v, want %d", text, c.Limit, err, n)
		}
	}
	in.Limit = "350"
	if _, err := r.SetConnector(ctx, who, in); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"1", "-3", "+5", "100001", "4294967298", "many", "2.5", "1e3"} {
		bad := in
		bad.Limit = text
		_, err := r.SetConnector(ctx, who, bad)
		want(t, text, err, "limit: number")
	}
	if c, err := r.Connector(ctx); err != nil || c.Limit != 350 {
		t.Errorf("%d, %v: what was refused is saved", c.Limit, err)
	}
	in.Limit = "120"
	if _, err := r.SetConnector(ctx, who, in); err != nil || !strings.Contains(last(t, r).Detail, "limit: 350 → 120") {
		t.Errorf("%v, %+v", err, last(t, r))
	}
	many := admin.ConnectorInput{}
	for i := range 9 {
		outside(&many, "192.0.2."+string(rune('1'+i)), "203.0.113."+string(rune('1'+i)))
	}
	_, err = r.SetConnector(ctx, who, many)
	want(t, "many", err, "external: many")
	_, err = r.SetConnector(ctx, who, admin.ConnectorInput{OtherZoneController: "192.0.2.7"})
	want(t, "other", err, "otherZoneController: connector-other-own")
	if c, err = r.Connector(ctx); err != nil || !c.TokenSet {
		t.Errorf("%+v, %v: the token is kept", c, err)
	}
	// The certificate in use is checked for the public name.
	if err := r.ResetCertificate(ctx, who); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Connector(ctx); err != nil || slices.Contains(c.Warnings, "name-certificate") {
		t.Errorf("%q, %v: the own certificate has the name", c.Warnings, err)
	}
	if c, err = r.SetConnector(ctx, who, admin.ConnectorInput{PublicName: "other.example.com"}); err != nil || !slices.Contains(c.Warnings, "name-certificate") {
		t.Errorf("%q, %v: the certificate does not have the name", c.Warnings, err)
	}
	// A copy has no right to the token.
	if err := r.AnswerClone(ctx, who, "copy"); err != nil {
		t.Fatal(err)
	}
	if c, err = r.Connector(ctx); err != nil || c.TokenSet || c.PublicName != "other.example.com" {
		t.Errorf("%+v, %v", c, err)
	}
	if list, err := r.Notices(ctx); err != nil || len(list) != 1 || !strings.HasPrefix(list[0], admin.NoticeCopy) {
		t.Errorf("%q, %v", list, err)
	}
}

func outside(in *admin.ConnectorInput, local, external string) {
	in.External = append(in.External, struct {
		Local    string `json:"local"`
		External string `json:"external"`
	}{local, external})
}

package admin_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

// Trial meetings: their links lead to where the outside reaches the appliance;
// the audit log has the meeting's number and no link.
func TestTrials(t *testing.T) {
	r := admintest.New(t)
	ctx, who := t.Context(), admintest.Operator
	if s := r.Admin.Zone(ctx); s.Phase != zonectl.Standalone {
		t.Errorf("%+v", s)
	}
	m, err := r.NewTrial(ctx, who, "Probe")
	if err != nil || m.Topic != "Probe" || !strings.HasPrefix(m.Host, "https://192.0.2.7/#trial=") || m.Host == m.Guest {
		t.Fatalf("%+v, %v", m, err)
	}
	if e := last(t, r); e.What != "trial.new" || e.Detail != m.Number || e.Error != "" {
		t.Errorf("%+v", e)
	}
	host := func(want string) {
		t.Helper()
		list, err := r.Trials(ctx, who)
		if err != nil || len(list) != 1 || !strings.HasPrefix(list[0].Guest, "https://"+want+"/#") {
			t.Errorf("%+v, %v, want links to %s", list, err, want)
		}
	}
	in := admin.ConnectorInput{ZoneController: "192.0.2.9"}
	set := func() {
		t.Helper()
		if _, err := r.SetConnector(ctx, who, in); err != nil {
			t.Fatal(err)
		}
	}
	set()
	host("192.0.2.9")
	outside(&in, "192.0.2.9", "203.0.113.9")
	set()
	host("203.0.113.9")
	in.PublicName = "meet.example.com"
	set()
	host("meet.example.com")
	in = admin.ConnectorInput{}
	set()
	// Without an IPv4 address, the machine's own of IPv6.
	r.Network.Change(func(s *netclient.Status) { s.State.Addresses, s.Config.Eth0.Mode = nil, netconfig.ModeDHCP })
	host("[2001:db8::7]")

	if err := r.EndTrial(ctx, who, "m9"); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("%v, want ErrUnknown", err)
	}
	if err := r.EndTrial(ctx, who, m.Meeting); err != nil {
		t.Error(err)
	}
	if list, err := r.Trials(ctx, who); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	for _, who := range []admin.Actor{admintest.Viewer, {}} {
		if list, err := r.Trials(ctx, who); !errors.Is(err, admin.ErrDenied) || list != nil {
			t.Errorf("%+v, %v, want ErrDenied", list, err)
		}
	}
	r.Zone.Set(zonectl.State{}, zonectl.ErrMany)
	_, err = r.NewTrial(ctx, who, "")
	want(t, "many", err, "trials-many")
	r.Zone.Set(zonectl.State{Phase: zonectl.Linked}, nil)
	_, err = r.NewTrial(ctx, who, "")
	want(t, "portal", err, "trials-portal")
	r.Zone.Set(zonectl.State{}, zonectl.ErrRole)
	_, err = r.NewTrial(ctx, who, "")
	want(t, "role", err, "trials-role")
	r.Zone.Set(zonectl.State{}, errors.New("no socket"))
	if _, err = r.NewTrial(ctx, who, ""); !errors.Is(err, admin.ErrAway) {
		t.Errorf("%v, want ErrAway", err)
	}
	if s := r.Admin.Zone(ctx); s.Phase != zonectl.Away {
		t.Errorf("%+v", s)
	}
	entries, err := r.Audit(ctx, 0)
	if err != nil || slices.ContainsFunc(entries, func(e admin.Entry) bool { return strings.Contains(e.Detail, admintest.TrialCode) }) ||
		strings.Contains(r.Logs.String(), admintest.TrialCode) {
		t.Errorf("the audit log or the log has a link: %v, %v", entries, err)
	}
}

package live

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
)

func TestJudge(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	good := func() State {
		return State{Role: link.Controller, Contact: now, Status: link.Status{Clock: now, Limit: 200, Media: []uint16{8801}}}
	}
	for name, x := range map[string]struct {
		change func(*State)
		want   string
	}{
		"good":     {func(*State) {}, ""},
		"silent":   {func(s *State) { s.Contact = now.Add(-link.SilentAfter - time.Millisecond) }, "silent"},
		"clock":    {func(s *State) { s.Status.Clock = now.Add(-time.Minute) }, "clock"},
		"cert":     {func(s *State) { s.Status.Certificate = &link.Certificate{Expires: now.Add(time.Hour)} }, "certificate"},
		"capacity": {func(s *State) { s.Status.Participants = 180 }, "capacity"},
		"routers":  {func(s *State) { s.Status.Media = nil }, "routers"},
		"problem":  {func(s *State) { s.Status.Problems = []link.Problem{{Code: "disk", Detail: "full"}} }, "problem"},
		"link":     {func(s *State) { s.LinkExpires = now.Add(23 * time.Hour) }, "link-certificate"},
		"link ok":  {func(s *State) { s.LinkExpires = now.Add(25 * time.Hour) }, ""},
		"gap":      {func(s *State) { s.Status.Dropped, s.Status.DroppedAt = 3, now.Add(-time.Hour) }, "gap"},
		"old gap":  {func(s *State) { s.Status.Dropped, s.Status.DroppedAt = 3, now.Add(-25*time.Hour) }, ""},
	} {
		st := good()
		x.change(&st)
		got := Judge(st, []State{st}, now)
		if _, ok := got[x.want]; x.want == "" && len(got) > 0 || x.want != "" && (len(got) != 1 || !ok) {
			t.Errorf("%s: %v", name, got)
		}
	}
	// Who is silent and whose certificate ends is both.
	st := good()
	st.Contact, st.LinkExpires = now.Add(-time.Hour), now.Add(-time.Minute)
	if got := Judge(st, nil, now); len(got) != 2 || got["link-certificate"] != "2026-05-01 11:59 UTC" {
		t.Errorf("%v", got)
	}
}

// Who runs an older version than another one of its zone is told of, and the
// newest is not; who is silent does not count.
func TestJudgeVersion(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	one := func(version string, ago time.Duration) State {
		return State{Role: link.Router, Version: version, Contact: now.Add(-ago), Status: link.Status{Clock: now.Add(-ago)}}
	}
	zone := []State{one("1.9.0", 0), one("1.10.0-rc.1", 0), one("1.10.0", 0), one("2.0.0", time.Hour)}
	for i, want := range []string{"1.9.0 < 1.10.0", "1.10.0-rc.1 < 1.10.0", ""} {
		if got := Judge(zone[i], zone, now)["version"]; got != want {
			t.Errorf("%s: %q, want %q", zone[i].Version, got, want)
		}
	}
	order := []string{"", "x", "0.9", "1.0.0-alpha", "1.0.0-beta", "v1.0.0", "1.0.1", "1.2", "1.10.0", "1.10.0.1"}
	for i, a := range order {
		for j, b := range order {
			if got := older(a, b); got != (i < j) && !(i < 2 && j < 2) { // neither of two without a number
				t.Errorf("%q before %q: %v", a, b, got)
			}
		}
	}
	if older("1.0.0+a", "1.0.0+b") || older("1.0.0", "1.0") || older("1.0", "1.0.0") {
		t.Error("the same version is older than itself")
	}
}

// Whatever an appliance says, what is kept of it is bounded and is JSON.
func FuzzClean(f *testing.F) {
	f.Add([]byte(`{"addresses":["192.0.2.1","::","fe80::1%eth0"],"participants":-1,"cpu":7,"services":[{"name":"a\u001b[2Jb","state":"x"}]}`))
	f.Add([]byte(`{"certificate":{"names":["a"],"expires":"2026-01-01T00:00:00Z"},"problems":[{"code":"x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s link.Status
		if json.Unmarshal(b, &s) != nil {
			return
		}
		c := Clean(s)
		if len(c.Addresses) > maxAddresses || c.Participants < 0 || c.Participants > maxCount || c.CPU < 0 || c.CPU > 1 || c.SendBits < 0 {
			t.Fatalf("%+v", c)
		}
		for _, a := range c.Addresses {
			if !a.IsValid() || a.Zone() != "" {
				t.Fatalf("address %v", a)
			}
		}
		for _, x := range c.Services {
			if strings.ContainsAny(x.Name, "\x1b\n") {
				t.Fatalf("%q", x.Name)
			}
		}
		if _, err := json.Marshal(c); err != nil && s.Clock.Year() <= 9999 {
			t.Fatal(err)
		}
	})
}

func TestCleanNaN(t *testing.T) {
	if c := Clean(link.Status{CPU: math.NaN()}); c.CPU != 0 {
		t.Errorf("%v", c.CPU)
	}
}

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
	} {
		st := good()
		x.change(&st)
		got := Judge(st, []State{st}, now)
		if _, ok := got[x.want]; x.want == "" && len(got) > 0 || x.want != "" && (len(got) != 1 || !ok) {
			t.Errorf("%s: %v", name, got)
		}
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

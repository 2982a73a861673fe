package link_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// A link that stands has its certificate renewed, again and again, and is shown
// by the newest; its peers know it by the new serial and by the one before.
func TestRenewal(t *testing.T) {
	r := newRig(t, "", 1)
	at := r.places[0].addr()
	a, b := r.enrol("c1", link.Controller).start(at), r.enrol("r1", link.Router).start(at)
	a.linked()
	b.linked()
	id := a.kept.Appliance
	generation := int64(0)
	for i := range 4 {
		r.pass(130 * time.Hour) // 2/3 of a week are 112, and 1/12 more are 126
		a.Changed()
		b.Changed() // it needs one too
		portaltest.Wait(t, "a renewal", func() bool { _, n, _ := a.got(); _, m, _ := b.got(); return n == i+1 && m == i+1 })
		a.linked()
		portaltest.Wait(t, "the peer to know its serials", func() bool {
			s := b.serials(id)
			return len(s) == 2 && s[0] == a.serial()
		})
		if c := a.Connection(); c.Why != "" {
			t.Fatalf("%+v", c)
		}
		// It is another configuration by its number too.
		c, _, _ := b.got()
		if c.Generation <= generation {
			t.Errorf("generation %d after %d", c.Generation, generation)
		}
		generation = c.Generation
	}
	// The one before the last is good for nothing any more.
	if s := b.serials(id); slices.Contains(s[:1], s[1]) {
		t.Errorf("serials %v", s)
	}
}

// An appliance that was away for longer than its certificate lives is told what
// to do, and comes back with a token.
func TestExpired(t *testing.T) {
	r := newRig(t, "", 1)
	at := r.places[0].addr()
	a := r.enrol("c1", link.Controller).start(at)
	a.linked()
	a.end()
	r.pass(8 * 24 * time.Hour)
	a.start(at)
	portaltest.Wait(t, "a refusal", func() bool { return a.Connection().Why == link.WhyExpired })
	if c := a.Connection(); !c.NeedsToken() || !strings.Contains(c.Problem, "enrolled again, with a token") {
		t.Errorf("%+v", c)
	}
	a.end()
	again := r.enrol("c1", link.Controller).start(at)
	again.linked()
	if c := again.Connection(); c.NeedsToken() || c.Problem != "" {
		t.Errorf("%+v", c)
	}
	// Taken out is taken out, ended or not.
	if err := r.zones.RemoveAppliance(t.Context(), r.who, a.kept.Appliance); err != nil {
		t.Fatal(err)
	}
	a.start(at)
	portaltest.Wait(t, "a refusal", func() bool { return a.Connection().Why == link.WhyRevoked })
	// What another portal issued is not this one's.
	other := newRig(t, "", 1)
	c := other.enrol("c2", link.Controller).start(at)
	portaltest.Wait(t, "a refusal", func() bool { return c.Connection().Why == link.WhyForeign })
}

// Who is taken out by one instance is out of the other within seconds, and so is
// a whole account whose connector is switched off.
func TestRevokedElsewhere(t *testing.T) {
	each := func(t *testing.T, url string) {
		r := newRig(t, url, 2)
		one, two := r.places[0], r.places[1]
		a, b := r.enrol("c1", link.Controller).start(two.addr()), r.enrol("r1", link.Router).start(two.addr())
		a.linked()
		b.linked()
		if one.live.Links() != 0 || two.live.Links() != 2 {
			t.Fatalf("%d and %d links", one.live.Links(), two.live.Links())
		}
		began := time.Now()
		if err := r.zones.RemoveAppliance(t.Context(), r.who, a.kept.Appliance); err != nil { // at the first instance
			t.Fatal(err)
		}
		portaltest.Wait(t, "the end of the link", func() bool { return a.Connection().Why == link.WhyRevoked })
		took := time.Since(began)
		portaltest.Wait(t, "the peer to forget it", func() bool { c, _, _ := b.got(); return len(c.Appliances) == 1 })
		if !b.Connection().Connected {
			t.Error("the other one is out too")
		}
		if err := r.zones.Disable(t.Context(), r.who); err != nil {
			t.Fatal(err)
		}
		portaltest.Wait(t, "the end of the link", func() bool { return b.Connection().Why == link.WhyDisabled })
		t.Logf("out of the other instance after %v", took)
	}
	t.Run("sqlite", func(t *testing.T) { each(t, "") })
	t.Run("postgres", func(t *testing.T) { each(t, storetest.Postgres(t)) })
}

package link_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// What a bad network may not do. Six appliances are linked to two instances by
// a network that cuts, resets, stalls, closes one end, holds words back until
// later ones have come, and doubles connections, 300 times and more, while
// their certificates are renewed and their configuration changes. Then each
// event is stored once, in order; the configuration is the last; the
// certificate is good; and nothing is left of all those connections.
func TestFlakyNetwork(t *testing.T) {
	cuts := 300
	if testing.Short() { // with the race detector it takes five times as long
		cuts = 100
	}
	t.Run("sqlite", func(t *testing.T) { flaky(t, "", 4, cuts) })
	t.Run("postgres", func(t *testing.T) { flaky(t, storetest.Postgres(t), 5, 100) })
}

func flaky(t *testing.T, database string, seed uint64, cuts int) {
	const machines = 6
	r := newRig(t, database, 2)
	// What the databases' pools and the servers need stands before it is counted.
	warm := r.enrol("warm", link.Router).start(r.places[0].addr(), r.places[1].addr())
	warm.linked()
	warm.end()
	portaltest.Wait(t, "the end of a link", func() bool { return r.places[0].live.Links()+r.places[1].live.Links() == 0 })
	goroutines, sockets := runtime.NumGoroutine(), openSockets(t)

	net := newCutter(t, seed, r.places[0].addr(), r.places[1].addr())
	var all []*machine
	for i := range machines {
		all = append(all, r.enrol(fmt.Sprintf("c%d", i), link.Controller).start(net.Addr().String()))
	}
	version, events := 0, make([]int, machines)
	// It goes on until all has happened, however fast this machine is.
	enough := func() bool {
		net.mu.Lock()
		met := len(net.met)
		net.mu.Unlock()
		return net.seen() >= cuts && met == int(fates) && !slices.ContainsFunc(all, func(m *machine) bool { _, n, _ := m.got(); return n == 0 })
	}
	for step := 1; !enough(); step++ {
		for i, m := range all {
			if waiting, _ := m.Waiting(); waiting < 60 {
				if err := m.Event("service.failed", step, time.Now()); err != nil {
					t.Fatal(err)
				}
				events[i]++
			}
		}
		if step%50 == 0 {
			version++
			if err := r.zones.SetNames(t.Context(), r.who, all[0].kept.Appliance, zones.NamesInput{PublicName: fmt.Sprintf("v%d.example.com", version)}); err != nil {
				t.Fatal(err)
			}
		}
		// Time goes by, but nobody is left behind for so long that it needs a token.
		const some = 12 * time.Hour
		if !slices.ContainsFunc(all, func(m *machine) bool { return m.ends().Before(r.now().Add(2 * some)) }) {
			r.pass(some)
		}
		time.Sleep(5 * time.Millisecond)
	}
	net.settle()
	for _, m := range all {
		portaltest.Wait(t, "all events of "+m.host, func() bool { n, _ := m.Waiting(); return n == 0 })
		m.linked()
	}
	renewals := 0
	for i, m := range all {
		_, n, kept := m.got()
		renewals += n
		if got := r.told(kept.Appliance); len(got) != events[i] || !slices.IsSorted(got) || got[0] != 1 || got[len(got)-1] != uint64(events[i]) {
			t.Errorf("%s told %d events; stored are %d: %v", m.host, events[i], len(got), got)
		}
		if c := m.Connection(); c.NeedsToken() {
			t.Errorf("%s: %+v", m.host, c)
		}
	}
	want := fmt.Sprintf("v%d.example.com", version)
	portaltest.Wait(t, "the last configuration", func() bool { c, _, _ := all[0].got(); return c.PublicName == want })
	net.mu.Lock()
	t.Logf("%d connections, fates %v, %d events each, %d versions of the configuration, %d renewals", net.count, net.met, events[0], version, renewals)
	net.mu.Unlock()
	for _, m := range all {
		m.end()
	}
	net.close()
	quiet(t, "goroutines", goroutines, runtime.NumGoroutine)
	if database == "" { // PostgreSQL has sockets too, as many as were needed at once
		quiet(t, "sockets", sockets, func() int { return openSockets(t) })
	}
}

// quiet waits until there are no more of something than before.
func quiet(t *testing.T, what string, before int, now func() int) {
	t.Helper()
	for begin := time.Now(); now() > before; time.Sleep(50 * time.Millisecond) {
		if time.Since(begin) > 60*time.Second {
			var b strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
			t.Fatalf("%d %s, were %d:\n%s", now(), what, before, b.String())
		}
	}
}

func openSockets(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

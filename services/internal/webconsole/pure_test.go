package webconsole

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/throttle"
)

func TestWordsAreComplete(t *testing.T) {
	d := look.MustLoad(words, "words")
	for _, f := range d.Faults() {
		t.Error(f)
	}
	en := d[look.English]
	used := regexp.MustCompile(`\.T "([^"]+)"`)
	files, err := fs.Glob(pages, "pages/*.html")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		b, err := pages.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range used.FindAllStringSubmatch(string(b), -1) {
			if !en.Has(m[1]) {
				t.Errorf("%s: %q has no text", name, m[1])
			}
		}
	}
	// Keys in Go: literals of T, and what is put together.
	var keys []string
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	literal := regexp.MustCompile(`\.(?:T|flash)\("([^"]+)"[,)]|Title: +"([a-z][^"]*)"|add\((?:&d\.\w+, )?"([^"]+)"`)
	for _, name := range sources {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") || name == "doc.go" {
			continue
		}
		for _, m := range literal.FindAllStringSubmatch(string(b), -1) {
			keys = append(keys, m[1]+m[2]+m[3])
		}
		for _, m := range regexp.MustCompile(`p\(http\.\w+, "([^"]+)"\)|Code: "([^"]+)"\}`).FindAllStringSubmatch(string(b), -1) {
			keys = append(keys, "error."+m[1]+m[2])
		}
		for _, m := range regexp.MustCompile(`fault\.New\([^,]*, "([^"]+)"|l\.Add\([^,]*, "([^"]+)"`).FindAllStringSubmatch(string(b), -1) {
			keys = append(keys, "fault."+m[1]+m[2])
		}
	}
	for _, why := range []look.Ended{look.EndedIdle, look.EndedExpired, look.EndedStamp, look.EndedUnknown, "logout", "step"} {
		keys = append(keys, "ended."+string(why))
	}
	for _, m := range []string{"not-found", "cross-origin", "bad-form", "denied"} {
		keys = append(keys, m, m+".title")
	}
	for _, s := range sections {
		keys = append(keys, "nav."+s)
	}
	for _, n := range []api.Need{needNobody, needView, needOperate} {
		keys = append(keys, "api.need."+string(n))
	}
	for verb := range verbs {
		keys = append(keys, "do."+verb, "done."+verb, "confirm."+verb)
		if verb != "start" {
			keys = append(keys, "confirm."+verb+".network", "confirm."+verb+".console-web")
		}
	}
	for _, k := range keys {
		if !en.Has(k) && !strings.HasSuffix(k, ".") {
			t.Errorf("%q has no text", k)
		}
	}
}

func TestGuard(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a, b := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.1")
	g := newGuard()
	try := func(a netip.Addr, good bool) time.Duration {
		wait, done := g.enter(a, "admin", now)
		if done != nil {
			done(good, now)
		}
		return wait
	}
	for i := range 3 {
		if d := try(a, false); d != 0 {
			t.Fatalf("failure %d has to wait %v", i+1, d)
		}
	}
	if d := try(a, false); d != time.Second {
		t.Errorf("after 3 failures the wait is %v, want 1s", d)
	}
	if d := try(netip.MustParseAddr("192.0.2.200"), false); d != 0 {
		t.Errorf("a neighbour has to wait %v", d)
	}
	if d := try(b, false); d != 0 {
		t.Errorf("another network has to wait %v", d)
	}
	// Never a lock-out: after any number of failures a minute is enough.
	for range 50 {
		now = now.Add(throttle.MaxDelay)
		if d := try(a, false); d != 0 {
			t.Fatalf("after a minute the wait is %v", d)
		}
	}
	now = now.Add(throttle.MaxDelay)
	if d := try(a, true); d != 0 {
		t.Fatal(d)
	}
	if d := try(a, false); d != 0 {
		t.Errorf("after a success the wait is %v", d)
	}
}

// A flood from everywhere slows down strangers, and not the network that the
// administrator comes from.
func TestGuardUnderFlood(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	home := netip.MustParseAddr("2001:db8:1:2::7")
	g := newGuard()
	if _, done := g.enter(home, "admin", now); done != nil {
		done(true, now)
	}
	checked := 0
	for i := range 1000 {
		_, done := g.enter(netip.MustParseAddr(fmt.Sprintf("10.%d.%d.1", i/250, i%250)), "admin", now)
		if done != nil {
			checked++
			done(false, now)
		}
	}
	if checked != accountBurst {
		t.Errorf("%d strangers were checked, want %d", checked, accountBurst)
	}
	// Other names do not get around it for long.
	for i := range 1000 {
		_, done := g.enter(netip.MustParseAddr(fmt.Sprintf("10.%d.%d.2", i/250, i%250)), fmt.Sprint("name", i), now)
		if done != nil {
			checked++
			done(false, now)
		}
	}
	if checked != failBurst {
		t.Errorf("%d strangers were checked, want %d", checked, failBurst)
	}
	wait, done := g.enter(netip.MustParseAddr("203.0.113.1"), "admin", now)
	if done != nil || wait > throttle.MaxDelay {
		t.Errorf("a stranger in the flood: wait %v", wait)
	}
	if wait, done := g.enter(home, "admin", now); done == nil {
		t.Errorf("the administrator has to wait %v", wait)
	} else {
		done(true, now)
	}
	// At once: strangers leave room, and one network does not take it all.
	g = newGuard()
	g.known[home.String()] = now
	held := 0
	for i := range 100 {
		if _, done := g.enter(netip.MustParseAddr(fmt.Sprintf("10.1.%d.1", i/10)), "admin", now); done != nil {
			held++
		}
	}
	if held != maxChecks-keptChecks {
		t.Errorf("strangers hold %d checks, want %d", held, maxChecks-keptChecks)
	}
	if _, done := g.enter(home, "admin", now); done == nil {
		t.Error("there is no room for the administrator")
	}
}

// Whoever guesses from the administrator's own network does not keep the
// administrator out: not from an address that is known, and of IPv4 from no
// other as long as the guesses come from one address.
func TestGuardOfOneNetwork(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for stranger, admin := range map[string][]string{
		"192.0.2.66":       {"192.0.2.7", "192.0.2.8"},
		"::ffff:192.0.2.7": {"192.0.2.8"},
		"2001:db8::66":     {"2001:db8::7"},
		"fe80::66%eth0":    {"fe80::7%eth0"},
	} {
		g := newGuard()
		known := netip.MustParseAddr(admin[0])
		if _, done := g.enter(known, "admin", now); done == nil {
			t.Fatalf("%v may not log in", known)
		} else {
			done(true, now)
		}
		for range 600 {
			now = now.Add(time.Second)
			if _, done := g.enter(netip.MustParseAddr(stranger), "admin", now); done != nil {
				done(false, now)
			}
		}
		for _, a := range admin {
			if wait, done := g.enter(netip.MustParseAddr(a), "admin", now); done == nil {
				t.Errorf("%s has to wait %v for what %s did", a, wait, stranger)
			} else {
				done(true, now)
			}
		}
	}
	// Many addresses of one network leave the others alone, and are bounded.
	g, checked := newGuard(), 0
	for i := range 2500 {
		if _, done := g.enter(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 250)}), "admin", now); done != nil {
			checked++
			done(false, now)
		}
	}
	if checked != netBurst {
		t.Errorf("%d guesses of one network were checked at once, want %d", checked, netBurst)
	}
	if _, done := g.enter(netip.MustParseAddr("198.51.100.7"), "admin", now); done == nil {
		t.Error("another network has to wait")
	}
	for i := range 2 * maxNetworks {
		now = now.Add(failEvery)
		if _, done := g.enter(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), "admin", now); done != nil {
			done(false, now)
		}
	}
	if len(g.networks) > maxNetworks {
		t.Errorf("%d networks are counted", len(g.networks))
	}
}

func TestGuardIsBounded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	g := newGuard()
	for i := range 2 * maxKnown {
		now = now.Add(time.Minute)
		if _, done := g.enter(netip.MustParseAddr(fmt.Sprintf("10.%d.%d.1", i/250, i%250)), "admin", now); done != nil {
			done(true, now)
		}
	}
	if len(g.known) != maxKnown || len(g.checks) != 0 || g.total != 0 {
		t.Errorf("%d known addresses, %d and %d checks", len(g.known), len(g.checks), g.total)
	}
	if _, ok := g.known["10.0.0.1"]; ok {
		t.Error("the oldest address is still known")
	}
}

func TestCut(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a\nb\tc": "a b c", "\x1b[2Jx\x00\u202e": "[2Jx", "\xff": "\uFFFD", "контроллер зоны": "контроллер…",
	} {
		if got := api.Cut(in, 10); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestChanges(t *testing.T) {
	words := look.MustLoad(words, "words")[look.English]
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	st := &control.Status{Booted: at, Perm: control.Perm{State: control.PermReadWrite}, Services: []control.Service{{Name: "mmr", State: control.StateReady, Since: at, Detail: "x"}}}
	state := &state{at: at.Add(time.Hour), status: st}
	old := newView(state, words)
	if c := newView(state, words).changes(old); len(c) != 0 {
		t.Errorf("nothing changed: %v", c)
	}
	st.Services[0].State, st.Services[0].Detail = control.StateStopped, ""
	changes := newView(state, words).changes(old)
	for k, want := range map[string]field{
		"svc.mmr.state": {Text: "stopped", State: "stopped"}, "svc.mmr.detail": {Hidden: true}, "svc.mmr.start": {},
		"svc.mmr.stop": {Hidden: true}, "verdict": {Text: "0 of 1 services are running", State: fieldBad},
	} {
		if got, ok := changes[k]; !ok || got != want {
			t.Errorf("%s: %+v (%v), want %+v", k, got, ok, want)
		}
	}
	if _, ok := changes["uptime"]; ok {
		t.Error("what did not change is sent")
	}
}

func TestChangedBy(t *testing.T) {
	for by, want := range map[string]string{
		"anna from 10.0.0.7": "anna, с адреса 10.0.0.7",
		"anna":               "anna",
		"":                   "",
	} {
		if got := changedBy(newFace().dict[look.Russian], by); got != want {
			t.Errorf("%q: %q, want %q", by, got, want)
		}
	}
}

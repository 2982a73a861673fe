package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/throttle"
)

func TestGuard(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a, b := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.1")
	g := New(Console)
	try := func(a netip.Addr, good bool) time.Duration {
		wait, done := g.Enter(a, "admin", "", false, now)
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
	g := New(Console)
	if _, done := g.Enter(home, "admin", "", false, now); done != nil {
		done(true, now)
	}
	checked := 0
	for i := range 1000 {
		_, done := g.Enter(netip.MustParseAddr(fmt.Sprintf("10.%d.%d.1", i/250, i%250)), "admin", "", false, now)
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
		_, done := g.Enter(netip.MustParseAddr(fmt.Sprintf("10.%d.%d.2", i/250, i%250)), fmt.Sprint("name", i), "", false, now)
		if done != nil {
			checked++
			done(false, now)
		}
	}
	if checked != Console.FailBurst {
		t.Errorf("%d strangers were checked, want %d", checked, Console.FailBurst)
	}
	wait, done := g.Enter(netip.MustParseAddr("203.0.113.1"), "admin", "", false, now)
	if done != nil || wait > throttle.MaxDelay {
		t.Errorf("a stranger in the flood: wait %v", wait)
	}
	if wait, done := g.Enter(home, "admin", "", false, now); done == nil {
		t.Errorf("the administrator has to wait %v", wait)
	} else {
		done(true, now)
	}
	// At once: strangers leave room, and one network does not take it all.
	g = New(Console)
	g.known[home.String()] = now
	held := 0
	for i := range 100 {
		if _, done := g.Enter(netip.MustParseAddr(fmt.Sprintf("10.1.%d.1", i/10)), "admin", "", false, now); done != nil {
			held++
		}
	}
	if held != Console.Checks-Console.KeptChecks {
		t.Errorf("strangers hold %d checks, want %d", held, Console.Checks-Console.KeptChecks)
	}
	if _, done := g.Enter(home, "admin", "", false, now); done == nil {
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
		g := New(Console)
		known := netip.MustParseAddr(admin[0])
		if _, done := g.Enter(known, "admin", "", false, now); done == nil {
			t.Fatalf("%v may not log in", known)
		} else {
			done(true, now)
		}
		for range 600 {
			now = now.Add(time.Second)
			if _, done := g.Enter(netip.MustParseAddr(stranger), "admin", "", false, now); done != nil {
				done(false, now)
			}
		}
		for _, a := range admin {
			if wait, done := g.Enter(netip.MustParseAddr(a), "admin", "", false, now); done == nil {
				t.Errorf("%s has to wait %v for what %s did", a, wait, stranger)
			} else {
				done(true, now)
			}
		}
	}
	// Many addresses of one network leave the others alone, and are bounded.
	g, checked := New(Console), 0
	for i := range 2500 {
		if _, done := g.Enter(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 250)}), "admin", "", false, now); done != nil {
			checked++
			done(false, now)
		}
	}
	if checked != netBurst {
		t.Errorf("%d guesses of one network were checked at once, want %d", checked, netBurst)
	}
	if _, done := g.Enter(netip.MustParseAddr("198.51.100.7"), "admin", "", false, now); done == nil {
		t.Error("another network has to wait")
	}
	for i := range 2 * maxNetworks {
		now = now.Add(Console.FailEvery)
		if _, done := g.Enter(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), "admin", "", false, now); done != nil {
			done(false, now)
		}
	}
	if len(g.networks) > maxNetworks {
		t.Errorf("%d networks are counted", len(g.networks))
	}
}

func TestGuardIsBounded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	g := New(Console)
	for i := range 2 * Console.Known {
		now = now.Add(time.Minute)
		if _, done := g.Enter(netip.MustParseAddr(fmt.Sprintf("10.%d.%d.1", i/250, i%250)), "admin", "", false, now); done != nil {
			done(true, now)
		}
	}
	if len(g.known) != Console.Known || len(g.checks) != 0 || g.total != 0 {
		t.Errorf("%d known addresses, %d and %d checks", len(g.known), len(g.checks), g.total)
	}
	if _, ok := g.known["10.0.0.1"]; ok {
		t.Error("the oldest address is still known")
	}
}

// Whoever has an account does not have guesses at another's forgotten by logging
// in with his own, and what he typed wrong himself is forgotten.
func TestGuardOfTwoAccounts(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := netip.MustParseAddr("192.0.2.7")
	g := New(Console)
	enter := func(name string, good bool) time.Duration {
		wait, done := g.Enter(a, name, "", false, now)
		if done != nil {
			done(good, now)
		}
		return wait
	}
	guesses := 0
	for range 600 {
		now = now.Add(time.Second)
		if enter("admin", false) == 0 {
			guesses++
		}
		enter("viewer", true)
	}
	// One, two, four … seconds between, then a minute.
	if guesses > 20 {
		t.Errorf("%d guesses in ten minutes", guesses)
	}
	if wait := enter(" ADMIN ", false); wait == 0 {
		t.Error("another way to write the name is another account")
	}
	now = now.Add(throttle.MaxDelay)
	enter("viewer", false)
	if wait := enter("viewer", true); wait != 0 {
		t.Errorf("the own account waits %v", wait)
	}
}

// Codes of a second factor: who has the password and many addresses has no more
// than one in a minute; where somebody has logged in before nobody waits for that.
func TestGuardOfCodes(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	g := New(Console)
	home := netip.MustParseAddr("198.51.100.7")
	if _, done := g.Enter(home, "admin", "", false, now); done == nil {
		t.Fatal("the first login waits")
	} else {
		done(true, now)
	}
	checked := 0
	const minutes = 60
	for i := range minutes * 60 {
		now = now.Add(time.Second)
		if _, done := g.Enter(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), "admin", "", true, now); done != nil {
			checked++
			done(false, now)
		}
	}
	if most := codeBurst + minutes + 1; checked > most || checked < minutes {
		t.Errorf("%d codes were checked in an hour, want at most %d", checked, most)
	}
	if _, done := g.Enter(home, "admin", "", true, now); done == nil {
		t.Error("the owner waits where he was before")
	}
	// Whoever guesses is no further by having logged in with an account of his own
	// everywhere.
	g, checked = New(Portal), 0
	for i := range 60 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i), 1})
		if _, done := g.Enter(a, "mallory", "", false, now); done != nil {
			done(true, now)
		}
		now = now.Add(time.Second)
		if _, done := g.Enter(a, "admin", "", true, now); done != nil {
			checked++
			done(false, now)
		}
	}
	if checked > codeBurst+2 {
		t.Errorf("%d codes were checked in a minute from where somebody else has logged in", checked)
	}
}

// Strangers of one network ask for a few mails, and not for others'.
func TestGuardAsk(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	g := New(Portal)
	asked := 0
	for i := range 200 {
		if g.Ask(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), now) == 0 {
			asked++
		}
	}
	if asked != askBurst {
		t.Errorf("%d were let through, want %d", asked, askBurst)
	}
	if d := g.Ask(netip.MustParseAddr("198.51.100.1"), now); d != 0 {
		t.Errorf("another network waits %v", d)
	}
	if d := g.Ask(netip.MustParseAddr("192.0.2.1"), now.Add(askEvery)); d != 0 {
		t.Errorf("later it waits %v", d)
	}
}

// Whoever holds a session or a link guesses slowly; what was not looked at does
// not count.
func TestGuardHolding(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	g, looked := New(Portal), 0
	try := func(wrong bool, err error) time.Duration {
		wait, _ := g.Holding("link", now, func() (bool, error) { looked++; return wrong, err })
		return wait
	}
	broken := errors.New("no disk")
	for range 10 {
		try(false, broken)
	}
	if looked != 10 {
		t.Errorf("%d of 10 were looked at", looked)
	}
	for range 10 {
		try(true, broken)
	}
	if looked != 13 || try(true, broken) == 0 {
		t.Errorf("%d guesses, want 3 before the wait", looked-10)
	}
	now = now.Add(throttle.MaxDelay)
	if try(false, nil) != 0 || g.Counted() != 0 {
		t.Error("after a good one it is not forgotten")
	}
}

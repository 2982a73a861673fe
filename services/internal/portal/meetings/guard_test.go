package meetings

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// Whoever has as many networks as he likes does not have the guesses at a number
// forgotten by guessing at others, and takes no memory for them.
func TestGuardForgetsNothing(t *testing.T) {
	g, now := newGuard(), time.Now()
	from := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%x::1", i%0xffff)) }
	guess := func(i int, number string) bool {
		wait, done := g.enter(from(i), number, now)
		if wait == 0 {
			done(false)
		}
		return wait == 0
	}
	n := 0
	for i := 0; guess(i, "12345678901"); i++ {
		n++
	}
	if n != numberBurst {
		t.Errorf("%d guesses at once, want %d", n, numberBurst)
	}
	for i := range 30000 {
		guess(i, fmt.Sprint(20000000000+i))
	}
	for i := range 100 {
		if guess(1000+i, "12345678901") {
			t.Fatal("guesses at other numbers made room for some at the first")
		}
	}
	if len(g.networks) > maxNetworks {
		t.Errorf("%d networks are remembered", len(g.networks))
	}
	// Each second one more.
	now = now.Add(10 * numberEvery)
	n = 0
	for i := 0; guess(i, "12345678901"); i++ {
		n++
	}
	if n < 9 || n > 10 {
		t.Errorf("%d guesses after %v", n, 10*numberEvery)
	}
}

package wire

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

// A socket that is closed gives its port back, and what it did stays counted.
func TestSocketClose(t *testing.T) {
	m := NewMux(slog.New(slog.DiscardHandler))
	defer m.Close()
	s, err := m.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for end := time.Now().Add(30 * time.Second); m.Totals().Unknown == 0; time.Sleep(time.Millisecond) {
		if _, err := c.Write([]byte("nobody's")); err != nil || time.Now().After(end) {
			t.Fatal("nothing came", err)
		}
	}
	before := m.Totals().Unknown
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := m.Totals().Unknown; after < before {
		t.Errorf("%d counted, %d before", after, before)
	}
	again, err := m.Listen(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if again.Addr() != s.Addr() {
		t.Errorf("%v, want %v", again.Addr(), s.Addr())
	}
}

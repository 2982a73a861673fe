package look

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"
)

// stamp is what every account's stamp is.
func stamp(s string) func(string) (string, bool) {
	return func(string) (string, bool) { return s, true }
}

func TestSessions(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	one, two := stamp("A"), stamp("Q")
	table := NewSessions("__Host-x", 4)
	token := table.Create(Session{Name: "admin", Stamp: "A"}, now)
	if len(token) != 43 || strings.ContainsAny(token, "+/= ") {
		t.Errorf("token %q: want 256 bits in base64url", token)
	}
	if _, stored := table.m[sha256.Sum256([]byte(token))]; !stored {
		t.Error("the token is not kept as its hash")
	}
	for _, x := range []struct {
		after time.Duration
		touch bool
		why   Ended
	}{
		{0, true, ""}, {29 * time.Minute, false, ""}, {29 * time.Minute, true, ""}, {58 * time.Minute, false, ""},
		{59 * time.Minute, false, EndedIdle}, {59 * time.Minute, true, EndedIdle}, {59 * time.Minute, true, EndedUnknown},
	} {
		if _, why := table.Get(token, now.Add(x.after), x.touch, one); why != x.why {
			t.Errorf("after %v: %q, want %q", x.after, why, x.why)
		}
	}
	// However busy, a session ends.
	token = table.Create(Session{Name: "admin", Stamp: "A"}, now)
	var why Ended
	at := now
	for ; why == "" && at.Before(now.Add(24*time.Hour)); at = at.Add(20 * time.Minute) {
		_, why = table.Get(token, at, true, one)
	}
	if why != EndedExpired || at.Sub(now) > AbsoluteLimit+time.Hour {
		t.Errorf("a busy session: %q after %v", why, at.Sub(now))
	}
	token = table.Create(Session{Name: "admin", Stamp: "A"}, now)
	if _, why := table.Get(token, now, false, two); why != EndedStamp {
		t.Errorf("another password: %q", why)
	}
	if _, why := table.Get("", now, true, one); why != EndedUnknown {
		t.Errorf("no token: %q", why)
	}
	token = table.Create(Session{Name: "admin", Stamp: "A"}, now)
	table.End(token)
	if _, why := table.Get(token, now, true, one); why != EndedUnknown {
		t.Errorf("after the end: %q", why)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := stamp("A")
	table := NewSessions("__Host-x", 4)
	used := table.Create(Session{Name: "admin", Stamp: "A"}, now)
	var tokens []string
	for i := range 3 * MaxSessions {
		at := now.Add(time.Duration(i) * time.Second)
		tokens = append(tokens, table.Create(Session{Name: fmt.Sprint("name", i), Stamp: "A"}, at))
		if _, why := table.Get(used, at, true, c); why != "" {
			t.Fatalf("after %d logins the session in use is ended: %q", i+1, why)
		}
	}
	if len(table.m) != MaxSessions {
		t.Errorf("%d sessions, want %d", len(table.m), MaxSessions)
	}
	if _, why := table.Get(tokens[0], now, true, c); why != EndedUnknown {
		t.Errorf("the oldest session: %q", why)
	}
	if _, why := table.Get(tokens[len(tokens)-1], now.Add(3*MaxSessions*time.Second), true, c); why != "" {
		t.Errorf("the newest session: %q", why)
	}
	s, _ := table.Get(used, now.Add(3*MaxSessions*time.Second), true, c)
	var release func()
	for i := range 4 + 1 {
		r, ok := table.Stream(s)
		if ok != (i < 4) {
			t.Errorf("stream %d: %v", i, ok)
		}
		if ok {
			release = r
		}
	}
	release()
	if _, ok := table.Stream(s); !ok {
		t.Error("a stream that ended makes no room")
	}
}

func TestSessionsAreListed(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	table := NewSessions("__Host-x", 1)
	a := table.Create(Session{Name: "anna", Stamp: "A", Address: "192.0.2.1", Agent: "Firefox"}, now)
	table.Create(Session{Name: "boris", Stamp: "A"}, now.Add(time.Minute))
	table.Create(Session{Name: "old", Stamp: "A"}, now.Add(-IdleLimit))
	own, _ := table.Get(a, now.Add(2*time.Minute), true, stamp("A"))
	list := table.List(own, now.Add(2*time.Minute))
	if len(list) != 2 || list[0].Name != "anna" || !list[0].Own || list[1].Own || list[0].Agent != "Firefox" || list[0].ID == list[1].ID {
		t.Fatalf("%+v", list)
	}
	if strings.Contains(a, list[0].ID) {
		t.Error("the ID is part of the token")
	}
	if name, ok := table.Revoke(list[1].ID); !ok || name != "boris" {
		t.Errorf("revoked %q, %v", name, ok)
	}
	if _, ok := table.Revoke(list[1].ID); ok {
		t.Error("revoked twice")
	}
	if _, ok := table.Owner(list[0].ID); !ok || table.Len() != 2 {
		t.Errorf("%d sessions are left", table.Len())
	}
	// An account that is gone has no sessions.
	if s, why := table.Get(a, now, true, func(string) (string, bool) { return "A", false }); s != nil || why != EndedStamp {
		t.Errorf("%v, %q", s, why)
	}
	table.SetFlash(own, &Flash{Text: "x"})
	if f := table.TakeFlash(own); f == nil || f.Text != "x" || table.TakeFlash(own) != nil {
		t.Error("a flash is told once")
	}
}

// Whoever logs in again and again ends his own sessions, and nobody else's.
func TestSessionsOfOneAccount(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	table := NewSessions("__Host-x", 4)
	other := table.Create(Session{Name: "admin", Stamp: "A"}, now)
	first := table.Create(Session{Name: "vera", Stamp: "A"}, now)
	for i := range 3 * MaxSessions {
		now = now.Add(time.Second)
		table.Create(Session{Name: "vera", Stamp: "A"}, now)
		if want := min(i+3, MaxOwn+1); table.Len() != want {
			t.Fatalf("%d sessions after %d logins, want %d", table.Len(), i+2, want)
		}
	}
	if _, why := table.Get(other, now, true, stamp("A")); why != "" {
		t.Errorf("the other account's session is ended: %q", why)
	}
	if _, why := table.Get(first, now, true, stamp("A")); why != EndedUnknown {
		t.Errorf("the own oldest one: %q", why)
	}
}

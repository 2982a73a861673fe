package live_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// wire is an appliance that says what it likes.
type wire struct {
	t  *testing.T
	ws *websocket.Conn
}

func dial(t *testing.T, p *portaltest.Portal, c link.Credentials) *wire {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Key))
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{RootCAs: p.Roots(), Certificates: []tls.Certificate{pair}, NextProtos: []string{link.ALPN, "http/1.1"}, ServerName: "127.0.0.1"}
	client := &http.Client{Transport: &http.Transport{DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&tls.Dialer{Config: conf}).DialContext(ctx, network, address)
	}}}
	ws, _, err := websocket.Dial(t.Context(), c.Portals[0], &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	t.Cleanup(func() { ws.CloseNow() })
	return &wire{t, ws}
}

func (w *wire) say(kind, body string) {
	w.t.Helper()
	_ = w.ws.Write(w.t.Context(), websocket.MessageText, []byte(`{"kind":"`+kind+`","body":`+body+`}`)) // it may be cut off already
}

// until reads messages until one of that kind; false: the link ended.
func (w *wire) until(kind link.Kind) (link.Message, bool) {
	ctx, stop := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer stop()
	for {
		m, err := link.Receive(ctx, w.ws)
		if err != nil {
			return m, false
		}
		if m.Kind == kind {
			return m, true
		}
	}
}

func enrolled(t *testing.T, p *portaltest.Portal, token, host string) link.Credentials {
	t.Helper()
	c, err := link.Enrol(t.Context(), link.EnrolOptions{Token: token, Role: link.Controller, Host: host, Version: "1", Roots: p.Roots()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// An appliance that lies, or says too much, harms nobody but itself: its own
// account's pages still show, and another account's appliance is heard.
func TestHostileAppliance(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		p := portaltest.On(t, url, make([]byte, 32))
		who, _, token := enabled(t, p, "Acme")
		owner := people.User{ID: who.User}
		other, _, theirs := enabled(t, p, "Other")
		good := p.Appliance(theirs, "good", link.Controller)
		good.Linked()
		evil := enrolled(t, p, token, "evil\u202e\x1b[31m=cmd")
		page := p.Client(owner)
		n := 0
		healthy := func(what string) {
			t.Helper()
			n++
			good.Set(func(s *link.Status) { s.Participants = n })
			portaltest.Wait(t, "another account's appliance to be heard after "+what, func() bool {
				l := states(t, p, other)
				return len(l) == 1 && l[0].Status.Participants == n
			})
			for _, path := range []string{"/connector/monitor", "/api/v1/connector/monitor", "/connector/configure", "/connector/activate", "/api/v1/connector/readiness", "/"} {
				a := page.Do("GET", path, nil)
				if a.Status != http.StatusOK {
					t.Errorf("%s: GET %s: %d %.200s", what, path, a.Status, a.Body)
				}
				for _, bad := range []string{"\u202e", "\x1b", "\x00", "<script>x", "\u2066"} {
					if strings.Contains(string(a.Body), bad) {
						t.Errorf("%s: GET %s has %q", what, path, bad)
					}
				}
			}
		}
		hello := func(boot string) string {
			b, _ := json.Marshal(boot)
			return `{"version":"1\u0000\u202e","host":"evil\u202e\u001b[31m\u0000","boot":` + string(b) + `,"status":{"https":443}}`
		}
		// Before it has said hello, or instead.
		for _, first := range [][2]string{
			{"status", `{}`}, {"hello", `{}`}, {"hello", `null`}, {"hello", `[]`}, {"hello", `"x"`}, {"event", `{"number":1}`}, {"hello", hello(strings.Repeat("x", 65))}, {"\u202e", `{}`},
			{"hello", hello("\x00nul")}, {"hello", strings.Repeat("[", 100000) + strings.Repeat("]", 100000)}, {"hello", hello("x")[:40]},
		} {
			w := dial(t, p, evil)
			w.say(first[0], first[1])
			_, welcome := w.until(link.KindWelcome)
			if welcome {
				t.Errorf("%.60v was welcome", first)
			}
			w.ws.CloseNow()
		}
		healthy("false hellos")

		text := strings.Repeat(`<script>x\u202e\u0000\u001b`, 100)
		for _, status := range []string{
			`{"https":443,"clock":"0000-01-01T00:00:00Z"}`,
			`{"https":443,"clock":"9999-12-31T23:59:59.999999999-23:59"}`,
			`{"https":443,"certificate":{"names":["` + text + `"],"expires":"9999-12-31T23:59:59-23:59","trusted":true}}`,
			`{"https":443,"certificate":{"expires":"0000-01-01T00:00:00+23:59"}}`,
			`{"https":443,"cpu":1e308,"memory":9223372036854775807,"memoryTotal":-9223372036854775808,"sendBits":9223372036854775807,"receiveBits":-1}`,
			`{"https":443,"cpu":-1e308,"meetings":2147483647,"participants":9223372036854775807,"limit":-1}`,
			`{"https":443,"addresses":["fe80::1%eth0","::","0.0.0.0","255.255.255.255","ff02::1","::ffff:10.0.0.1",""]}`,
			`{"https":443,"addresses":[` + strings.TrimSuffix(strings.Repeat(`"10.0.0.1",`, 10000), ",") + `]}`,
			`{"https":443,"problems":[{"code":"` + text + `","detail":"` + text + `"}],"services":[{"name":"` + text + `","state":"` + text + `"}],"peers":["` + text + `"],"unreachable":["` + text + `"]}`,
			`{"https":443,"problems":[` + strings.TrimSuffix(strings.Repeat(`{"code":"x"},`, 10000), ",") + `]}`,
		} {
			// Each from one of its own, so that all are written at once.
			w := dial(t, p, enrolled(t, p, token, "evil"))
			w.say("hello", hello("boot"))
			w.say("status", status)
			w.say("event", `{"number":1}`)
			if _, ok := w.until(link.KindAck); !ok {
				t.Errorf("%.80s ends the link", status)
			}
		}
		healthy("lies")
		w := dial(t, p, evil)
		w.say("hello", hello("boot"))
		// Numbers of events: none, the greatest, backwards, again.
		for _, c := range []struct{ say, acked uint64 }{{1<<64 - 1, 1<<64 - 1}, {5, 1<<64 - 1}} {
			w.say("event", fmt.Sprintf(`{"number":%d,"name":"x","at":"0000-01-01T00:00:00Z"}`, c.say))
			m, ok := w.until(link.KindAck)
			var a link.Ack
			if !ok || m.Into(&a) != nil || a.Event != c.acked {
				t.Errorf("event %d: %s", c.say, m.Body)
			}
		}
		w.ws.CloseNow()
		// As many starts as it likes leave few rows.
		for i := range 20 {
			w := dial(t, p, evil)
			w.say("hello", hello(fmt.Sprint("boot", i)))
			w.say("event", `{"number":4611686018427387904,"name":"x","data":"`+strings.Repeat("x", 200<<10)+`"}`)
			if _, ok := w.until(link.KindAck); !ok {
				t.Error("no answer")
			}
			w.ws.CloseNow()
		}
		rows := 0
		if err := p.DB.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Row("SELECT COUNT(*) FROM appliance_events WHERE appliance_id = ?", evil.Appliance).Scan(&rows)
		}); err != nil || rows > 5 {
			t.Errorf("%d rows, %v", rows, err)
		}
		for _, end := range [][2]string{{"event", `{"number":-1}`}, {"event", `{"number":18446744073709551616}`}, {"status", `{"cpu":1e999}`}, {"status", `{"clock":"99999-01-01T00:00:00Z"}`}, {"hello", hello("again")}, {"status", `"` + strings.Repeat("x", link.MaxMessage) + `"`}} {
			w := dial(t, p, evil)
			w.say("hello", hello("boot"))
			w.say(end[0], end[1])
			if _, ok := w.until(link.KindConfig); ok {
				t.Errorf("%.60v is taken", end)
			}
		}
		healthy("what ends a link")
	})
}

// Alerts that come and go, as often as an appliance likes, leave few rows.
func TestAlertsKept(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		p := portaltest.On(t, url, make([]byte, 32))
		_, _, token := enabled(t, p, "Acme")
		c := enrolled(t, p, token, "evil")
		write := func(query string, args ...any) {
			t.Helper()
			if err := p.DB.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(query, args...); return err }); err != nil {
				t.Fatal(err)
			}
		}
		count := func(where string) (n int) {
			t.Helper()
			if err := p.DB.Read(t.Context(), func(tx *store.Tx) error { return tx.Row("SELECT COUNT(*) FROM alerts WHERE " + where).Scan(&n) }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		now := time.Now()
		for i := range 2 * live.AlertsKept {
			at := store.Millis(now.Add(-time.Duration(i) * time.Minute))
			write("INSERT INTO alerts (id, account_id, zone_id, appliance_id, code, detail, opened, closed) VALUES (?, 'a', 'z', ?, 'clock', ?, ?, ?)", store.NewID(), c.Appliance, fmt.Sprint(i), at, at)
		}
		w := dial(t, p, c)
		w.say("hello", `{"boot":"x","status":{"https":443,"problems":[{"code":"x"}]}}`)
		portaltest.Wait(t, "an alert", func() bool { return count("closed = 0") > 0 })
		if n := count("closed <> 0"); n > live.AlertsKept || n < live.AlertsKept-10 {
			t.Errorf("%d alerts that are closed are kept", n)
		}
		if n := count("detail = '0'"); n != 1 {
			t.Error("the newest went")
		}
	})
}

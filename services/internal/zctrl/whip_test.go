package zctrl

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/carrier"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/ticket"
)

const typeSDP = "application/sdp"

// encoder makes an offer of somebody who publishes a picture.
func encoder(t *testing.T) (*transport.Client, string) {
	t.Helper()
	c, err := transport.Dial(netip.MustParseAddr("127.0.0.1"), []transport.Line{{Video: true, Send: true}}, slog.New(slog.DiscardHandler), func([][]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	text, err := c.Offer()
	if err != nil {
		t.Fatal(err)
	}
	return c, text
}

// publishes has an encoder come into a meeting, and returns its session's Location.
func (k *tested) publishes(t *testing.T, text string) string {
	t.Helper()
	c, offer := encoder(t)
	res, body := k.do(t, "POST", "/whip", offer, "Authorization", "Bearer "+text, "Content-Type", typeSDP)
	if res.StatusCode != http.StatusCreated || res.Header.Get("Access-Control-Allow-Origin") != "*" || res.Header.Get("Content-Type") != typeSDP {
		t.Fatalf("%d %v %q", res.StatusCode, res.Header, body)
	}
	if err := c.Answer(body); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Ready:
	case <-time.After(bustest.Patience):
		t.Fatal("no connection for media")
	}
	return res.Header.Get("Location")
}

// inside is how many are in a router's meetings.
func (x *router) inside() int { return x.hall.Load().Participants }

// Encoders begin meetings, with nobody there before, at whichever router of the zone
// they are placed; their sessions are reached by the other controller too; and the
// first of a page joins them.
func TestPublish(t *testing.T) {
	r := newRig(t, 2, 3)
	a, b := r.controllers[0], r.controllers[1]
	at := map[string]string{} // Location by router
	for i := 0; len(at) < len(r.routers); i++ {
		if i == 60 {
			t.Fatalf("60 meetings, and all at %v", at)
		}
		id := fmt.Sprint("m", i)
		place := a.publishes(t, r.ticket(id, "encoder", ticket.Host))
		router, _, ok := location(place, "/whip")
		if p, found := a.current().place(t.Context(), id); !ok || found != nil || p.Router != router {
			t.Fatalf("%s: session %s, meeting at %+v, %v", id, place, p, found)
		}
		if i == 0 { // a page comes to the same meeting, by the other controller
			anna := r.join(id, "anna", ticket.Participant, b)
			anna.say("a0")
			anna.hears("a", 1)
		}
		at[router] = place
	}
	for _, x := range r.routers {
		place, before := at[x.cred.Appliance], x.inside()
		// Candidates alone: the router needs none. An ICE restart: it has an answer.
		fragment := "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\n"
		if res, body := b.do(t, "PATCH", place, fragment, "Content-Type", "application/trickle-ice-sdpfrag"); res.StatusCode != http.StatusNoContent {
			t.Errorf("PATCH %s: %d %q", place, res.StatusCode, body)
		}
		res, body := b.do(t, "PATCH", place, fragment, "Content-Type", "application/trickle-ice-sdpfrag", "If-Match", "*")
		if res.StatusCode != http.StatusOK || !strings.Contains(body, "a=ice-ufrag:") || res.Header.Get("ETag") == "" {
			t.Errorf("restart of %s: %d %q", place, res.StatusCode, body)
		}
		if res, body := b.do(t, "DELETE", place, ""); res.StatusCode != http.StatusOK {
			t.Errorf("DELETE %s: %d %q", place, res.StatusCode, body)
		}
		if n := x.inside(); n != before-1 {
			t.Errorf("%d inside, were %d", n, before)
		}
		if res, body := a.do(t, "DELETE", place, ""); res.StatusCode != http.StatusNotFound || !strings.Contains(body, "ended") {
			t.Errorf("again: %d %q", res.StatusCode, body)
		}
	}
}

// What is not a meeting's ticket reaches no router; a good one is used once, whichever
// controller it comes to.
func TestPublishTickets(t *testing.T) {
	r := newRig(t, 2, 2)
	a, b := r.controllers[0], r.controllers[1]
	_, offer := encoder(t)
	post := func(k *tested, path, bearer string) (int, string) {
		t.Helper()
		h := []string{"Content-Type", typeSDP}
		if bearer != "" {
			h = append(h, "Authorization", bearer)
		}
		res, body := k.do(t, "POST", path, offer, h...)
		if res.StatusCode == http.StatusUnauthorized && res.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("no WWW-Authenticate: %v", res.Header)
		}
		return res.StatusCode, body
	}
	good := r.ticket("m1", "encoder", ticket.Host)
	forger := *r
	forger.key.Private = append([]byte{}, r.key.Private...)
	forger.key.Private[0] ^= 1
	head, body, _ := strings.Cut(good, ".")
	for name, bearer := range map[string]string{
		"none": "", "another scheme": "Basic " + good, "empty": "Bearer ", "junk": "Bearer x", "cut": "Bearer " + good[:len(good)-4],
		"no signature": "Bearer " + head + "." + strings.Split(body, ".")[0] + ".",
		"forged":       "Bearer " + forger.ticket("m1", "eve", ticket.Host),
	} {
		for _, path := range []string{"/whip", "/whep"} {
			if status, body := post(a, path, bearer); status != http.StatusUnauthorized {
				t.Errorf("%s: %d %q", name, status, body)
			}
		}
	}
	// Nor does what names no session of a router.
	for _, path := range []string{"/whip/x", "/whip/none/x", "/whip/" + r.routers[0].cred.Appliance + "/" + strings.Repeat("x", maxSession+1)} {
		if res, body := a.do(t, "DELETE", path, ""); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d %q", path, res.StatusCode, body)
		}
	}
	if res, _ := a.do(t, "OPTIONS", "/whip", ""); res.StatusCode != http.StatusNoContent || res.Header.Get("Accept-Post") != typeSDP {
		t.Errorf("OPTIONS: %d %v", res.StatusCode, res.Header)
	}
	if res, _ := a.do(t, "POST", "/whip", strings.Repeat("x", carrier.MaxBody+1), "Content-Type", typeSDP, "Authorization", "Bearer "+good); res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a long body: %d", res.StatusCode)
	}
	for _, x := range r.routers {
		if n := x.asks(); n != 0 {
			t.Errorf("%d requests have reached a router", n)
		}
	}
	a.publishes(t, good)
	for _, k := range []*tested{a, b} {
		if status, body := post(k, "/whip", "Bearer "+good); status != http.StatusUnauthorized || !strings.Contains(body, "used") {
			t.Errorf("a second time: %d %q", status, body)
		}
	}
}

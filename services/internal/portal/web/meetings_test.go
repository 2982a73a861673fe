package web_test

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	ical "github.com/arran4/golang-ical"

	"github.com/parley-meet/parley/services/internal/portal/meetings"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// connector gives an account a connector in production with a zone; its id.
func connector(t *testing.T, p *portaltest.Portal, account string) string {
	t.Helper()
	exec(t, p, "UPDATE accounts SET connector_enabled = 1, production = 1 WHERE id = ?", account)
	id := store.NewID()
	exec(t, p, "INSERT INTO zones (id, account_id, name, created) VALUES (?,?,?,?)", id, account, "Main", 1)
	return id
}

func plan(topic string) obj {
	return obj{"topic": topic, "agenda": "One\nTwo", "start": time.Now().AddDate(0, 0, 1).UTC().Format("2006-01-02T15:04"), "timezone": "Europe/Berlin", "duration": 45,
		"repeat": obj{"every": "weekly", "weekdays": []string{"MO", "TU", "WE", "TH", "FR", "SA", "SU"}, "ends": "count", "count": 3}, "waitingRoom": true, "joinBeforeHost": false}
}

func TestMeetingPages(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	connector(t, p, acc.ID)
	host := p.User(acc.ID, "Hanna <b>Host</b>", people.Member, people.KindOnPrem)
	member := p.User(acc.ID, "Member", people.Member, "")
	other, _ := p.Account("Other", people.Business)
	stranger := p.User(other.ID, "Stranger", people.Admin, people.KindOnPrem)
	c := p.Client(host)
	var m meetings.Meeting
	c.JSON("POST", "/api/v1/meetings", plan(`Plan <script>"x"</script>`), &m)
	c.JSON("DELETE", "/api/v1/meetings/"+m.ID+"/occurrences/"+m.Next.ID, nil, nil)
	pages := []string{"/meetings", "/meetings/past", "/meetings/room", "/meetings/new", "/meetings/" + m.ID, "/meetings/" + m.ID + "/edit", "/meetings/" + m.ID + "/occurrences/" + m.Next.ID, "/join", "/j/" + m.Number}
	for _, path := range pages {
		a := c.Do("GET", path, nil)
		if a.Status != http.StatusOK || bytes.Contains(a.Body, []byte("<script>\"x")) || bytes.Contains(a.Body, []byte("<b>Host")) {
			t.Errorf("%s: %d", path, a.Status)
		}
	}
	// Who may not host sees why, and no form.
	for _, path := range []string{"/meetings", "/meetings/room", "/meetings/new"} {
		if a := p.Client(member).Do("GET", path, nil); a.Status != http.StatusOK || !bytes.Contains(a.Body, []byte("not an On-Prem user")) || bytes.Contains(a.Body, []byte(`data-api="POST /api/v1/meetings`)) {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
	// Others find nothing, by pages and by the API.
	for _, u := range []people.User{member, stranger} {
		for _, path := range append([]string{"/api/v1/meetings/" + m.ID, "/api/v1/meetings/" + m.ID + "/calendar.ics", "/api/v1/meetings/" + m.ID + "/occurrences"}, pages[4:7]...) {
			if a := p.Client(u).Do("GET", path, nil); a.Status != http.StatusNotFound || bytes.Contains(a.Body, []byte(m.Passcode)) {
				t.Errorf("%s %s: %d", u.Name, path, a.Status)
			}
		}
		if a := p.Client(u).Do("GET", "/meetings", nil); bytes.Contains(a.Body, []byte(m.ID)) {
			t.Errorf("%s sees it in the list", u.Name)
		}
	}
	if a := p.Client(member).Do("GET", "/meetings/all", nil); a.Status != http.StatusForbidden {
		t.Errorf("%d", a.Status)
	}
	if a := p.Client(stranger).Do("GET", "/meetings/all", nil); bytes.Contains(a.Body, []byte(m.ID)) {
		t.Error("another account's admin sees it")
	}
	// The account's owner sees that it is there, and no passcode.
	for _, path := range []string{"/meetings/all", "/meetings/" + m.ID, "/api/v1/meetings?all=true", "/api/v1/meetings/" + m.ID, "/api/v1/meetings/" + m.ID + "/calendar.ics"} {
		a := p.Client(owner).Do("GET", path, nil)
		if a.Status != http.StatusOK || !bytes.Contains(a.Body, []byte(m.ID)) || bytes.Contains(a.Body, []byte(m.Passcode)) || bytes.Contains(a.Body, []byte("Two")) {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
	if a := p.Client(owner).Do("GET", "/meetings/"+m.ID+"/edit", nil); a.Status != http.StatusForbidden {
		t.Errorf("%d", a.Status)
	}
	// The page of a number that there is not is the page of one that there is.
	guest := p.Stranger()
	digits := regexp.MustCompile(`\d[\d  ]{8,13}`)
	there, not := digits.ReplaceAll(guest.Do("GET", "/j/"+m.Number, nil).Body, nil), digits.ReplaceAll(guest.Do("GET", "/j/99999999999", nil).Body, nil)
	if !bytes.Equal(there, not) || !bytes.Contains(there, []byte("data-join")) {
		t.Errorf("they differ:\n%s\n%s", there, not)
	}
	if a := guest.Do("GET", "/j/123", nil); a.Status != http.StatusNotFound {
		t.Errorf("%d", a.Status)
	}
	if a := guest.Do("GET", "/meetings", nil); a.Status != http.StatusSeeOther {
		t.Errorf("%d", a.Status)
	}
}

func TestMeetingAPI(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	connector(t, p, acc.ID)
	host := p.User(acc.ID, "Hanna", people.Member, people.KindOnPrem)
	c := p.Client(host)
	for field, change := range map[string]obj{"topic": {"topic": ""}, "start": {"start": "soon"}, "timezone": {"timezone": "Nowhere"}, "repeat.every": {"repeat": obj{"every": "hourly"}}, "zone": {"zone": "x"}, "color": {"color": "red"}} {
		in := plan("T")
		for k, v := range change {
			in[k] = v
		}
		if a := c.Do("POST", "/api/v1/meetings", in); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), `"field":"`+field+`"`) {
			t.Errorf("%s: %d %s", field, a.Status, a.Body)
		}
	}
	var m meetings.Meeting
	c.JSON("POST", "/api/v1/meetings", plan("Plan"), &m)
	a := c.Do("GET", "/api/v1/meetings/"+m.ID+"/calendar.ics", nil)
	cal, err := ical.ParseCalendar(bytes.NewReader(a.Body))
	if err != nil || len(cal.Events()) != 1 || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/calendar") || !strings.Contains(cal.Events()[0].GetProperty(ical.ComponentPropertyDescription).Value, m.Passcode) {
		t.Errorf("%v %v %s", err, a.Header, a.Body)
	}
	// Without a controller there is a state, not an error, and no ticket.
	guest := p.Stranger()
	var j meetings.Joined
	guest.JSON("POST", "/api/v1/join", obj{"number": m.Number, "passcode": m.Passcode, "name": "Greta"}, &j)
	if j.State != meetings.NoController || j.Ticket != "" {
		t.Errorf("%+v", j)
	}
	if a := c.Do("POST", "/api/v1/meetings/"+m.ID+"/start", nil); a.Status != http.StatusOK || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", a.Status, a.Header)
	}
	// Guesses end in a wait that is told.
	status := 0
	var last portaltest.Answer
	for range 40 {
		if last = guest.Do("POST", "/api/v1/join", obj{"number": m.Number, "passcode": "00000000", "name": "Greta"}); last.Status != http.StatusUnprocessableEntity {
			status = last.Status
			break
		}
	}
	if status != http.StatusTooManyRequests || last.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", status, last.Header)
	}
	// Keys are public; controllers read them.
	a = guest.Do("GET", "/.well-known/jwks.json", nil)
	if set, err := ticket.ParseSet(a.Body); err != nil || len(set) != 1 || !strings.Contains(a.Header.Get("Cache-Control"), "max-age=300") {
		t.Errorf("%v %v %s", set, a.Header, a.Body)
	}
	// Only the portal's operator replaces them.
	for _, who := range []*portaltest.Client{guest, c, p.Client(owner)} {
		if a := who.Do("POST", "/api/v1/operator/ticket-keys/replace", nil); a.Status != http.StatusForbidden && a.Status != http.StatusUnauthorized {
			t.Errorf("%d", a.Status)
		}
	}
	op := p.Client(p.Operator())
	op.JSON("POST", "/api/v1/operator/ticket-keys/replace", nil, nil)
	if page := op.Do("GET", "/operator/tickets", nil); page.Status != http.StatusOK || !bytes.Contains(page.Body, []byte("signs now")) {
		t.Errorf("%d %s", page.Status, page.Body)
	}
	if b := guest.Do("GET", "/.well-known/jwks.json", nil); bytes.Equal(a.Body, b.Body) {
		t.Error("the keys are the same")
	}
	// A token needs the scope, and starts nothing: that is a person's.
	prog := p.Stranger()
	prog.Token = tokenOf(t, p, host, "", "meetings:read")
	for method, want := range map[string]int{"GET": http.StatusOK, "DELETE": http.StatusForbidden} {
		if a := prog.Do(method, "/api/v1/meetings/"+m.ID, nil); a.Status != want {
			t.Errorf("%s: %d", method, a.Status)
		}
	}
	if a := prog.Do("POST", "/api/v1/meetings/"+m.ID+"/start", nil); a.Status != http.StatusForbidden {
		t.Errorf("%d", a.Status)
	}
	c.JSON("DELETE", "/api/v1/meetings/"+m.ID, nil, nil)
	if a := c.Do("GET", "/api/v1/meetings/"+m.ID, nil); a.Status != http.StatusNotFound {
		t.Errorf("%d", a.Status)
	}
}

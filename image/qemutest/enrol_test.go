package qemutest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/image/qemutest"
)

// cloudEnv is the portal's program, for the process in a network of its own.
const cloudEnv = "PARLEY_ENROL_PORTAL"

// publicName is what the portal and browsers know the appliance by.
const publicName = "meet.example.com"

// zoneState is what the web console says of the zone.
type zoneState struct {
	Phase, Zone, Portal, Reason, Text string
}

// zone waits for a phase.
func (c *visitor) zone(phase string) (z zoneState) {
	c.t.Helper()
	for end := time.Now().Add(2 * stepTime); ; time.Sleep(500 * time.Millisecond) {
		text := c.wants(http.MethodGet, "/api/v1/zone", "", http.StatusOK, "")
		z = zoneState{}
		if err := json.Unmarshal([]byte(text), &z); err != nil {
			c.t.Fatal(err)
		}
		if z.Phase == phase {
			return z
		}
		if time.Now().After(end) {
			c.t.Fatalf("the zone is %+v, want %s", z, phase)
		}
	}
}

// held is a meeting on the portal.
type held struct {
	ID, Link string
	Run      *struct {
		Started, Ended time.Time
		Peak           int
	}
}

// A booted appliance and a portal outside: it enrols with a token, is monitored, and
// holds a meeting that was started on the portal, by 1:1 NAT. The portal's death
// stops no meeting, and it hears what came meanwhile once it is back.
func TestEnrol(t *testing.T) {
	if program := os.Getenv(cloudEnv); program != "" {
		enrol(t, program)
		return
	}
	needOutside(t)
	ownNetwork(t, "^TestEnrol$", diskEnv+"="+realDisk(t), cloudEnv+"="+buildPortal(t))
}

func enrol(t *testing.T, program string) {
	outside(t)
	c := &cloud{t: t, program: program, dir: t.TempDir()}
	c.start()
	owner := c.owner()
	token := owner.token("Head office")

	v := boot(t, qemutest.Options{Disk: os.Getenv(diskEnv), Snapshot: true, MemoryMiB: 1024, Forwards: []string{
		"tcp:" + outsideOne + ":443-10.0.2.15:443",
		"udp:" + outsideOne + ":8801-10.0.2.15:8801",
	}})
	v.up()
	v.login()
	v.address()
	console := v.administrator()
	console.zone("standalone")
	saved := time.Now()
	console.wants(http.MethodPut, "/api/v1/connector", fmt.Sprintf(`{"token":%q,"zoneController":"","router":"","otherZoneController":"","publicName":"","external":[]}`, token), http.StatusOK, "")
	if z := console.zone("linked"); z.Zone != "Head office" || !strings.Contains(z.Portal, strings.TrimPrefix(cloudAt, "https://")) {
		t.Errorf("linked, and it says %+v", z)
	}
	t.Logf("linked %v after the token was saved", time.Since(saved).Round(time.Second))
	a := owner.monitored("its services", func(a appliance) bool { return a.ready() && a.Status.Limit > 0 })
	t.Logf("the Monitor: %+v", a)
	if a.Status.Limit != 200 || a.Status.HTTPS != 443 || !slices.Contains(a.Status.Addresses, "10.0.2.15") || !slices.Contains(a.Status.Media, 8801) || a.Host == "" || a.Version == "" {
		t.Errorf("the Monitor has %+v", a)
	}
	owner.does(http.MethodPut, "/api/v1/connector/appliances/"+a.Appliance, map[string]any{"publicName": publicName, "external": []string{outsideOne}}, nil)
	owner.monitored("the configuration in use", func(b appliance) bool { return b.Status.ConfigInUse > a.Status.ConfigInUse })

	there := chromedp.Flag("host-resolver-rules", "MAP "+publicName+" "+outsideOne)
	anna, boris := newGuest(t, "en", there), newGuest(t, "ru", there)
	var m held
	owner.does(http.MethodPost, "/api/v1/meetings/now", map[string]string{"topic": "Weekly call"}, &m)
	var joined struct {
		State, Ticket string
		Origins       []string
	}
	owner.does(http.MethodPost, "/api/v1/meetings/"+m.ID+"/start", nil, &joined)
	if want := "https://" + publicName; joined.State != "ready" || len(joined.Origins) != 1 || joined.Origins[0] != want {
		t.Fatalf("the host is sent to %v (%s), want %s", joined.Origins, joined.State, want)
	}
	anna.do(chromedp.Navigate(joined.Origins[0] + "/m#" + url.Values{"t": {joined.Ticket}}.Encode()))
	anna.prepared()
	anna.join()
	run := until(owner, "meeting.started", "/api/v1/meetings/"+m.ID, func(m held) bool { return m.Run != nil }).Run
	if !run.Ended.IsZero() || run.Started.IsZero() {
		t.Errorf("the portal was told %+v", run)
	}
	boris.do(chromedp.Navigate(m.Link), chromedp.SendKeys("#name", "Boris"), chromedp.Click("[data-join-form] button.primary"))
	boris.within(stepTime, `location.hostname === "`+publicName+`"`)
	boris.prepared()
	boris.do(chromedp.Click("[data-join]"))
	// The portal's meetings have a waiting room.
	anna.do(chromedp.Click(`.notes [data-key^="lobby-"] button`))
	boris.ready()
	anna.sees("Boris")
	boris.sees("Anna")
	anna.hears()
	boris.hears()
	// What Prometheus is told, and who is in the meeting.
	console.wants(http.MethodGet, "/api/v1/services/mmr/metrics", "", http.StatusOK, "\nparley_router_participants 2\n")
	console.wants(http.MethodGet, "/api/v1/services/zctrl/metrics", "", http.StatusOK, "\nparley_zctrl_pages 2\n")
	console.wants(http.MethodGet, "/api/v1/meetings", "", http.StatusOK, m.ID)
	owner.monitored("two people", func(a appliance) bool { return a.Status.Meetings == 1 && a.Status.Participants == 2 })

	c.process.Kill()
	z := console.zone("unlinked")
	t.Logf("without a portal: %+v", z)
	if z.Zone != "Head office" || z.Reason == "" {
		t.Errorf("without a portal it says %+v", z)
	}
	for _, b := range []*browser{anna, boris} {
		before := b.frames()
		b.within(stepTime, fmt.Sprintf(`[...document.querySelectorAll(".tile:not(.self) video")].reduce((n, v) => n + v.getVideoPlaybackQuality().totalVideoFrames, 0) > %d`, before+20))
	}
	anna.do(chromedp.Click(`.controls [data-do="chat"]`), chromedp.WaitVisible("#say"), chromedp.SendKeys("#say", "still there?\r"))
	boris.until(`document.querySelector("[data-unread]").textContent === "1"`)
	t.Logf("frames decoded: Anna %d, Boris %d; media at %s", anna.frames(), boris.frames(), outsideOne)
	boris.shot("without-a-portal")
	// The end is told when there is somebody to tell.
	for _, b := range []*browser{boris, anna} {
		b.do(chromedp.Click(`.controls [data-do="leave"]`))
		b.until(`!document.querySelector(".room")`)
	}

	c.start()
	console.zone("linked")
	run = until(owner, "meeting.ended", "/api/v1/meetings/"+m.ID, func(m held) bool { return m.Run != nil && !m.Run.Ended.IsZero() }).Run
	if run.Peak != 2 {
		t.Errorf("the portal was told %+v", run)
	}
	owner.monitored("nobody", func(a appliance) bool { return a.ready() && a.Status.Meetings == 0 && a.Status.Participants == 0 })
	v.off()
}

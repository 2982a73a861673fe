package qemutest_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/image/qemutest"
)

// hold is how long a change of the network waits for its confirmation.
const hold = 90 * time.Second

// answers waits until the web console at the forwarded address answers, or
// until it does not, and tells how long that took.
func (v *vm) answers(port func() string, want bool, limit time.Duration) time.Duration {
	v.t.Helper()
	began := time.Now()
	for {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		ctx, cancel := context.WithTimeout(v.t.Context(), 3*time.Second)
		req, err := http.NewRequestWithContext(ctx, "GET", port()+"healthz", nil)
		if err != nil {
			v.t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err == nil {
			resp.Body.Close()
		}
		cancel()
		tr.CloseIdleConnections()
		if (err == nil) == want {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			v.t.Fatalf("the console answers: %v after %v, want %v (%v)", err == nil, limit, want, err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// wrongAddress has the appliance take an address that nobody reaches it by.
func (b *browser) wrongAddress() {
	b.t.Helper()
	b.do(chromedp.WaitVisible(`form[data-api="PATCH /api/v1/network"]`))
	b.choose("eth0.mode", "static")
	b.fill("eth0.address", "192.0.2.50/24")
	b.fill("eth0.gateway", "192.0.2.1")
	b.send("PATCH /api/v1/network")
}

// A wrong address cuts the browser off; the appliance returns by itself to the
// one that it had. So it does after a power cut before that.
func TestTimedConfirm(t *testing.T) {
	disk := copyDisk(t)
	v := boot(t, qemutest.Options{Disk: disk})
	v.up()
	v.login()
	v.address()
	b := newBrowser(t, v.Machine, "en", "10.0.2.15")
	b.firstLogin("10.0.2.15", v.password, newPassword)
	v.loggedOut(newPassword)
	b.open("10.0.2.15", "/network/address")
	b.wrongAddress()
	lost := v.answers(v.URL, false, stepTime)
	v.until("ifconfig", `192\.0\.2\.50/24`)
	b.shot("lost")
	back := v.answers(v.URL, true, hold+stepTime)
	t.Logf("the appliance was lost after %v and back %v later", lost.Round(time.Second), back.Round(time.Second))
	if back < hold/2 {
		t.Errorf("the old address was back after %v, before anybody could confirm the new one", back)
	}
	v.until("ifconfig", `10\.0\.2\.15/24`)
	b.open("10.0.2.15", "/network") // says why
	b.do(chromedp.WaitVisible(".note.warn"))
	if text := b.value(`document.body.innerText`); !strings.Contains(text, "10.0.2.15") || strings.Contains(text, "192.0.2.50") {
		t.Errorf("the page after the return:\n%s", text)
	}
	b.shot("returned")

	b.open("10.0.2.15", "/network/address")
	b.wrongAddress()
	v.until("ifconfig", `192\.0\.2\.50/24`)
	v.Kill()
	v = boot(t, qemutest.Options{Disk: disk})
	v.password = newPassword
	v.ready()
	v.expect(`login: `, stepTime)
	v.login()
	v.address()
	if out := v.command("ifconfig"); strings.Contains(out, "192.0.2.50") {
		t.Errorf("the unconfirmed address outlives a power cut:\n%s", out)
	}
	v.answers(v.URL, true, stepTime)
	b = newBrowser(t, v.Machine, "en", "10.0.2.15")
	b.login("10.0.2.15", newPassword)
	b.open("10.0.2.15", "/network")
	b.until(`document.querySelector(".note.warn")?.textContent.includes("restarted")`)
	b.shot("after-power-cut")
	b.open("10.0.2.15", "/network/address")
	if mode := b.value(`document.querySelector('[name="eth0.mode"]:checked, select[name="eth0.mode"]').value`); mode != "dhcp" {
		t.Errorf("eth0 is set to %q after the power cut, want dhcp", mode)
	}
	v.off()
}

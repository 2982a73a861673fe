package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/edge"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// The figures that an alarm is made of, of a portal with two appliances, one of
// them silent; and what strangers send makes no new ones.
func TestFigures(t *testing.T) {
	p := portaltest.New(t)
	m := newMetrics(p.DB, slog.New(slog.DiscardHandler))
	h := m.watch(edge.Bodies(p.All), false)
	scrape := func() string {
		w := httptest.NewRecorder()
		m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	ask := func(method, path string, header ...string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, p.Server.URL+path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		h.ServeHTTP(w, r)
		return w
	}
	has := func(lines ...string) {
		t.Helper()
		text := scrape()
		for _, want := range lines {
			if !strings.Contains(text, "\nparley_portal_"+want+"\n") {
				t.Errorf("no %s in\n%s", want, text)
			}
		}
	}

	_, owner := p.Account("Acme", people.Business)
	who := people.Actor{User: owner.ID, Account: owner.Account, Name: owner.Name, Role: people.Owner}
	if err := p.All.Zones.Enable(t.Context(), who, "Office"); err != nil {
		t.Fatal(err)
	}
	c, err := p.All.Zones.Get(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.All.Zones.AddToken(t.Context(), who, zones.TokenInput{Zone: c.Zones[0].ID, Title: "first"})
	if err != nil {
		t.Fatal(err)
	}
	has("appliances 0", "appliances_linked 0", "appliances_silent 0", `alerts_open{code="silent"} 0`, `downloads_total{how="part"} 0`, `requests_refused_total{reason="throttled"} 0`)
	p.Appliance(token.Secret, "controller-1", link.Controller).Linked()
	two := p.Appliance(token.Secret, "router-1", link.Router)
	two.Linked()
	portaltest.Wait(t, "both", func() bool { return strings.Contains(scrape(), "\nparley_portal_appliances_linked 2\n") })
	two.Stop()
	if err := p.DB.Write(t.Context(), func(tx *store.Tx) error { // as 12 seconds do
		_, err := tx.Exec("UPDATE appliance_live SET contact = 1 WHERE role = ?", "router")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	portaltest.Wait(t, "the alert", func() bool { return strings.Contains(scrape(), `alerts_open{code="silent"} 1`) })
	has("appliances 2", "appliances_linked 1", "appliances_silent 1")

	dir := p.Output("1.4.0")
	p.Import(dir, "1.4.0", false)
	const disk = "parley-router.vmdk"
	grant, _, err := p.All.Releases.Grant(t.Context(), who, "1.4.0", disk, 1)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, disk))
	if err != nil {
		t.Fatal(err)
	}
	path := "/download/by/" + grant + "/1.4.0/" + disk
	if w := ask("GET", path); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	ask("GET", path, "Range", "bytes=10-19")
	ask("HEAD", path)
	has(`downloads_total{how="whole"} 1`, `downloads_total{how="part"} 1`, fmt.Sprintf("download_bytes_total %d", info.Size()+10))
	ask("GET", "/api/v1/account")
	has(`requests_refused_total{reason="sign-in"} 1`)

	// Each kind of request was there once; whatever else it says adds no series.
	methods := []string{"GET", "POST", "BREW", "x-1"}
	flood := func(from, to int) {
		for i := from; i < to; i++ {
			for _, method := range methods {
				ask(method, fmt.Sprintf("/%d/wp-login.php?%d", i, i), "Accept-Language", fmt.Sprint("x", i))
				ask(method, fmt.Sprintf("/api/v1/%d", i))
				ask(method, fmt.Sprintf("/download/by/%d/%d/%d", i, i, i))
				ask(method, fmt.Sprintf("/api/v1/connector/zones/%d", i), "Authorization", fmt.Sprint("Bearer ", i))
			}
		}
	}
	series := func() int { return strings.Count(scrape(), "\nparley_portal_") }
	flood(0, 2)
	before := series()
	flood(2, 60)
	if after := series(); after != before {
		t.Errorf("%d series became %d", before, after)
	}
}

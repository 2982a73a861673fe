package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// A token has scopes, and pages have none: whoever holds a token for meetings
// reads no page with it, not the stream of one, and no file to download.
func TestTokenReadsNoPages(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Enterprise)
	var made struct{ Secret string }
	p.Client(owner).JSON("POST", "/api/v1/profile/tokens", map[string]any{"title": "t", "scopes": []string{"meetings:read"}}, &made)
	c := p.Stranger()
	c.Token = made.Secret
	c.JSON("GET", "/api/v1/meetings", nil, nil)
	for _, q := range p.All.Web.Pages() {
		a := c.Do("GET", strings.TrimSuffix(q.Path, "{$}"), nil)
		if a.Status != http.StatusForbidden && a.Status != http.StatusNotFound {
			t.Errorf("GET %s: status %d", q.Path, a.Status)
		}
		if strings.Contains(string(a.Body), owner.Name) || strings.Contains(string(a.Body), owner.Email) {
			t.Errorf("GET %s tells who the token's person is", q.Path)
		}
	}
	if a := c.Do("GET", "/connector/monitor/events", nil); !strings.HasPrefix(string(a.Body), "event: end") {
		t.Errorf("the stream: %d %s", a.Status, a.Body)
	}
	if a := c.Do("GET", "/download/1.2.3/parley-router.ovf", nil); a.Status != http.StatusForbidden {
		t.Errorf("a download: %d %s", a.Status, a.Body)
	}
}

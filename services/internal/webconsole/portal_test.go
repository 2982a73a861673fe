package webconsole

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
)

// A portal is in no zone: its console has no connector to configure and no other
// role, and says that nothing is missing.
func TestPortal(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	for _, portal := range []bool{false, true} {
		role := map[bool]string{false: "controller", true: "portal"}[portal]
		r.server.Change(func(s *control.Status) { s.Role = role })
		time.Sleep(fresh)
		for path, text := range map[string]string{"/": `href="/configure"`, "/system": `PUT /api/v1/system/role`} {
			a := b.get(path)
			if a.status != http.StatusOK || strings.Contains(a.body, text) == portal {
				t.Errorf("%s: %s: %d, has %q: %v", role, path, a.status, text, !portal)
			}
		}
		want := map[bool]int{false: http.StatusOK, true: http.StatusNotFound}[portal]
		if a := b.get("/configure"); a.status != want {
			t.Errorf("%s: /configure: %d, want %d", role, a.status, want)
		}
	}
	if body := b.get("/").body; !strings.Contains(body, "portal") || strings.Contains(body, "token") {
		t.Errorf("the portal's overview misses a token, or does not say what it is:\n%s", body)
	}
}

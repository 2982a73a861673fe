package link_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// The example does what it says: it enrols, is linked, is told and tells; comes
// back without a token; and when its time is over it says so, and comes back
// with one.
func TestExample(t *testing.T) {
	r := newRig(t, "", 1)
	path := filepath.Join(t.TempDir(), "credentials.json")
	start := func(token string, enrol bool) (*controller, func()) {
		t.Helper()
		c := &controller{path: path, host: "controller-1", roots: r.p.Roots(), log: slog.New(slog.NewTextHandler(t.Output(), nil))}
		if err := c.open(t.Context(), token, enrol); err != nil {
			t.Fatal(err)
		}
		c.client.Hurry(r.now)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- c.run(ctx) }()
		stop := func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		return c, stop
	}
	none := &controller{path: path, host: "controller-1"}
	if err := none.open(t.Context(), "", false); err == nil || !strings.Contains(err.Error(), "enter a token") {
		t.Errorf("%v", err)
	}
	for _, token := range []string{r.token, ""} { // the second time it knows who it is
		c, stop := start(token, false)
		portaltest.Wait(t, "the event", func() bool { waiting, _ := c.client.Waiting(); return waiting == 0 && c.problem() == "" })
		portaltest.Wait(t, "the configuration", func() bool { return c.status().ConfigInUse > 0 })
		stop()
	}
	r.pass(30 * 24 * time.Hour)
	c, stop := start("", false)
	portaltest.Wait(t, "what to do", func() bool { return strings.HasPrefix(c.problem(), "enter a new token: ") })
	stop()
	r.newToken()
	c, stop = start(r.token, true)
	portaltest.Wait(t, "the link", func() bool { return c.problem() == "" })
	stop()
	// A damaged file is as none.
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := none.open(t.Context(), "", false); err == nil || !strings.Contains(err.Error(), "enter a token") || !strings.Contains(err.Error(), "torn") {
		t.Errorf("%v", err)
	}
}

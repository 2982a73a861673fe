package load_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/ticket"
	"github.com/parley-meet/parley/services/internal/zonetest"
)

func TestMain(m *testing.M) {
	zonetest.Main()
	os.Exit(m.Run())
}

// A crowd comes in by a controller as pages do, and gets pictures and sound from the
// zone's router.
func TestController(t *testing.T) {
	z := zonetest.New(t, 1, 1)
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	t.Cleanup(client.CloseIdleConnections)
	c := crowd(load.Door{URL: z.Controllers[0].Origin(), HTTP: client, Ticket: func(_ context.Context, n int) (string, error) {
		return z.Ticket("m1", fmt.Sprint("load", n), ticket.Host), nil
	}}, 2)
	defer c.Close()
	if err := c.Grow(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	const patience = 30 * time.Second
	for end := time.Now().Add(patience); ; {
		r, err := c.Measure(t.Context(), time.Second, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		// Everybody: a big picture, a small one of the other camera, and three voices.
		if r.Share > 0.5 && r.Opened > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", r)
		}
	}
	c.Shrink(t.Context(), 1)
	if c.Len() != 1 {
		t.Errorf("%d are left", c.Len())
	}
}

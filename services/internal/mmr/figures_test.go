package mmr

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/parley-meet/parley/services/internal/hall"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// overSocket is a client of a unix socket.
func overSocket(t *testing.T, path string) *http.Client {
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// figures reads what a router tells on its socket.
func figures(t *testing.T, m *machine, path string) string {
	t.Helper()
	a, err := overSocket(t, m.a.cfg.Figures).Get("http://router" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != http.StatusOK {
		t.Fatal(a.Status, err)
	}
	return string(b)
}

// Metrics are as Prometheus wants them, and none of them has a meeting's name;
// meetings are told in JSON, without names of people.
func TestMetrics(t *testing.T) {
	o := newOffice(t, 1)
	m, _ := o.router(0)
	anna := o.join("m1-secret", "anna", ticket.Host)
	anna.send(&signal.Stats{RTT: 12})
	text := figures(t, m, "/metrics")
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "parley_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if strings.Contains(text, "m1-secret") {
		t.Error("a meeting's id is among the metrics")
	}
	for _, name := range []string{"parley_router_packet_loss_ratio_bucket", "parley_router_round_trip_seconds_bucket", "parley_router_udp_sent_packets_total"} {
		if !strings.Contains(text, name) {
			t.Errorf("no %s", name)
		}
	}
	var got struct{ Meetings []hall.Meeting }
	text = figures(t, m, "/meetings")
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Meetings) != 1 || got.Meetings[0].ID != "m1-secret" || got.Meetings[0].Inside != 1 || len(got.Meetings[0].People) != 1 {
		t.Errorf("%s", text)
	}
	if strings.Contains(text, "anna") {
		t.Error("figures name people")
	}
}

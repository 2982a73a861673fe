package mmr

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/parley-meet/parley/services/internal/carrier"
	"github.com/parley-meet/parley/services/internal/hall"
	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
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

// Each connected participant is one observation of losses and round trip each time,
// of what is new since the last.
func TestSamples(t *testing.T) {
	m := newMetrics(sources{
		load: func() hall.Load { return hall.Load{} }, media: func() room.Totals { return room.Totals{} }, wire: func() wire.Totals { return wire.Totals{} },
		turn: func() int { return 0 }, carried: func() carrier.Counts { return carrier.Counts{} }, cpu: func() float64 { return 0 },
	})
	sample := func(state string, rtt time.Duration, expected, lost uint64) {
		m.sample([]hall.Meeting{{Run: "r", People: []hall.Participant{{ID: 1, Media: room.Figures{State: state, Way: "udp", RTT: rtt,
			Down: room.Losses{Expected: expected, Lost: lost}, Up: room.Losses{Expected: 10 * expected}}}}}})
	}
	sample("connected", 40*time.Millisecond, 1000, 500) // before anybody looked: no interval
	sample("connected", 40*time.Millisecond, 2000, 520) // 2 %
	sample("connected", 0, 2010, 530)                   // too few to tell
	sample("disconnected", 40*time.Millisecond, 4000, 2000)
	sample("connected", 2*time.Second, 100, 10) // another connection
	list, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range list {
		for _, x := range f.GetMetric() {
			if h := x.GetHistogram(); h != nil && len(x.GetLabel()) == 1 {
				got[f.GetName()+" "+x.GetLabel()[0].GetValue()] = fmt.Sprintf("%d %.3f", h.GetSampleCount(), h.GetSampleSum())
			}
		}
	}
	for name, want := range map[string]string{
		"parley_router_packet_loss_ratio down":  "1 0.020",
		"parley_router_packet_loss_ratio up":    "2 0.000", // 10000, and 100 more
		"parley_router_round_trip_seconds udp":  "3 2.080",
		"parley_router_round_trip_seconds tcp":  "0 0.000",
		"parley_router_round_trip_seconds turn": "0 0.000",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

// The router's own 443 shows whatever certificate there is at the moment.
func TestOwnHTTPS(t *testing.T) {
	o := newOffice(t, 1)
	other, err := tls.X509KeyPair([]byte(o.machines[0].Certificate), []byte(o.machines[0].Key))
	if err != nil {
		t.Fatal(err)
	}
	m, _ := o.router(0)
	for _, want := range []tls.Certificate{o.cert, other} {
		o.show(want)
		var shown []byte
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
			shown = s.PeerCertificates[0].Raw
			return nil
		}}}}
		a, err := c.Get("https://" + netip.AddrPortFrom(m.addrs[0], m.web).String() + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		c.CloseIdleConnections()
		if a.StatusCode != http.StatusOK || !bytes.Equal(shown, want.Certificate[0]) {
			t.Errorf("%s, another certificate than the one of now", a.Status)
		}
	}
}

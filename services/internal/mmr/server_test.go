package mmr

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/load"
)

// start runs a router as command trial does.
func start(t *testing.T) *load.Parley {
	t.Helper()
	target, _ := startAt(t, labtest.FreePort(t, "udp"), labtest.FreePort(t, "tcp"), func(f func() error) error { return f() })
	return target
}

// startAt runs one at addresses that exist where do runs its function.
func startAt(t *testing.T, media, https netip.AddrPort, do func(func() error) error) (*load.Parley, *Server) {
	t.Helper()
	dir := t.TempDir()
	if err := load.Trial(dir, https.Addr().String()); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	want := Config{
		Media: []netip.AddrPort{media}, HTTPS: https,
		Certificate: at("cert.pem"), Key: at("key.pem"), Keys: at("keys.json"),
		Zone: "zone", Issuer: "https://portal.example", Limit: 8,
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("router.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Read(at("router.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s *Server
	if err := do(func() (err error) {
		s, err = New(cfg, slog.New(slog.DiscardHandler))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	key, err := load.ReadKey(at("tickets.pem"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := load.NewClient(at("cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return &load.Parley{
		Base: "https://" + cfg.HTTPS.String(), HTTP: client,
		Key:    key,
		Issuer: cfg.Issuer, Zone: cfg.Zone, Meeting: "m",
	}, s
}

// Somebody publishes by WHIP, and others play by WHEP: all of it comes.
func TestFanout(t *testing.T) {
	target := start(t)
	f := load.Fanout{
		Target: target, Local: netip.MustParseAddr("127.0.0.1"), Subscribers: 4, FullEvery: 2,
		Video: load.Video{Frames: 20, Packets: 4, Size: 800, Width: 640, Height: 360},
		Warm:  3 * time.Second, Measure: 2 * time.Second, PID: os.Getpid(),
		Log: slog.New(slog.DiscardHandler), Progress: func(int, int, string) {},
	}
	r, err := f.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// 80 packets of video and 50 of sound each second for four, on whatever machine.
	if r.Packets < 200 || r.Loss > 0.01 || r.Opened == 0 || r.Feedback == 0 {
		t.Errorf("%+v", r)
	}
}

// What is asked wrongly is told, in HTTP's own words.
func TestRefusals(t *testing.T) {
	target := start(t)
	good, err := target.Ticket(1)
	if err != nil {
		t.Fatal(err)
	}
	other := *target
	other.Zone = "another"
	foreign, err := other.Ticket(1)
	if err != nil {
		t.Fatal(err)
	}
	do := func(method, path, kind, token, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, target.Base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		a, err := target.HTTP.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		b := make([]byte, 4096)
		n, _ := a.Body.Read(b)
		return a.StatusCode, string(b[:n])
	}
	const sdp = "application/sdp"
	for _, test := range []struct {
		method, path, kind, token, body string
		status                          int
		want                            string
	}{
		{"POST", "/whip", sdp, "", "v=0", 401, "ticket"},
		{"POST", "/whip", sdp, "junk", "v=0", 401, "not good"},
		{"POST", "/whip", sdp, foreign, "v=0", 401, "zone"},
		{"POST", "/whip", "text/plain", good, "v=0", 415, sdp},
		{"POST", "/whip", sdp, good, strings.Repeat("x", 300<<10), 413, "too long"},
		{"POST", "/whip", sdp, good, "v=0\r\n", 400, "no m-line"},
		{"POST", "/whep", sdp, good, "v=0\r\n", 401, "used before"},
		{"PATCH", "/whip/none", "application/trickle-ice-sdpfrag", "", "", 404, "ended"},
		{"DELETE", "/whip/none", "", "", "", 404, "ended"},
		{"GET", "/whip", "", "", "", 405, "POST an offer"},
		{"GET", "/whip/none", "", "", "", 405, "not for a session"},
		{"OPTIONS", "/whep", "", "", "", 204, ""},
		{"GET", "/nothing", "", "", "", 404, ""},
	} {
		if status, text := do(test.method, test.path, test.kind, test.token, test.body); status != test.status || !strings.Contains(text, test.want) {
			t.Errorf("%s %s: %d %q, want %d with %q", test.method, test.path, status, text, test.status, test.want)
		}
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.json")
	good := `"media":["127.0.0.1:8801"],"https":"127.0.0.1:443","certificate":"c","key":"k","zone":"z","issuer":"i","keys":"j"`
	for text, want := range map[string]string{
		`{` + good + `}`: "",
		`{`:              "unexpected EOF",
		`{"medea":[]}`:   `unknown field "medea"`,
		`{}`:             "media: at least one",
		`{` + good + `,"media":["0.0.0.0:8801"]}`:      "no address of the machine",
		`{` + good + `,"external":["192.0.2.1:8801"]}`: "external: 2 addresses",
		`{` + good + `,"limit":-1}`:                    "limit: 0 to",
		`{` + good + `,"debug":"192.0.2.1:1"}`:         "debug: an address of the loopback",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Read(file)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

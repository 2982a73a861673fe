package webconsole

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// Figures of the services come with the API, for whoever has logged in, and say
// where they are not to be had.
func TestFigures(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	l, err := net.Listen("unix", filepath.Join(r.dir, "mmr"))
	if err != nil {
		t.Fatal(err)
	}
	m := http.NewServeMux()
	m.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "parley_participants 3\n") })
	m.HandleFunc("GET /meetings", func(w http.ResponseWriter, _ *http.Request) {
		io.Copy(w, io.LimitReader(endless{}, maxFigures+1))
	})
	h := &http.Server{Handler: m}
	go h.Serve(l)
	t.Cleanup(func() { h.Close() })
	if a := r.browser().get("/api/v1/services/mmr/metrics"); a.status != http.StatusUnauthorized || strings.Contains(a.body, "parley_") {
		t.Errorf("without a login: %d %s", a.status, a.body)
	}
	b := r.loggedIn()
	if a := b.get("/api/v1/services/mmr/metrics"); a.status != http.StatusOK || a.body != "parley_participants 3\n" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("%d %q %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	for path, want := range map[string]int{
		"/api/v1/services/zctrl/metrics":  http.StatusBadGateway, // nobody is there
		"/api/v1/services/nobody/metrics": http.StatusNotFound,
		"/api/v1/meetings":                http.StatusBadGateway, // it is too long
	} {
		if a := b.get(path); a.status != want {
			t.Errorf("%s: %d, want %d: %.200s", path, a.status, want, a.body)
		}
	}
}

// endless reads as blanks.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

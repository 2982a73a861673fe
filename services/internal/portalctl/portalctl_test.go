package portalctl

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// start serves in a folder of its own, and returns the socket and the log.
func start(t *testing.T, reader uint32, a Answer) (string, *bytes.Buffer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "setup.sock")
	// A process that was killed leaves its socket.
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	log := new(bytes.Buffer) // read after the end
	go func() {
		done <- Serve(ctx, path, []uint32{reader + 7, reader}, func(_ context.Context, req Request) Answer { a.Problem = Problem(req.Email); return a }, slog.New(slog.NewTextHandler(log, nil)))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if strings.Contains(log.String(), "secret") {
			t.Errorf("the log has the link:\n%s", log)
		}
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if i, err := os.Stat(path); err == nil && i.Mode() == os.ModeSocket|0o660 {
			return path, log
		}
		if time.Now().After(end) {
			t.Fatal("there is no socket of mode 0660")
		}
	}
}

func TestAsk(t *testing.T) {
	want := Answer{URL: "https://192.0.2.1", Link: "https://192.0.2.1/setup#secret"}
	path, _ := start(t, uint32(os.Getuid()), want)
	for range 3 {
		if got, err := Ask(t.Context(), path, Request{Op: OpShow}); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// Another user learns nothing, though he may connect.
func TestOther(t *testing.T) {
	path, _ := start(t, uint32(os.Getuid())+1, Answer{Link: "https://192.0.2.1/setup#secret"})
	if got, err := Ask(t.Context(), path, Request{Op: OpShow}); err == nil || got != (Answer{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestError(t *testing.T) {
	path, _ := start(t, uint32(os.Getuid()), Answer{Error: "it waits for an address"})
	if got, err := Ask(t.Context(), path, Request{Op: OpShow}); err == nil || !strings.Contains(err.Error(), "waits for an address") || got != (Answer{}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Ask(t.Context(), path+"-none", Request{Op: OpShow}); err == nil {
		t.Error("nobody answered")
	}
}

func TestRequest(t *testing.T) {
	path, _ := start(t, uint32(os.Getuid()), Answer{URL: "https://192.0.2.1"})
	key := strings.Repeat("secret\n", 10000)
	for _, req := range []Request{{Op: OpSelf}, {Op: OpACME, Email: "olga@example.com"}, {Op: OpFiles, PEM: key}} {
		if got, err := Ask(t.Context(), path, req); err != nil || got.Problem != Problem(req.Email) {
			t.Errorf("%s: %+v, %v", req.Op, got, err)
		}
	}
	for _, req := range []Request{{Op: "secret"}, {}, {Op: OpFiles, PEM: strings.Repeat(key, 3)}} {
		if got, err := Ask(t.Context(), path, req); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.20s: %+v, %v", req.Op, got, err)
		}
	}

}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"op":"acme","email":"a@example.com"}`))
	f.Add([]byte(`{"op":"files","pem":"secret"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil && (r != (Request{}) || bytes.Contains(b, []byte("secret")) && strings.Contains(err.Error(), "secret")) {
			t.Errorf("%+v with %v", r, err)
		}
	})
}

package look

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPlace(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /users/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /api/x", func(http.ResponseWriter, *http.Request) {})
	for to, want := range map[string]string{
		"/users/1": "/users/1", "/users/a%2Fb": "/", "/users/1?x=y#z": "/users/1",
		"/api/x": "/", "/none": "/", "": "/", "users/1": "/", "//evil.example/users/1": "/", "https://evil.example/users/1": "/",
		"/\\evil.example": "/", "/users/1\r\nX: y": "/", "javascript:alert(1)": "/", "%": "/",
	} {
		if got := Place(mux, to, func(pattern string) bool { return strings.HasPrefix(pattern, "GET /users/") }); got != want {
			t.Errorf("%q: %q, want %q", to, got, want)
		}
	}
}

func TestRecovered(t *testing.T) {
	var log strings.Builder
	h := Recovered(slog.New(slog.NewTextHandler(&log, nil)), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("x") }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/"+strings.Repeat("a", 500), nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(log.String(), "panic=x") || strings.Contains(log.String(), strings.Repeat("a", 200)) {
		t.Errorf("%d %s", w.Code, log.String())
	}
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("an aborted answer is not passed on")
		}
	}()
	Recovered(slog.New(slog.DiscardHandler), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
}

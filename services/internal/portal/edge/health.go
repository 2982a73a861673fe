package edge

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/store"
)

// healthLimit is how long the database may take for a check.
const healthLimit = 2 * time.Second

// Health adds GET /healthz, which answers as long as the process does, and GET
// /readyz, which is 503 while the database does not answer: the first is for
// whoever restarts an instance, the second for whoever sends it requests.
func Health(mux *http.ServeMux, db *store.DB, log *slog.Logger) {
	answer := func(w http.ResponseWriter, status int, text string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text + "\n"))
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), healthLimit)
		defer cancel()
		if err := db.Ping(ctx); err != nil {
			log.Warn("not ready", "error", err)
			answer(w, http.StatusServiceUnavailable, "the database does not answer")
			return
		}
		answer(w, http.StatusOK, "ok")
	})
}

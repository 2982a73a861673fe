package mmr

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/pprof"
	"strconv"
	"time"

	"github.com/parley-meet/parley/services/internal/hall"
	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Server is a router that stands alone: for trials and benchmarks. It has fixed
// addresses, its pages' WebSockets and the keys of one issuer.
type Server struct {
	*core
	cfg Config
	tcp net.Listener
}

// New opens the sockets.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	cert, keys, err := cfg.files()
	if err != nil {
		return nil, err
	}
	mux := wire.NewMux(log)
	fail := func(err error) (*Server, error) {
		return nil, errors.Join(err, mux.Close())
	}
	for _, a := range cfg.Media {
		if _, err := mux.Listen(a); err != nil {
			return fail(err)
		}
	}
	s := &Server{cfg: cfg}
	if s.tcp, err = listen(cfg.HTTPS); err != nil {
		return fail(err)
	}
	var own []netip.Addr
	for _, c := range cfg.candidates() {
		own = append(own, c.Addr)
	}
	s.core, err = newCore(mux, hall.Config{
		Zone:  cfg.Zone,
		Limit: cfg.Limit,
		Trust: func() (string, ticket.Set) { return cfg.Issuer, keys },
	}, setup{
		Candidates:  cfg.candidates,
		Router:      own,
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Relay:       cfg.relay,
	}, log)
	if err != nil {
		return fail(errors.Join(err, s.tcp.Close()))
	}
	return s, nil
}

// relay is how clients reach TURN.
func (c *Config) relay(user, password string) *signal.Relay {
	at := c.web()
	host := c.Name
	if host == "" {
		host = at.Addr().String()
	}
	return turns(host, at.Port(), user, password)
}

// turns is a TURN server as pages want it.
func turns(host string, port uint16, user, password string) *signal.Relay {
	return &signal.Relay{
		URLs:     []string{"turns:" + net.JoinHostPort(host, strconv.Itoa(int(port))) + "?transport=tcp"},
		Username: user, Credential: password,
	}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	s.work.Go(func() { s.accept(s.tcp) })
	if s.cfg.Debug != "" {
		s.work.Go(func() { s.debug(ctx) })
	}
	s.log.Info("router runs", "media", s.cfg.Media, "https", s.cfg.HTTPS)
	<-ctx.Done()
	s.tcp.Close()
	return errors.Join(s.end(signal.Stopping), s.mux.Close())
}

// Figures are what GET /stats of the debug port tells: counters since the start.
type Figures struct {
	Wire       wire.Totals `json:"wire"`
	Media      room.Totals `json:"media"`
	Goroutines int         `json:"goroutines"`
	Heap       uint64      `json:"heap"` // bytes that are in use
}

func (s *Server) figures() Figures {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Figures{Wire: s.mux.Totals(), Media: s.hall.Totals(), Goroutines: runtime.NumGoroutine(), Heap: m.HeapAlloc}
}

// debug serves figures on the loopback, GET /stats, and a profile of the CPU, GET
// /profile, that takes profileTime, and one of the memory, GET /heap.
func (s *Server) debug(ctx context.Context) {
	m := http.NewServeMux()
	m.HandleFunc("GET /profile", func(w http.ResponseWriter, r *http.Request) {
		if err := pprof.StartCPUProfile(w); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		defer pprof.StopCPUProfile()
		select {
		case <-r.Context().Done():
		case <-time.After(profileTime):
		}
	})
	m.HandleFunc("GET /heap", func(w http.ResponseWriter, _ *http.Request) {
		runtime.GC() // what is used, and not what was
		if err := pprof.Lookup("heap").WriteTo(w, 0); err != nil {
			s.log.Debug("heap", "error", err)
		}
	})
	m.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(s.figures()); err != nil {
			s.log.Debug("stats", "error", err)
		}
	})
	h := &http.Server{Addr: s.cfg.Debug, Handler: m, ReadHeaderTimeout: headerTime}
	stop := context.AfterFunc(ctx, func() { h.Close() })
	defer stop()
	if err := h.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		s.log.Warn("debug", "error", err)
	}
}

// profileTime is how long a profile takes.
const profileTime = 10 * time.Second

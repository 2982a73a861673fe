package server

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parley-meet/parley/services/internal/portal/edge"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/throttle"
)

// metrics are the portal's figures for Prometheus.
type metrics struct {
	db       *store.DB
	log      *slog.Logger
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	open     prometheus.Gauge
	refused  *prometheus.CounterVec
	loads    *prometheus.CounterVec
	loaded   prometheus.Counter
}

// refusals are the statuses with which a request is turned away, and what they
// are called; what people mistype is none.
var refusals = map[int]string{
	http.StatusUnauthorized: "sign-in", http.StatusForbidden: "not allowed",
	http.StatusRequestEntityTooLarge: "too large", http.StatusTooManyRequests: "throttled",
}

// downloads are how a file's bytes are sent, by status.
var downloads = map[int]string{http.StatusOK: "whole", http.StatusPartialContent: "part", http.StatusFound: "object storage"}

func newMetrics(db *store.DB, log *slog.Logger) *metrics {
	m := &metrics{db: db, log: log, registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_portal_requests_total", Help: "Requests that were answered, by endpoint and status."}, []string{"endpoint", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "parley_portal_request_seconds", Help: "Time to the end of an answer; streams last as long as they are open.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30}}, []string{"endpoint"}),
		open:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "parley_portal_requests_open", Help: "Requests that are being answered."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_portal_requests_refused_total", Help: "Requests that were turned away, by reason."}, []string{"reason"}),
		loads:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_portal_downloads_total", Help: "Downloads of release files that have ended, by how: a program that goes on where it broke off takes parts."}, []string{"how"}),
		loaded:  prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_portal_download_bytes_total", Help: "Bytes of release files that this instance has sent."}),
	}
	for _, reason := range refusals { // there from the start, so that a rise is seen
		m.refused.WithLabelValues(reason)
	}
	for _, how := range downloads {
		m.loads.WithLabelValues(how)
	}
	stat := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	m.registry.MustRegister(m.requests, m.seconds, m.open, m.refused, m.loads, m.loaded, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		stat("parley_portal_database_connections", "Connections that write; of PostgreSQL all.", func() float64 { return float64(db.Stats().OpenConnections) }),
		stat("parley_portal_database_busy", "Of these, those at work.", func() float64 { return float64(db.Stats().InUse) }),
		stat("parley_portal_database_wait_seconds", "Time that transactions have waited for a connection.", func() float64 { return db.Stats().WaitDuration.Seconds() }),
		&counts{m},
	)
	return m
}

// gauge adds a figure of this instance alone.
func (m *metrics) gauge(name, help string, f func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_portal_" + name, Help: help}, f))
}

// connections adds what a listener's bounds turned away.
func (m *metrics) connections(l *throttle.Limit) {
	m.gauge("connections", "Connections to the listener.", func() float64 { return float64(l.Len()) })
	for i, bound := range []string{"all", "peer"} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "parley_portal_connections_refused_total",
			Help:        "Connections that were closed at once, by the bound: of all, or of one peer.",
			ConstLabels: prometheus.Labels{"bound": bound}}, func() float64 { return float64(l.Refused()[i]) }))
	}
}

// watch counts requests by the pattern that served them, of which there are few.
// With log set each is a line, without its query and whatever else may be secret.
func (m *metrics) watch(next http.Handler, log bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		a := &answer{ResponseWriter: w}
		m.open.Inc()
		defer func() {
			m.open.Dec()
			endpoint := r.Pattern
			if endpoint == "" {
				endpoint = "none"
			}
			took := time.Since(begin)
			status := max(a.status, http.StatusOK)
			m.requests.WithLabelValues(endpoint, strconv.Itoa(status)).Inc()
			m.seconds.WithLabelValues(endpoint).Observe(took.Seconds())
			if reason, ok := refusals[status]; ok {
				m.refused.WithLabelValues(reason).Inc()
			}
			if how, ok := downloads[status]; ok && r.Method == http.MethodGet && strings.HasPrefix(endpoint, "GET /download/") {
				m.loads.WithLabelValues(how).Inc()
				if status != http.StatusFound {
					m.loaded.Add(float64(a.sent))
				}
			}
			if log {
				m.log.Info("request", "endpoint", endpoint, "method", fmt.Sprintf("%.10q", r.Method), "status", status, "from", r.RemoteAddr, "took", took.Round(time.Microsecond))
			}
		}()
		next.ServeHTTP(a, r)
	})
}

// answer remembers the status and how much was sent.
type answer struct {
	http.ResponseWriter
	status int
	sent   int64 // bytes of the body
}

func (a *answer) Write(b []byte) (int, error) {
	n, err := a.ResponseWriter.Write(b)
	a.sent += int64(n)
	return n, err
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 || status == http.StatusSwitchingProtocols {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// ReadFrom keeps the server's own way of copying files.
func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(a.ResponseWriter, r)
	a.sent += n
	return n, err
}

// Flush is for handlers that ask for an http.Flusher.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// handler serves figures and health.
func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	edge.Health(mux, m.db, m.log)
	return mux
}

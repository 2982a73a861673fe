package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parley-meet/parley/services/internal/portal/edge"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// metrics are the portal's figures for Prometheus.
type metrics struct {
	db       *store.DB
	log      *slog.Logger
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	open     prometheus.Gauge
}

// scrapeLimit is how long the database may take for figures.
const scrapeLimit = 2 * time.Second

func newMetrics(db *store.DB, log *slog.Logger) *metrics {
	m := &metrics{db: db, log: log, registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_portal_requests_total", Help: "Requests that were answered, by endpoint and status."}, []string{"endpoint", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "parley_portal_request_seconds", Help: "Time to the end of an answer; streams last as long as they are open.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30}}, []string{"endpoint"}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "parley_portal_requests_open", Help: "Requests that are being answered."}),
	}
	stat := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	m.registry.MustRegister(m.requests, m.seconds, m.open, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
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

// counts are figures that the database has; all instances tell the same.
type counts struct{ m *metrics }

var countQueries = []struct {
	desc  *prometheus.Desc
	query string
}{
	{prometheus.NewDesc("parley_portal_mails_waiting", "Mails in the outbox that were not sent.", nil, nil), "SELECT COUNT(*) FROM mails WHERE sent = 0 AND message IS NOT NULL"},
	{prometheus.NewDesc("parley_portal_accounts", "Accounts.", nil, nil), "SELECT COUNT(*) FROM accounts"},
	{prometheus.NewDesc("parley_portal_users", "People.", nil, nil), "SELECT COUNT(*) FROM users"},
	{prometheus.NewDesc("parley_portal_appliances", "Appliances that are enrolled and not revoked.", nil, nil), "SELECT COUNT(*) FROM appliances WHERE revoked = 0"},
}

func (c *counts) Describe(out chan<- *prometheus.Desc) {
	for _, q := range countQueries {
		out <- q.desc
	}
}

func (c *counts) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	n := make([]int64, len(countQueries))
	if err := c.m.db.Read(ctx, func(tx *store.Tx) error {
		for i, q := range countQueries {
			if err := tx.Row(q.query).Scan(&n[i]); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		c.m.log.Warn("figures of the database", "error", err)
		return
	}
	for i, q := range countQueries {
		out <- prometheus.MustNewConstMetric(q.desc, prometheus.GaugeValue, float64(n[i]))
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
			if log {
				m.log.Info("request", "endpoint", endpoint, "method", fmt.Sprintf("%.10q", r.Method), "status", status, "from", r.RemoteAddr, "took", took.Round(time.Microsecond))
			}
		}()
		next.ServeHTTP(a, r)
	})
}

// answer remembers the status.
type answer struct {
	http.ResponseWriter
	status int
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
func (a *answer) ReadFrom(r io.Reader) (int64, error) { return io.Copy(a.ResponseWriter, r) }

// Flush is for handlers that ask for an http.Flusher.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// handler serves figures and health.
func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	edge.Health(mux, m.db, m.log)
	return mux
}

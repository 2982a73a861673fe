package zctrl

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/parley-meet/parley/internal/localsocket"
	"github.com/parley-meet/parley/services/internal/carrier"
)

// maxScrapers connect to the metrics' socket at a time.
const maxScrapers = 16

// figures are for Prometheus.
type figures struct {
	registry *prometheus.Registry
	refused  *prometheus.CounterVec
	handed   *prometheus.CounterVec
}

func newFigures(s *Server) *figures {
	f := &figures{
		registry: prometheus.NewRegistry(),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_zctrl_refused_total", Help: "Pages and requests that were turned away, by reason."}, []string{"reason"}),
		handed:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_zctrl_handed_total", Help: "Connections at the shared address that are the router's, by what came of it."}, []string{"outcome"}),
	}
	gauge := func(name, help string, get func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_zctrl_" + name, Help: help}, get)
	}
	counter := func(name, help string, labels prometheus.Labels, get func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "parley_zctrl_" + name, Help: help, ConstLabels: labels}, get)
	}
	counts := func(get func(carrier.Counts) uint64) func() float64 {
		return func() float64 {
			if z := s.current(); z != nil {
				return float64(get(z.carrier.Counts()))
			}
			return 0
		}
	}
	f.registry.MustRegister(f.refused, f.handed, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("connections", "Connections to port 443.", func() float64 { return float64(s.door.len()) }),
		gauge("pages", "WebSockets of pages.", func() float64 { pages, _ := s.pagesNow(); return float64(pages) }),
		gauge("links", "WebSockets that have a router.", func() float64 { _, links := s.pagesNow(); return float64(links) }),
		gauge("routers", "Routers of the zone that are heard.", func() float64 {
			if z := s.current(); z != nil {
				return float64(len(z.live()))
			}
			return 0
		}),
		gauge("kept_meetings", "Meetings that could begin again at another router.", func() float64 {
			if z := s.current(); z != nil {
				n, _ := z.carrier.Keeps()
				return float64(n)
			}
			return 0
		}),
		gauge("bus_servers", "Servers of the zone's bus that this controller is connected to.", func() float64 {
			n := 0
			if z := s.current(); z != nil {
				for _, x := range z.conn.Servers() {
					if x.Connected {
						n++
					}
				}
			}
			return float64(n)
		}),
		counter("frames_total", "Frames of signalling, since this zone was entered.", prometheus.Labels{"to": "router"}, counts(func(c carrier.Counts) uint64 { return c.Sent })),
		counter("frames_total", "Frames of signalling, since this zone was entered.", prometheus.Labels{"to": "page"}, counts(func(c carrier.Counts) uint64 { return c.Received })),
		counter("frames_lost_total", "Frames that the bus did not take or lost a part of; they are sent again.", nil, counts(func(c carrier.Counts) uint64 { return c.Lost })),
		counter("bus_strange_total", "Messages of routers that were not understood.", nil, counts(func(c carrier.Counts) uint64 { return c.Strange })),
	)
	for i, bound := range []string{"all", "peer", "pace"} {
		f.registry.MustRegister(counter("connections_refused_total", "Connections that were closed because there were too many: in all, of one address, or of one address in a short time.", prometheus.Labels{"bound": bound}, func() float64 {
			s.door.mu.Lock()
			defer s.door.mu.Unlock()
			return float64(s.door.refused[i])
		}))
	}
	return f
}

// pagesNow returns how many WebSockets there are, and how many have a router.
func (s *Server) pagesNow() (pages, links int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.pages {
		if p.router != "" {
			links++
		}
	}
	return len(s.pages), links
}

// serveMetrics serves GET /metrics on a unix socket until ctx ends.
func (s *Server) serveMetrics(ctx context.Context) {
	l, err := localsocket.Listen(s.cfg.Metrics, localsocket.KeepGroup)
	if err != nil {
		s.log.Error("metrics", "error", err)
		return
	}
	m := http.NewServeMux()
	m.Handle("GET /metrics", promhttp.HandlerFor(s.figures.registry, promhttp.HandlerOpts{}))
	h := &http.Server{Handler: m, ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, WriteTimeout: readTime, MaxHeaderBytes: maxHeader, ErrorLog: s.httpLog()}
	stop := context.AfterFunc(ctx, func() { h.Close() })
	defer stop()
	_ = h.Serve(netutil.LimitListener(l, maxScrapers)) // until it is closed
}

// tell says how the controller is, when that has changed.
func (s *Server) tell() {
	status, detail := s.health()
	s.healthMu.Lock()
	defer s.healthMu.Unlock()
	if s.told != [2]string{status, detail} {
		s.told = [2]string{status, detail}
		s.cfg.Health(status, detail)
	}
}

// health returns a word and a line for people.
func (s *Server) health() (status, detail string) {
	z := s.current()
	s.mu.Lock()
	var problem error
	for _, err := range s.problems {
		problem = err
	}
	running, draining := len(s.running), s.draining
	s.mu.Unlock()
	switch {
	case draining:
		return "stopping", "pages are told to go on elsewhere"
	case problem != nil:
		return "failing", problem.Error()
	case running == 0:
		return "waiting", "there is no address to listen at"
	case z == nil:
		return "waiting", "the appliance is in no zone"
	}
	n := len(z.live())
	if n == 0 && time.Since(z.born) > settleTime {
		return "failing", "no router of the zone is heard"
	}
	return "ready", fmt.Sprintf("zone %s, %d routers", z.id, n)
}

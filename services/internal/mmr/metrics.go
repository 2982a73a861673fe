package mmr

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parley-meet/parley/services/internal/carrier"
	"github.com/parley-meet/parley/services/internal/hall"
	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// sampleEvery is how often losses and round trips of each participant are noted.
const sampleEvery = 5 * time.Second

// fewPackets say nothing about losses.
const fewPackets = 50

// metrics are a router's figures for Prometheus. Meetings and participants are no
// labels: who wants them reads /meetings.
type metrics struct {
	registry *prometheus.Registry
	loss     *prometheus.HistogramVec
	rtt      *prometheus.HistogramVec
	began    prometheus.Counter

	mu   sync.Mutex
	seen map[seen]room.Figures
}

// seen is somebody whose counters are remembered for the next sample.
type seen struct {
	run string
	id  uint32
}

// sources is where figures come from.
type sources struct {
	load    func() hall.Load
	media   func() room.Totals
	wire    func() wire.Totals
	turn    func() int
	carried func() carrier.Counts
	cpu     func() float64
}

func newMetrics(s sources) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		seen:     map[seen]room.Figures{},
		loss: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "parley_router_packet_loss_ratio",
			Help:    "Share of packets that were lost, of each participant in each 5 s, by direction: down is to him, by his reports; up is from him, before retransmission.",
			Buckets: []float64{0, .001, .003, .01, .03, .1, .2, .5}}, []string{"direction"}),
		rtt: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "parley_router_round_trip_seconds",
			Help:    "Round trip between router and participant, of each in each 5 s, by the way that his media goes.",
			Buckets: []float64{.001, .003, .01, .03, .06, .1, .2, .4, 1, 3}}, []string{"way"}),
		began: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_router_meetings_started_total", Help: "Meetings that began here, or went on here when their router was lost."}),
	}
	for _, d := range []string{"down", "up"} { // there from the start, so that a rise is seen
		m.loss.WithLabelValues(d)
	}
	for _, k := range []wire.Kind{wire.UDP, wire.TCP, wire.Relay} {
		m.rtt.WithLabelValues(k.String())
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	count := func(name, help string, f func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(f()) })
	}
	yes := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	m.registry.MustRegister(m.loss, m.rtt, m.began,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("parley_router_participants", "People inside meetings.", func() float64 { return float64(s.load().Participants) }),
		gauge("parley_router_waiting", "People in waiting rooms.", func() float64 { return float64(s.load().Waiting) }),
		gauge("parley_router_meetings", "Meetings that run.", func() float64 { return float64(len(s.load().Meetings)) }),
		gauge("parley_router_participants_limit", "Participants that the router takes.", func() float64 { return float64(s.load().Limit) }),
		gauge("parley_router_full", "1 if nobody more is let in.", func() float64 { return yes(s.load().Full) }),
		count("parley_router_full_total", "People who were not let in because the router was full or busy.", func() uint64 { return s.load().Refused }),
		gauge("parley_router_draining", "1 if no meeting may begin.", func() float64 { return yes(s.load().Draining) }),
		gauge("parley_router_cpu_ratio", "Share of the machine's processors in use, by which people are refused; a mean of seconds.", s.cpu),
		gauge("parley_router_turn_allocations", "Allocations of TURN.", func() float64 { return float64(s.turn()) }),
		gauge("parley_router_links", "Pages' links that controllers carry.", func() float64 { return float64(s.carried().Links) }),
		count("parley_router_link_frames_lost_total", "Frames of signalling that the zone bus lost; they are sent again.", func() uint64 { return s.carried().Lost }),
		count("parley_router_udp_received_packets_total", "Packets that came by UDP.", func() uint64 { return s.wire().Received }),
		count("parley_router_udp_received_bytes_total", "Bytes that came by UDP.", func() uint64 { return s.wire().ReceivedBytes }),
		count("parley_router_udp_sent_packets_total", "Packets that were sent by UDP.", func() uint64 { return s.wire().Sent }),
		count("parley_router_udp_sent_bytes_total", "Bytes that were sent by UDP.", func() uint64 { return s.wire().SentBytes }),
		count("parley_router_udp_send_calls_total", "System calls that sent by UDP.", func() uint64 { return s.wire().Calls }),
		count("parley_router_udp_unknown_packets_total", "Packets from addresses that are nobody's.", func() uint64 { return s.wire().Unknown }),
		count("parley_router_udp_refused_packets_total", "Packets that the kernel did not take.", func() uint64 { return s.wire().Refused }),
		count("parley_router_resent_packets_total", "Packets that were sent again when asked for.", func() uint64 { return s.media().Sent.Resent }),
		count("parley_router_recovered_packets_total", "Packets of publishers that came by retransmission.", func() uint64 { return s.media().Received.Recovered }),
		count("parley_router_pacer_dropped_packets_total", "Packets that were dropped because a receiver's network is too slow.", func() uint64 { return s.media().Dropped }),
		count("parley_router_layer_switches_total", "Changes of the layer or source that a receiver sees.", func() uint64 { return s.media().Switches }),
		count("parley_router_keyframes_asked_total", "Keyframes that publishers were asked for.", func() uint64 { return s.media().Received.Keyframes }))
	return m
}

// sample notes how everybody's connection was since the last time.
func (m *metrics) sample(list []hall.Meeting) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := make(map[seen]room.Figures, len(m.seen))
	for _, meeting := range list {
		for _, p := range meeting.People {
			f := p.Media
			key := seen{meeting.Run, uint32(p.ID)}
			was, known := m.seen[key]
			now[key] = f
			if !f.Connected() {
				continue
			}
			if f.RTT > 0 && f.Way != "" {
				m.rtt.WithLabelValues(f.Way).Observe(f.RTT.Seconds())
			}
			if known {
				m.lost("down", was.Down, f.Down)
				m.lost("up", was.Up, f.Up)
			}
		}
	}
	m.seen = now
}

func (m *metrics) lost(direction string, was, is room.Losses) {
	if is.Expected < was.Expected+fewPackets || is.Lost < was.Lost { // too few, or another connection
		return
	}
	m.loss.WithLabelValues(direction).Observe(float64(is.Lost-was.Lost) / float64(is.Expected-was.Expected))
}

// handler serves /metrics, and /meetings in JSON.
func (m *metrics) handler(meetings func() []hall.Meeting, log *slog.Logger) http.Handler {
	h := http.NewServeMux()
	h.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}))
	h.HandleFunc("GET /meetings", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(struct {
			Meetings []hall.Meeting `json:"meetings"`
		}{append([]hall.Meeting{}, meetings()...)}); err != nil {
			log.Debug("meetings", "error", err)
		}
	})
	return h
}

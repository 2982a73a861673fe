package web

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/guard"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// Bounds and times of pages that stay fresh.
const (
	maxStreams     = 2000 // of an instance
	maxUserStreams = 6
	streamEvery    = time.Second
	streamRead     = 5 * time.Second // without being told
	streamHeart    = 15 * time.Second
	streamWrite    = 5 * time.Second
	contactSoon    = 3 * time.Second // since the last word: "now"
)

// monitorPages is the tab.
func (p *Portal) monitorPages() []page {
	return []page{
		{Path: "/connector/monitor", Section: "connector", Title: "monitor.title", Template: "monitor", Need: needAdmin,
			Scripts: []string{"live.js", "uplot.js", "monitor.js"}, Load: func(k *call) (any, error) {
				return k.monitor(k.ctx())
			}},
	}
}

// liveField is a field of a page that stays fresh, as live.js takes it.
type liveField struct {
	Key    string `json:"-"`
	Text   string `json:"t,omitempty"`
	State  string `json:"s,omitempty"`
	Hidden bool   `json:"h,omitempty"`
	Time   string `json:"d,omitempty"`
	Exact  string `json:"x,omitempty"`
}

type monitorData struct {
	Enabled bool
	Shape   string // changes when rows come or go
	Zones   []monitorZone
	Alerts  []alertRow
	Past    []alertRow
	At      liveField
	fields  []liveField
}

type monitorZone struct {
	ID, Name    string
	Controllers []monitorRow
	Routers     []monitorRow
	Ranges      []string
}

type monitorRow struct {
	ID, Host                                    string
	State, Version, Addresses, Meetings, People liveField
	Load, Contact, Cert, Quiet, Since           liveField
}

type alertRow struct {
	Text, Host, Detail string
	Opened, Closed     moment
}

// monitor is the tab's data now.
func (k *call) monitor(ctx context.Context) (monitorData, error) {
	var d monitorData
	c, err := k.p.cfg.Zones.Get(ctx, k.who)
	if err != nil {
		return d, err
	}
	d.Enabled = !c.Account.Enabled.IsZero()
	list, err := k.p.cfg.Zones.Appliances(ctx, k.who)
	if err != nil {
		return d, err
	}
	states, err := k.p.cfg.Live.Appliances(ctx, k.who.Account)
	if err != nil {
		return d, err
	}
	alerts, err := k.p.cfg.Live.Alerts(ctx, k.who)
	if err != nil {
		return d, err
	}
	k.arrange(&d, c.Zones, list, states, alerts, time.Now())
	return d, nil
}

// arrange makes the page of what is known at a time.
func (k *call) arrange(d *monitorData, zoneList []zones.Zone, list []zones.Appliance, states []live.State, alerts []live.Alert, now time.Time) {
	shape := fnv.New64a()
	last, inZone := map[string]live.State{}, map[string][]live.State{}
	for _, st := range states {
		last[st.Appliance] = st
		inZone[st.Zone] = append(inZone[st.Zone], st)
	}
	add := func(f liveField) liveField {
		d.fields = append(d.fields, f)
		return f
	}
	for _, z := range zoneList {
		v := monitorZone{ID: z.ID, Name: z.Name}
		for _, r := range live.Ranges {
			v.Ranges = append(v.Ranges, r.Name)
		}
		fmt.Fprintln(shape, z.ID, z.Name)
		for _, a := range list {
			st, known := last[a.ID]
			if a.Zone != z.ID || !known {
				continue
			}
			fmt.Fprintln(shape, a.ID, st.Host)
			row := k.monitorRow(a, st, inZone[st.Zone], now, add)
			if a.Role == link.Controller {
				v.Controllers = append(v.Controllers, row)
			} else {
				v.Routers = append(v.Routers, row)
			}
		}
		d.Zones = append(d.Zones, v)
	}
	for _, a := range alerts {
		r := alertRow{Text: k.words.Or("alert.", a.Code), Host: a.Host, Detail: a.Detail, Opened: when(a.Opened), Closed: when(a.Closed)}
		if a.Closed.IsZero() {
			d.Alerts = append(d.Alerts, r)
			fmt.Fprintln(shape, a.ID)
		} else {
			d.Past = append(d.Past, r)
		}
	}
	d.Shape = fmt.Sprintf("%x", shape.Sum64())
	d.At = liveField{Time: now.UTC().Format(time.RFC3339), Text: now.UTC().Format("15:04:05 UTC")}
	d.fields = append(d.fields, liveField{Key: "shape", State: d.Shape})
}

func (k *call) monitorRow(a zones.Appliance, st live.State, zone []live.State, now time.Time, add func(liveField) liveField) monitorRow {
	key := func(name string) string { return name + "." + a.ID }
	w := k.words
	r := monitorRow{ID: a.ID, Host: st.Host}
	state, text := "ready", w.T("monitor.running.state")
	if !st.Running(now) {
		state, text = "unhealthy", w.T("monitor.silent")
	} else if len(live.Judge(st, zone, now)) > 0 {
		state = "starting"
	}
	r.State = add(liveField{Key: key("state"), Text: text, State: state})
	exact := st.Contact.UTC().Format("2006-01-02 15:04:05 UTC")
	contact := liveField{Key: key("contact"), Text: w.T("monitor.now"), Time: st.Contact.UTC().Format(time.RFC3339), Exact: exact}
	r.Quiet = add(liveField{Key: key("quiet"), Hidden: state != "unhealthy"})
	r.Since = liveField{Key: key("since"), Text: exact, Time: contact.Time}
	if r.Quiet.Hidden {
		r.Since.Text, r.Since.Time = "", "" // else each word would be sent twice
	}
	add(r.Since)
	r.Version = add(liveField{Key: key("version"), Text: st.Version})
	var addrs []string
	for _, x := range st.Status.Addresses {
		addrs = append(addrs, x.String())
	}
	r.Addresses = add(liveField{Key: key("addresses"), Text: strings.Join(addrs, ", ")})
	r.Meetings = add(liveField{Key: key("meetings"), Text: w.T("monitor.number", st.Status.Meetings)})
	people := w.T("monitor.number", st.Status.Participants)
	if st.Status.Limit > 0 {
		people = w.T("monitor.of", st.Status.Participants, st.Status.Limit)
	}
	r.People = add(liveField{Key: key("people"), Text: people})
	r.Load = add(liveField{Key: key("load"), Text: w.T("monitor.load", int(st.Status.CPU*100+0.5), w.Bytes(st.Status.Memory))})
	if ago := now.Sub(st.Contact); ago > link.Heartbeat+contactSoon {
		contact.Text = w.T("ago", w.Duration(ago.Truncate(time.Second)))
	}
	r.Contact = add(contact)
	cert := liveField{Key: key("cert"), Text: w.T("monitor.no-cert")}
	if c := st.Status.Certificate; c != nil {
		cert.Text = c.Expires.UTC().Format("2006-01-02")
		if !c.Trusted {
			cert.Text, cert.State = w.T("monitor.untrusted", cert.Text), "starting"
		}
		if c.Expires.Sub(now) < 14*24*time.Hour {
			cert.State = "unhealthy"
		}
	}
	r.Cert = add(cert)
	return r
}

// monitorEvents keeps the tab fresh, as server-sent events (HTML, 9.2):
//
//	event: status   data: {"KEY": FIELD, …}, all fields at first, then changes
//	event: end      the session is no more
func (p *Portal) monitorEvents() http.HandlerFunc {
	slots := make(chan struct{}, maxStreams)
	var users guard.Tally
	return func(w http.ResponseWriter, r *http.Request) {
		k, _, err := p.caller(w, r, false)
		if err == nil {
			err = k.allowed(needAdmin)
		}
		if err == nil && k.who.Token != "" {
			err = errNoToken // a page's stream, as the page is
		}
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Time{})
		send := func(s string) error {
			if err := rc.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
				return err
			}
			if _, err := w.Write([]byte(s)); err != nil {
				return err
			}
			return rc.Flush()
		}
		if err != nil {
			// Not 401: a script is not told an answer's status, and would try for ever.
			_ = send("event: end\ndata: {}\n\n")
			return
		}
		leave, ok := users.Enter(k.who.User, maxUserStreams)
		if !ok {
			http.Error(w, "too many streams", http.StatusTooManyRequests)
			return
		}
		defer leave()
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			http.Error(w, "too many streams", http.StatusServiceUnavailable)
			return
		}
		p.follow(k, send)
	}
}

// follow sends what changed until the browser leaves.
func (p *Portal) follow(k *call, send func(string) error) {
	sub := p.cfg.DB.Subscribe(live.TopicState)
	defer sub.Close()
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	if send("retry: 2000\n\n") != nil {
		return
	}
	shown := map[string]liveField{}
	var read, sent time.Time
	told := true
	for {
		// Between notes rows turn red by themselves; then one look in streamRead is
		// enough, because what is silent was silent before.
		if now := time.Now(); told || now.Sub(read) >= streamRead {
			told, read = false, now
			d, err := k.monitor(k.ctx())
			if err != nil {
				return // the browser comes back
			}
			changes := map[string]liveField{}
			for _, f := range d.fields {
				if shown[f.Key] != f {
					shown[f.Key], changes[f.Key] = f, f
				}
			}
			if len(changes) > 0 {
				b, err := json.Marshal(changes)
				if err != nil {
					panic(err) // a map of plain structs
				}
				if send("event: status\ndata: "+string(b)+"\n\n") != nil {
					return
				}
				sent = now
			}
		}
		if time.Since(sent) > streamHeart {
			if send(":\n\n") != nil {
				return
			}
			sent = time.Now()
		}
		select {
		case <-tick.C:
		case <-k.ctx().Done():
			return
		case <-p.stop:
			return
		}
		for more := true; more; {
			select {
			case <-sub.C:
				told = true
			default:
				more = false
			}
		}
		if again, _, err := p.caller(k.w, k.r, false); err != nil || again.allowed(needAdmin) != nil || again.who.Account != k.who.Account {
			_ = send("event: end\ndata: {}\n\n")
			return
		}
	}
}

// Monitor is what runs.
type Monitor struct {
	Appliances []MonitorState `json:"appliances"`
	Alerts     []live.Alert   `json:"alerts"`
}

// MonitorState is an appliance with whether it runs.
type MonitorState struct {
	live.State
	Running bool `json:"running"`
}

func (p *Portal) monitorEndpoints() []endpoint {
	read := scope("connector:read")
	return []endpoint{
		api.Get("/api/v1/connector/monitor", "getMonitor", "What is linked, and what is wrong with it.", needAdmin, func(k *call) (Monitor, error) {
			m := Monitor{Appliances: []MonitorState{}}
			states, err := p.cfg.Live.Appliances(k.ctx(), k.who.Account)
			if err != nil {
				return m, err
			}
			for _, st := range states {
				m.Appliances = append(m.Appliances, MonitorState{st, st.Running(time.Now())})
			}
			m.Alerts, err = p.cfg.Live.Alerts(k.ctx(), k.who)
			return m, err
		}).With(read),
		api.Get("/api/v1/connector/zones/{zone}/routers", "listRouters", "A zone's multimedia routers that run, with their load.", needAdmin, func(k *call) ([]live.Router, error) {
			c, err := p.cfg.Zones.Get(k.ctx(), k.who)
			if err != nil {
				return nil, err
			}
			zone := k.r.PathValue("zone")
			if !slices.ContainsFunc(c.Zones, func(z zones.Zone) bool { return z.ID == zone }) {
				return nil, people.ErrUnknown
			}
			return p.cfg.Live.Routers(k.ctx(), zone)
		}).With(read),
		api.Get("/api/v1/connector/zones/{zone}/history", "getHistory", "A zone's history.", needAdmin, func(k *call) (live.History, error) {
			name := k.r.URL.Query().Get("range")
			if name == "" {
				name = live.Ranges[0].Name
			}
			return p.cfg.Live.History(k.ctx(), k.who, k.r.PathValue("zone"), name)
		}).With(read).With(func(e *endpoint) {
			e.Query = []api.Param{{Name: "range", Summary: "1h, 24h, 7d or 90d", Schema: "string"}}
		}),
	}
}

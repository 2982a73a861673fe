package webconsole

import (
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/look"
)

// servicePages are the services and their logs.
func (c *Console) servicePages() []page {
	return []page{
		{Path: "/services", Section: "services", Title: "services.title", Template: "services", Scripts: []string{"live.js"}, Load: c.servicesPage},
		{Path: "/services/{name}", Section: "services", Title: "service.title", Template: "service", NoTab: true, Scripts: []string{"log.js"}, Load: c.servicePage},
		{Path: "/logs", Section: "services", Title: "logs.title", Template: "logs", Scripts: []string{"log.js"}, Load: c.logsPage},
	}
}

// servicesPage shows the fields of the overview, of the services alone.
func (c *Console) servicesPage(k *call) (any, error) { return c.statusData(k), nil }

// serviceData is one service with its events and its log.
type serviceData struct {
	Title, Name string
	State       field
	Facts       []fact
	Events      []eventRow
	Verbs       []verbButton
	Log         logData
}

// PageTitle is the service's.
func (d serviceData) PageTitle() string { return d.Title }

// fact is a line of a list of facts.
type fact struct {
	Label string
	Value field
}

type eventRow struct {
	At    field
	State string
	Word  string
	Text  string
}

// verbButton is a button with what its dialog says.
type verbButton struct {
	Verb, Label, Title, Text string
	Danger                   bool
}

// logData is a viewer of logs.
type logData struct {
	Path   string // of the API
	Search string
	Lines  []control.Log
	Error  string
}

// Stamp is when a line was written.
func (logData) Stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

// shownLines is how many lines a page has before its script adds more.
const shownLines = 200

func (c *Console) servicePage(k *call) (any, error) {
	name := k.r.PathValue("name")
	sv, err := c.service(k, name)
	if err != nil {
		return nil, err
	}
	w := k.words
	now := time.Now()
	d := serviceData{Name: name, Title: w.Title(api.Cut(sv.Title, 60)), State: field{Text: w.State(sv.State), State: string(sv.State)}}
	add := func(key string, f field) { d.Facts = append(d.Facts, fact{w.T(key), f}) }
	if !sv.Since.IsZero() {
		add("col.since", timeField(sv.Since, w.Duration(now.Sub(sv.Since))))
	}
	if sv.Detail != "" && sv.State != control.StateStopped {
		add("service.detail", field{Text: w.Detail(api.Cut(sv.Detail, 300))})
	}
	if sv.PID > 0 {
		add("service.pid", field{Text: w.T("number", sv.PID)})
	}
	if sv.ReadyIn > 0 {
		add("service.ready-in", field{Text: w.Seconds(sv.ReadyIn)})
	}
	add("col.restarts", field{Text: w.T("number", sv.Restarts)})
	if e := sv.LastExit; e != nil {
		add("col.exit", field{Text: api.Cut(w.Detail(e.Reason), 300) + " · " + w.T("ago", w.Duration(now.Sub(e.At)))})
	}
	for i := len(sv.Events) - 1; i >= 0 && len(d.Events) < 20; i-- {
		e := sv.Events[i]
		d.Events = append(d.Events, eventRow{timeField(e.At, exact(e.At)), string(e.State), w.State(e.State), w.Detail(api.Cut(e.Text, 300))})
	}
	d.Verbs = c.verbButtons(w, sv)
	d.Log = c.logView(k, name)
	return d, nil
}

// verbButtons are what may be done with a service now.
func (c *Console) verbButtons(w *look.Words, sv control.Service) []verbButton {
	var out []verbButton
	title := w.Title(api.Cut(sv.Title, 60))
	for _, verb := range []string{"start", "stop", "restart"} {
		if (sv.State == control.StateStopped) != (verb == "start") {
			continue
		}
		b := verbButton{Verb: verb, Label: w.T("do." + verb), Title: w.T("confirm."+verb, title), Danger: verb == "stop"}
		if key := "confirm." + verb + "." + sv.Name; w.Has(key) {
			b.Text = w.T(key)
		} else if verb == "stop" {
			b.Text = w.T("confirm.stop.any")
		}
		out = append(out, b)
	}
	return out
}

func (c *Console) logsPage(k *call) (any, error) { return c.logView(k, ""), nil }

// logView has the lines that a page begins with: it shows them without a script
// too, and its search works then.
func (c *Console) logView(k *call, name string) logData {
	d := logData{Path: "/api/v1/logs", Search: api.Cut(k.r.URL.Query().Get("q"), maxSearch)}
	if name != "" {
		d.Path = "/api/v1/services/" + name + "/logs"
	}
	req, search, err := logRequest(k, name)
	if err == nil {
		var release func()
		if release, err = c.reading(k); err == nil {
			defer release()
			req.Lines, req.Follow = shownLines, false
			d.Lines, err = c.pastLogs(k.ctx(), req, search)
		}
	}
	if err != nil {
		d.Error = k.failure(err).Message
	}
	return d
}

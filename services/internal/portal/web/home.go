package web

import (
	"net/http"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

func (p *Portal) homePages() []page {
	return []page{
		{Path: "/", Section: "home", Title: "home.title", Template: "home", Need: needPerson, Load: func(k *call) (any, error) { return k.home() }},
	}
}

// Upcoming is a meeting on the overview.
type Upcoming struct {
	Title string
	Path  string // of its page
	Start time.Time
}

// Notice is what waits for somebody.
type Notice struct {
	Title, Text string
	Path        string // of the page where something is done about it
	Bad         bool
}

type homeData struct {
	User     people.User
	Role     string
	Account  string
	Steps    []step
	Ready    bool // all steps are done
	Done     int
	Basic    bool // the account's type has no connector
	Hosts    bool // the person hosts meetings
	Upcoming []upcomingRow
	Meetings string // path of the page of meetings; "" is none
	Alerts   int    // of the account's appliances that are open
	Monitor  string // path of the page of appliances; "" is none
	Totals   *directory.Totals
	Notices  []Notice
}

type upcomingRow struct {
	Upcoming
	At moment
}

// step is one of the way to the first meeting.
type step struct {
	Title, Text string
	Path        string // "" is no page
	Done, Next  bool
}

func (k *call) home() (homeData, error) {
	d := homeData{User: k.session.User, Meetings: k.page("/meetings")}
	if k.who.At(people.Member) {
		d.Role = k.words.T("users.role." + string(k.who.Role))
		w, err := k.dir().Way(k.ctx(), k.who)
		if err != nil {
			return d, err
		}
		d.Account, d.Hosts = w.Account.Name, w.Kind == people.KindOnPrem
		d.Basic = !w.Account.Type.Connector()
		if k.who.At(people.Admin) && !d.Basic {
			k.steps(&d, w)
			alerts, err := k.p.cfg.Live.Alerts(k.ctx(), k.who)
			if err != nil {
				return d, err
			}
			for _, a := range alerts {
				if a.Closed.IsZero() {
					d.Alerts++
				}
			}
			d.Monitor = k.page("/connector/monitor")
		}
		if k.p.cfg.Upcoming != nil {
			list, err := k.p.cfg.Upcoming(k.ctx(), k.who)
			if err != nil {
				return d, err
			}
			for _, u := range list {
				d.Upcoming = append(d.Upcoming, upcomingRow{u, when(u.Start)})
			}
		}
	}
	if k.who.Operator {
		return d, k.notices(&d)
	}
	return d, nil
}

func (k *call) steps(d *homeData, w directory.Way) {
	put := func(name, path string, done bool) {
		s := step{Title: k.words.T("home.step." + name), Text: k.words.T("home.step." + name + ".text"), Path: k.page(path), Done: done}
		if done {
			d.Done++
		}
		d.Steps = append(d.Steps, s)
	}
	put("enable", "/connector", !w.Account.Enabled.IsZero())
	// Nobody notes who downloads what: an appliance that is there was downloaded.
	put("download", "/connector/download", w.Appliances > 0)
	put("token", "/connector/token", w.Tokens > 0 || w.Appliances > 0)
	put("appliance", "/connector/monitor", w.Appliances > 0)
	put("people", "/users", w.OnPrem > 0)
	put("production", "/connector/activate", !w.Account.Production.IsZero())
	d.Ready = d.Done == len(d.Steps)
	for i := range d.Steps {
		if !d.Steps[i].Done {
			d.Steps[i].Next = true
			break
		}
	}
}

// page returns the path when the portal has such a page that the caller may look
// at, and else "".
func (k *call) page(path string) string {
	for _, q := range k.p.pages {
		if q.Path == path && k.allowed(q.Need) == nil {
			return path
		}
	}
	return ""
}

// notices are what needs an operator's attention.
func (k *call) notices(d *homeData) error {
	t, err := k.dir().Totals(k.ctx(), k.who)
	if err != nil {
		return err
	}
	d.Totals = &t
	s, err := k.p.cfg.Mail.Settings(k.ctx(), k.who)
	if err != nil {
		return err
	}
	w, err := k.p.cfg.Mail.Waiting(k.ctx(), k.who)
	if err != nil {
		return err
	}
	if s.Host == "" {
		d.Notices = append(d.Notices, Notice{Title: k.words.T("home.no-mail"), Text: k.words.T("home.no-mail.text"), Path: "/operator/mail"})
	}
	if len(w) > 0 {
		d.Notices = append(d.Notices, Notice{Title: k.words.T("home.mails", len(w)), Text: k.words.T("home.mails.text"), Path: "/operator/mail", Bad: s.Host != ""})
	}
	list, err := k.p.cfg.Releases.List(k.ctx(), true)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		d.Notices = append(d.Notices, Notice{Title: k.words.T("home.no-releases"), Text: k.words.T("home.no-releases.text"), Path: k.page("/operator/releases")})
	}
	return nil
}

// Self is who calls.
type Self struct {
	User people.User `json:"user"`
	Via  string      `json:"via"` // "web" or "api"
}

func (p *Portal) homeEndpoints() []endpoint {
	return []endpoint{
		api.Get("/api/v1/self", "getSelf", "Who calls.", needPerson, func(k *call) (Self, error) {
			if k.session != nil {
				return Self{k.session.User, k.who.Via}, nil
			}
			return Self{}, errNoToken
		}).With(person),
	}
}

func (p *Portal) apiPages() []page { return nil }

func (p *Portal) apiEndpoints() []endpoint {
	return []endpoint{
		api.Raw("GET", "/api/openapi.json", "getDescription", "This description.", needNobody, "application/json", func(k *call) error {
			k.w.Header().Set("Content-Type", "application/json")
			if _, err := k.w.Write(p.openapi()); err != nil {
				return http.ErrAbortHandler
			}
			return nil
		}),
	}
}

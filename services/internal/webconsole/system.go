package webconsole

import (
	"time"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
)

// systemPages are the machine as a whole.
func (c *Console) systemPages() []page {
	return []page{
		{Path: "/system", Section: "system", Title: "system.title", Template: "system", Load: c.systemPage},
		{Path: "/system/audit", Section: "system", Title: "audit.title", Template: "audit", Load: c.auditPage},
	}
}

type systemData struct {
	Facts     []fact
	Clock     []fact
	Now       string // for the field
	Host      string // to be typed
	Roles     []option
	Role      string
	RoleKnown bool
}

// option is a choice of a field.
type option struct{ Value, Label, Hint string }

func (c *Console) systemPage(k *call) (any, error) {
	s, err := k.admin().System(k.ctx())
	if err != nil {
		return nil, err
	}
	w := k.words
	d := systemData{Now: s.Now.UTC().Format(time.DateTime)}
	add := func(list *[]fact, key string, f field) { *list = append(*list, fact{w.T(key), f}) }
	if st := s.Status; st != nil {
		v := newView(&state{at: s.Now, status: st}, w)
		d.Host, d.Role = api.Cut(st.Hostname, 63), api.Cut(st.Role, 40)
		d.RoleKnown = !(&state{status: st}).portal() // that one has no other
		if st.NextRole != "" {
			d.Role = api.Cut(st.NextRole, 40)
		}
		add(&d.Facts, "row.hostname", field{Text: d.Host})
		for _, key := range []string{"role", "version", "kernel", "slot", "firmware", "watchdog", "booted", "uptime", "boot-time"} {
			add(&d.Facts, "row."+key, v[key])
		}
	}
	for _, r := range []string{"controller", "router"} {
		d.Roles = append(d.Roles, option{Value: r, Label: w.Role(r), Hint: w.T("role-hint." + r)})
	}
	d.Clock = c.clockFacts(k, s)
	return d, nil
}

func (c *Console) clockFacts(k *call, s *admin.System) []fact {
	w := k.words
	list := []fact{{w.T("clock.now"), field{Text: exact(s.Now), Time: s.Now.UTC().Format(time.RFC3339)}}}
	cl := s.Clock
	kept := field{Text: w.T("clock.unsynced"), State: fieldWarn}
	switch {
	case cl.Off:
		kept = field{Text: w.T("clock.off")}
	case cl.Synced:
		kept = field{Text: w.T("clock.synced", api.Cut(cl.Server, 100)), State: fieldGood}
	}
	list = append(list, fact{w.T("clock.kept"), kept})
	if !cl.Last.IsZero() {
		list = append(list, fact{w.T("clock.last"), timeField(cl.Last, w.T("ago", w.Duration(s.Now.Sub(cl.Last))))},
			fact{w.T("clock.offset"), field{Text: w.T("clock.ms", w.Decimal(float64(cl.Offset)/float64(time.Millisecond), 1))}})
	}
	if cl.Problem != "" {
		list = append(list, fact{w.T("clock.problem"), field{Text: w.Detail(api.Cut(cl.Problem, 300))}})
	}
	return list
}

type auditData struct {
	Rows []auditRow
}

type auditRow struct {
	At                                  field
	Who, From, Via, What, Detail, Error string
}

func (c *Console) auditPage(k *call) (any, error) {
	release, err := k.c.reading(k)
	if err != nil {
		return nil, err
	}
	defer release()
	list, err := k.admin().Audit(k.ctx(), 200)
	if err != nil {
		return nil, err
	}
	d := auditData{}
	for _, e := range list {
		d.Rows = append(d.Rows, auditRow{At: timeField(e.At, exact(e.At)), Who: api.Cut(e.Who, 64), From: api.Cut(e.From, 64),
			Via: k.words.Or("via.", api.Cut(e.Via, 20)), What: k.words.Or("audit.", api.Cut(e.What, 60)), Detail: k.words.Detail(api.Cut(e.Detail, 500)), Error: k.words.Detail(api.Cut(e.Error, 300))})
	}
	return d, nil
}

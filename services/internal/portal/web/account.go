package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// Pages of the account itself.
func (p *Portal) accountPages() []page {
	return []page{
		{Path: "/account", Section: "account", Title: "account.title", Template: "account", Need: needAdmin, Load: func(k *call) (any, error) {
			a, err := k.dir().Account(k.ctx(), k.who)
			return accountData{a, k.words.T("type." + string(a.Type)), when(a.Created), k.kinds(false), k.who.At(people.Owner)}, err
		}},
		{Path: "/account/subaccounts", Section: "account", Title: "subs.title", Template: "subaccounts", Need: needOwner, Load: func(k *call) (any, error) {
			a, err := k.dir().Account(k.ctx(), k.who)
			if err != nil {
				return nil, err
			}
			d := subsData{Type: k.words.T("type." + string(a.Type)), Sub: a.Parent != ""}
			list, err := k.dir().Subs(k.ctx(), k.who)
			if errors.Is(err, people.ErrDenied) {
				return d, nil
			}
			d.May = true
			for _, s := range list.Subs {
				r := subRow{summaryRow: k.summaryRow(s.Summary)}
				for _, z := range list.Zones {
					in := slices.Contains(s.Zones, z.ID)
					r.Zones = append(r.Zones, zoneChoice{z.ID, z.Name, in})
					if in {
						r.ZoneNames = append(r.ZoneNames, z.Name)
					}
				}
				d.Rows = append(d.Rows, r)
			}
			return d, err
		}},
		{Path: "/account/audit", Section: "account", Title: "audit.title", Template: "audit", Need: needAdmin, Load: func(k *call) (any, error) {
			return k.auditData(false)
		}},
	}
}

type accountData struct {
	directory.Settings
	TypeText string
	Made     moment
	Kinds    []option
	ByOwner  bool
}

type subsData struct {
	May  bool   // have sub-accounts
	Sub  bool   // because it is one
	Type string // or because of its type
	Rows []subRow
}

type subRow struct {
	summaryRow
	Zones     []zoneChoice
	ZoneNames []string
}

type zoneChoice struct {
	ID, Name string
	In       bool
}

type summaryRow struct {
	directory.Summary
	TypeText, StateText, Mark string
	OwnerText                 string // of the owner's state, when he is not active
	Made                      moment
	Until                     moment // of a closed account: when it is deleted
}

func (k *call) summaryRow(s directory.Summary) summaryRow {
	r := summaryRow{Summary: s, TypeText: k.words.T("type." + string(s.Type)), Made: when(s.Created)}
	switch {
	case !s.Closed.IsZero():
		r.StateText, r.Mark, r.Until = k.words.T("accounts.closed"), "stopped", when(s.Closed.Add(directory.KeepClosed))
	case !s.Suspended.IsZero():
		r.StateText, r.Mark = k.words.T("accounts.suspended"), "stopped"
	default:
		r.StateText, r.Mark = k.words.T("accounts.active"), "ready"
	}
	if s.OwnerState != people.Active && s.OwnerState != "" {
		r.OwnerText = k.words.T("users.state." + string(s.OwnerState))
	}
	return r
}

// auditData is an audit log as its page shows it.
type auditData struct {
	Portal   bool
	Path     string // of the page
	API      string // of the export, without its ending
	Query    string // of the filter
	Rows     []auditRow
	Actions  []option
	Action   string
	Person   string
	Since    string // dates
	Until    string
	Older    string // address; "" is the end
	Newest   string // address, when this is not the newest part
	Filtered bool
}

type auditRow struct {
	directory.Entry
	When         moment
	What, Detail string
	ViaText      string
}

// auditFilter reads a filter from the query, of the page and of the API. Days
// are whole ones, in UTC; moments are RFC 3339.
func auditFilter(k *call) directory.AuditFilter {
	q := k.r.URL.Query()
	f := directory.AuditFilter{Action: short(q.Get("action")), Person: short(q.Get("person")), Before: short(q.Get("before"))}
	f.Since, _ = day(q.Get("since"))
	until, whole := day(q.Get("until"))
	if whole {
		until = until.AddDate(0, 0, 1)
	}
	f.Until = until
	return f
}

// day reads a date or a moment; what is neither is none.
func day(s string) (at time.Time, whole bool) {
	if at, err := time.Parse(time.DateOnly, s); err == nil {
		return at, true
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, false
	}
	return at, false
}

func (k *call) auditData(ofPortal bool) (auditData, error) {
	f := auditFilter(k)
	q := k.r.URL.Query()
	d := auditData{Portal: ofPortal, Path: k.r.URL.Path, API: "/api/v1/account/audit", Action: f.Action, Person: f.Person, Since: q.Get("since"), Until: q.Get("until")}
	if ofPortal {
		d.API = "/api/v1/operator/audit"
	}
	log, err := k.dir().AuditLog(k.ctx(), k.who, ofPortal, f)
	if err != nil {
		return d, err
	}
	actions, err := k.dir().Actions(k.ctx(), k.who, ofPortal)
	if err != nil {
		return d, err
	}
	if f.Action != "" && !slices.Contains(actions, f.Action) {
		actions = append(actions, f.Action)
	}
	d.Actions = []option{{"", k.words.T("audit.any"), ""}}
	for _, a := range actions {
		d.Actions = append(d.Actions, option{a, k.words.Or("audit.action.", a), ""})
	}
	for _, e := range log.Entries {
		d.Rows = append(d.Rows, auditRow{e, when(e.At), k.words.Or("audit.action.", e.Action), k.auditDetail(e.Details), k.words.Or("audit.via.", e.Via)})
	}
	filter := url.Values{}
	for _, name := range []string{"action", "person", "since", "until"} {
		if v := q.Get(name); v != "" {
			filter.Set(name, v)
		}
	}
	d.Filtered = len(filter) > 0
	d.Query = filter.Encode()
	if f.Before != "" {
		d.Newest = d.Path + "?" + d.Query
	}
	if log.Next != "" {
		filter.Set("before", log.Next)
		d.Older = d.Path + "?" + filter.Encode()
	}
	return d, nil
}

// auditDetail puts the details of a line into words, those that are known.
func (k *call) auditDetail(raw json.RawMessage) string {
	var m map[string]any
	if json.Unmarshal(raw, &m) != nil {
		return ""
	}
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	var out []string
	for _, name := range names {
		v := fmt.Sprint(m[name])
		switch name {
		case "role":
			v = k.words.Or("users.role.", v)
		case "kind":
			if k.words.Has("mail.kind." + v) { // of a mail
				v = k.words.T("mail.kind." + v)
			} else {
				v = k.words.Or("users.kind.", v)
			}
		case "type", "was":
			v = k.words.Or("type.", v)
		}
		out = append(out, k.words.Or("audit.detail.", name)+": "+v)
	}
	return strings.Join(out, "; ")
}

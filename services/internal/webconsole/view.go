package webconsole

import (
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/look"
)

// field is what one element of the status page shows. The page is rendered from
// the same fields that events change, so that both always say the same.
type field struct {
	Text   string  `json:"t,omitempty"`
	Time   string  `json:"d,omitempty"` // for <time datetime>
	Exact  string  `json:"x,omitempty"` // the same for people, shown on hovering
	State  string  `json:"s,omitempty"` // for style
	Hidden bool    `json:"h,omitempty"`
	Value  float64 `json:"v,omitempty"` // of a meter, percent
}

// view is the status page's fields by their key, in one language.
type view map[string]field

// States of fields that are not a service's.
const (
	fieldGood = "ready"
	fieldWarn = "starting"
	fieldBad  = "unhealthy"
)

// row is a service's line.
type row struct {
	Name, Title string
}

// port is an interface's block.
type port struct {
	Name string
}

// ordered returns the services, those that people come for first.
func ordered(st *control.Status) []control.Service {
	if st == nil {
		return nil
	}
	rank := func(s control.Service) int {
		if i := slices.Index([]string{"zctrl", "mmr"}, s.Name); i >= 0 {
			return i
		}
		return 2
	}
	list := slices.Clone(st.Services)
	slices.SortStableFunc(list, func(a, b control.Service) int { return rank(a) - rank(b) })
	return list
}

// shape names the page's parts. When it changes, the page is loaded anew.
func shape(s *state) string {
	var b strings.Builder
	for _, v := range ordered(s.status) {
		b.WriteString(v.Name + " ")
	}
	b.WriteByte('|')
	for _, i := range s.interfaces {
		b.WriteString(" " + i.Name)
	}
	// Whoever looks on learns of a change that somebody else has made, and when
	// it is over.
	b.WriteString("|" + s.pending)
	if s.unowned() {
		b.WriteString("|unowned")
	}
	return b.String()
}

// newView puts the state into words.
func newView(s *state, w *look.Words) view {
	v := view{}
	v.appliance(s, w)
	v.zone(s, w)
	for _, i := range s.interfaces {
		v.port(w, i.Name, i.State, i.MAC.String(), i.MTU, len(i.Addresses), func(n int) string { return i.Addresses[n].String() })
	}
	if s.status != nil {
		for _, sv := range s.status.Services {
			v.service(s, w, sv)
		}
	}
	return v
}

func (v view) appliance(s *state, w *look.Words) {
	st := s.status
	v["shape"] = field{State: shape(s)}
	v["alert.init"] = field{Hidden: st != nil}
	v["alert.init.text"] = field{}
	if st == nil {
		v["alert.init.text"] = field{Text: api.Cut(s.err.Error(), 200)}
		v["verdict"] = field{Text: w.T("verdict.unknown"), State: fieldBad}
		for _, key := range []string{"alert.storage", "alert.last-boot"} {
			v[key] = field{Hidden: true}
		}
		return
	}
	v["alert.storage"] = field{Hidden: !st.Degraded()}
	v["alert.storage.title"], v["alert.storage.text"], v["alert.storage.reason"] = field{}, field{}, field{}
	if st.Degraded() {
		kind := "missing"
		if st.Perm.State == control.PermReadOnly {
			kind = "read-only"
		}
		v["alert.storage.title"] = field{Text: w.T("storage." + kind + ".title")}
		v["alert.storage.text"] = field{Text: w.T("storage." + kind)}
		v["alert.storage.reason"] = field{Text: api.Cut(st.Perm.Message, 400)}
	}
	v["alert.last-boot"] = field{Hidden: st.LastBoot == ""}
	v["alert.last-boot.text"] = field{Text: w.Detail(api.Cut(st.LastBoot, 400))}
	v["verdict"] = verdict(st, w)
	v["uptime"] = timeField(st.Booted, w.Duration(s.at.Sub(st.Booted)))
	v["booted"] = timeField(st.Booted, exact(st.Booted))
	v["boot-time"] = field{Text: w.T("boot.starting")}
	if st.BootTime > 0 {
		v["boot-time"] = field{Text: w.Seconds(st.BootTime)}
	}
	v["version"] = field{Text: api.Cut(st.Version, 80)}
	v["kernel"] = field{Text: api.Cut(st.Kernel, 80)}
	role := w.Role(api.Cut(st.Role, 40))
	if st.NextRole != "" {
		role = w.T("role.next", role, w.Role(api.Cut(st.NextRole, 40)))
	}
	v["role"] = field{Text: role}
	v["slot"] = field{Text: strings.ToUpper(api.Cut(st.Slot, 10))}
	v["firmware"] = field{Text: w.Or("firmware.", api.Cut(st.Firmware, 10))}
	v["watchdog"] = field{Text: api.Cut(st.Watchdog, 80)}
	if st.Watchdog == "none" || st.Watchdog == "" {
		v["watchdog"] = field{Text: w.T("watchdog.none"), State: fieldWarn}
	}
	perm := field{Text: w.Or("perm.", string(st.Perm.State)), State: fieldGood}
	if st.Degraded() {
		perm.State = fieldBad
	}
	v["perm"] = perm
	v["perm.size"], v["perm.used"] = field{}, field{Hidden: true}
	if st.Perm.Size > 0 {
		v["perm.size"] = field{Text: w.T("perm.free", w.Bytes(st.Perm.Free), w.Bytes(st.Perm.Size))}
		used := float64(st.Perm.Size-st.Perm.Free) / float64(st.Perm.Size)
		v["perm.used"] = field{Value: float64(int(1000*max(0, min(1, used)))) / 10}
	}
}

// verdict says in a few words how the appliance is.
func verdict(st *control.Status, w *look.Words) field {
	bad, other := 0, 0
	for _, s := range st.Services {
		switch s.State {
		case control.StateReady:
		case control.StateStarting, control.StateStopping:
			other++
		default:
			bad++
		}
	}
	running := len(st.Services) - bad - other
	switch {
	case st.Degraded():
		return field{Text: w.T("verdict.degraded"), State: fieldBad}
	case bad > 0:
		return field{Text: w.T("verdict.some", running, len(st.Services)), State: fieldBad}
	case other > 0:
		return field{Text: w.T("verdict.some", running, len(st.Services)), State: fieldWarn}
	}
	return field{Text: w.T("verdict.good"), State: fieldGood}
}

func (v view) service(s *state, w *look.Words, sv control.Service) {
	k := "svc." + sv.Name
	v[k] = field{State: string(sv.State)}
	v[k+".state"] = field{Text: w.State(sv.State), State: string(sv.State)}
	detail := w.Detail(api.Cut(sv.Detail, 300))
	if sv.State == control.StateStopped {
		detail = ""
	}
	if sv.CrashLoop {
		detail = strings.TrimSuffix(w.T("crash-loop")+" · "+detail, " · ")
	}
	v[k+".detail"] = field{Text: detail, Hidden: detail == ""}
	v[k+".since"] = field{Text: "–"}
	if !sv.Since.IsZero() {
		v[k+".since"] = timeField(sv.Since, w.Duration(s.at.Sub(sv.Since)))
	}
	v[k+".restarts"] = field{Text: w.T("number", sv.Restarts)}
	v[k+".exit"] = field{Hidden: true}
	v[k+".exit.time"], v[k+".exit.text"] = field{}, field{}
	if e := sv.LastExit; e != nil {
		v[k+".exit"] = field{}
		v[k+".exit.time"] = timeField(e.At, w.T("ago", w.Duration(s.at.Sub(e.At))))
		v[k+".exit.text"] = field{Text: api.Cut(w.Detail(e.Reason), 300)}
	}
	stopped := sv.State == control.StateStopped
	v[k+".start"] = field{Hidden: !stopped}
	v[k+".stop"] = field{Hidden: stopped || sv.State == control.StateStopping}
	v[k+".restart"] = field{Hidden: stopped || sv.State == control.StateStopping}
}

func (v view) port(w *look.Words, name, link, mac string, mtu, addresses int, address func(int) string) {
	k := "if." + name
	state := fieldGood
	if link != "up" {
		state = fieldWarn
	}
	v[k+".link"] = field{Text: w.Or("link.", link), State: state}
	v[k+".mac"] = field{Text: mac, Hidden: mac == ""}
	v[k+".mtu"] = field{Text: w.T("mtu", mtu)}
	var list []string
	for n := range min(addresses, 16) {
		list = append(list, address(n))
	}
	v[k+".addresses"] = field{Text: strings.Join(list, "\n")}
	if len(list) == 0 {
		v[k+".addresses"] = field{Text: w.T("no-address")}
	}
}

// changes returns the fields of v that old has not.
func (v view) changes(old view) view {
	out := view{}
	for k, f := range v {
		if o, ok := old[k]; !ok || o != f {
			out[k] = f
		}
	}
	return out
}

func timeField(t time.Time, text string) field {
	return field{Text: text, Time: t.UTC().Format(time.RFC3339), Exact: exact(t)}
}

// exact is a moment for people. The appliance knows no time zone but UTC.
func exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

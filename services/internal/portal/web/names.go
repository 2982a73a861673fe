package web

import (
	"github.com/parley-meet/parley/services/internal/portal/names"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// namesData is the part of Configure about certificates that the portal orders.
type namesData struct {
	Settings            names.Settings
	Rows                []nameRow
	Methods, Algorithms []option
}

type nameRow struct {
	names.Order
	Host, StateText, Mark string
	NextAt, ExpiresAt     moment
}

func (k *call) namesData(list []zones.Appliance) (namesData, error) {
	var d namesData
	var err error
	if d.Settings, err = k.p.cfg.Names.Settings(k.ctx(), k.who); err != nil {
		return d, err
	}
	orders, err := k.p.cfg.Names.Orders(k.ctx(), k.who)
	if err != nil {
		return d, err
	}
	for _, m := range []string{names.HTTP, names.DNS} {
		d.Methods = append(d.Methods, option{Value: m, Label: k.words.T("names.method." + m), Hint: k.words.T("names.method." + m + ".hint")})
	}
	for _, a := range []string{"hmac-sha256", "hmac-sha512"} {
		d.Algorithms = append(d.Algorithms, option{Value: a, Label: a})
	}
	for _, o := range orders {
		r := nameRow{Order: o, NextAt: when(o.Next), ExpiresAt: when(o.Expires)}
		for _, a := range list {
			if a.ID == o.Appliance {
				r.Host = a.Host
			}
		}
		state := o.State
		if state == names.Asked && !d.Settings.Terms {
			state = "off"
		}
		r.StateText = k.words.T("names.state." + state)
		r.Mark = map[string]string{names.Good: "ready", names.Failed: "unhealthy", names.Ordering: "starting", names.Asked: "starting", "off": "stopped"}[state]
		d.Rows = append(d.Rows, r)
	}
	return d, nil
}

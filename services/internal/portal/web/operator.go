package web

import (
	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// Pages of the portal's operators: accounts, operators, settings, the portal's
// own audit log.
func (p *Portal) operatorPages() []page {
	return []page{
		{Path: "/operator", Section: "operator", Title: "accounts.title", Template: "accounts", Need: needOperator, Load: func(k *call) (any, error) {
			q := k.r.URL.Query()
			f := directory.AccountFilter{Search: short(q.Get("q")), Type: people.Type(q.Get("type")), Page: pageOf(k)}
			list, err := k.dir().Accounts(k.ctx(), k.who, f)
			if err != nil {
				return nil, err
			}
			d := accountsData{Filter: f, Total: list.Total, Filtered: f.Search != "" || f.Type != "", Pager: k.pager("/operator", list.Page, list.Pages),
				Types: choicesOf(k, "type.", people.Types)}
			d.AnyTypes = anyOf(k, d.Types)
			for _, a := range list.Accounts {
				d.Rows = append(d.Rows, k.summaryRow(a))
			}
			d.Totals, err = k.dir().Totals(k.ctx(), k.who)
			return d, err
		}},
		{Path: "/operator/accounts/{id}", Section: "operator", Title: "accounts.title", Template: "accountof", NoTab: true, Need: needOperator, Load: func(k *call) (any, error) {
			a, err := k.dir().OneAccount(k.ctx(), k.who, k.r.PathValue("id"))
			d := accountOf{summaryRow: k.summaryRow(a)}
			for _, t := range people.Types {
				d.Types = append(d.Types, option{string(t), k.words.T("type." + string(t)), k.words.T("type." + string(t) + ".text")})
			}
			return d, err
		}},
		{Path: "/operator/operators", Section: "operator", Title: "operators.title", Template: "operators", Need: needOperator, Load: func(k *call) (any, error) {
			list, err := k.dir().Operators(k.ctx(), k.who)
			var d operatorsData
			for _, u := range list {
				d.Rows = append(d.Rows, operatorRow{k.userRow(directory.Person{User: u}), u.ID == k.who.User})
			}
			return d, err
		}},
		{Path: "/operator/settings", Section: "operator", Title: "portal.title", Template: "portal", Need: needOperator, Load: func(k *call) (any, error) {
			return k.dir().PortalSettings(k.ctx(), k.who)
		}},
		{Path: "/operator/audit", Section: "operator", Title: "audit.title", Template: "audit", Need: needOperator, Load: func(k *call) (any, error) {
			return k.auditData(true)
		}},
	}
}

type accountsData struct {
	Filter          directory.AccountFilter
	Filtered        bool
	Totals          directory.Totals
	Rows            []summaryRow
	Total           int
	Pager           pager
	Types, AnyTypes []option
}

type accountOf struct {
	summaryRow
	Types []option
}

// PageTitle is the account's name.
func (d accountOf) PageTitle() string { return d.Name }

type operatorsData struct{ Rows []operatorRow }

type operatorRow struct {
	userRow
	Self bool
}

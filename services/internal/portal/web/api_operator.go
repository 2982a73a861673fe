package web

import (
	"strconv"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// TypeInput is a type of account.
type TypeInput struct {
	Type people.Type `json:"type"`
}

func (p *Portal) operatorEndpoints() []endpoint {
	dir := p.cfg.Directory
	id := func(k *call) string { return k.r.PathValue("id") }
	out := []endpoint{
		api.Get("/api/v1/operator/totals", "getTotals", "What the portal holds, in numbers.", needOperator,
			func(k *call) (directory.Totals, error) { return dir.Totals(k.ctx(), k.who) }).With(person),
		api.Get("/api/v1/operator/accounts", "listAccounts", "Accounts by name, each with its owner and the number of its people.", needOperator,
			func(k *call) (directory.Accounts, error) {
				q := k.r.URL.Query()
				f := directory.AccountFilter{Search: short(q.Get("q")), Type: people.Type(q.Get("type")), Page: pageOf(k)}
				f.Size, _ = strconv.Atoi(q.Get("size")) // what is no number is the usual one
				return dir.Accounts(k.ctx(), k.who, f)
			}).With(person).With(query([]api.Param{
			{Name: "q", Summary: "what the name or the owner's address contain", Schema: "string"},
			{Name: "type", Summary: "basic, business, education or enterprise", Schema: "string"},
			{Name: "page", Summary: "from 1", Schema: "integer"},
			{Name: "size", Summary: "of a page, 200 at most", Schema: "integer"},
		})),
		api.Send("POST", "/api/v1/operator/accounts", "addAccount", "Make an account. Its owner is invited.", needOperator,
			func(k *call, in directory.NewAccount) (people.Account, error) {
				return dir.AddAccount(k.ctx(), k.who, in, string(k.words.Language()))
			}).With(person),
		api.Get("/api/v1/operator/accounts/{id}", "getAccountOf", "An account.", needOperator,
			func(k *call) (directory.Summary, error) { return dir.OneAccount(k.ctx(), k.who, id(k)) }).With(person),
		api.Send("PUT", "/api/v1/operator/accounts/{id}/type", "setAccountType", "Change an account's type.", needOperator,
			func(k *call, in TypeInput) (none, error) {
				return none{}, dir.SetType(k.ctx(), k.who, id(k), in.Type)
			}).With(person),
		api.Act("POST", "/api/v1/operator/accounts/{id}/suspend", "suspendAccount", "Keep an account's people out.", needOperator,
			func(k *call) (none, error) { return none{}, dir.SuspendAccount(k.ctx(), k.who, id(k)) }).With(person),
		api.Act("POST", "/api/v1/operator/accounts/{id}/resume", "resumeAccount", "Let an account in again that is suspended or closed.", needOperator,
			func(k *call) (none, error) { return none{}, dir.ResumeAccount(k.ctx(), k.who, id(k)) }).With(person),
		api.Get("/api/v1/operator/operators", "listOperators", "Who operates the portal.", needOperator,
			func(k *call) ([]people.User, error) { return dir.Operators(k.ctx(), k.who) }).With(person),
		api.Send("POST", "/api/v1/operator/operators", "addOperator", "Make somebody an operator, by the address. Who is not here is invited.", needOperator,
			func(k *call, in directory.OperatorInput) (none, error) {
				return none{}, dir.AddOperator(k.ctx(), k.who, in, string(k.words.Language()))
			}).With(person),
		api.Act("DELETE", "/api/v1/operator/operators/{id}", "removeOperator", "Take the portal away from an operator. The last one stays.", needOperator,
			func(k *call) (none, error) { return none{}, dir.RemoveOperator(k.ctx(), k.who, id(k)) }).With(person),
		api.Get("/api/v1/operator/settings", "getPortal", "The portal's settings.", needOperator,
			func(k *call) (directory.PortalSettings, error) { return dir.PortalSettings(k.ctx(), k.who) }).With(person),
		api.Send("PUT", "/api/v1/operator/settings", "setPortal", "Change the portal's settings.", needOperator,
			func(k *call, in directory.PortalSettings) (none, error) {
				return none{}, dir.SetPortalSettings(k.ctx(), k.who, in)
			}).With(person),
	}
	return append(out, p.auditEndpoints("/api/v1/operator/audit", "PortalAudit", true, needOperator, person)...)
}

package web

import (
	"net/http"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// CloseInput is the account's name, typed by its owner.
type CloseInput struct {
	Name string `json:"name"`
}

var auditParams = []api.Param{
	{Name: "action", Summary: "an action, or the part of one before a dot", Schema: "string"},
	{Name: "person", Summary: "what the name contains", Schema: "string"},
	{Name: "since", Summary: "a date in UTC, or a moment (RFC 3339)", Schema: "string"},
	{Name: "until", Summary: "a date in UTC, which is in it, or a moment, which is not", Schema: "string"},
	{Name: "before", Summary: "id of a line: only older ones", Schema: "string"},
}

func (p *Portal) accountEndpoints() []endpoint {
	dir := p.cfg.Directory
	read, write := scope("account:read"), scope("account:write")
	id := func(k *call) string { return k.r.PathValue("id") }
	out := []endpoint{
		api.Get("/api/v1/account", "getAccount", "The own account.", needAdmin,
			func(k *call) (directory.Settings, error) { return dir.Account(k.ctx(), k.who) }).With(read),
		api.Send("PUT", "/api/v1/account", "setAccount", "Change the account's name and the kind of people who have none of their own.", needAdmin,
			func(k *call, in directory.AccountInput) (none, error) {
				return none{}, dir.SetAccount(k.ctx(), k.who, in)
			}).With(write),
		api.Send("POST", "/api/v1/account/close", "closeAccount", "Close the account. Its data is deleted 30 days later.", needOwner,
			func(k *call, in CloseInput) (none, error) { return none{}, dir.Close(k.ctx(), k.who, in.Name) }).With(person),
		api.Get("/api/v1/account/subaccounts", "listSubaccounts", "The sub-accounts, and the zones that they can be given.", needOwner,
			func(k *call) (directory.Subs, error) { return dir.Subs(k.ctx(), k.who) }).With(read),
		api.Send("POST", "/api/v1/account/subaccounts", "addSubaccount", "Make a sub-account. Its owner is invited.", needOwner,
			func(k *call, in directory.NewAccount) (people.Account, error) {
				return dir.AddSub(k.ctx(), k.who, in, string(k.words.Language()))
			}).With(write),
		api.Act("POST", "/api/v1/account/subaccounts/{id}/suspend", "suspendSubaccount", "Keep a sub-account's people out.", needOwner,
			func(k *call) (none, error) { return none{}, dir.SuspendSub(k.ctx(), k.who, id(k)) }).With(write),
		api.Act("POST", "/api/v1/account/subaccounts/{id}/resume", "resumeSubaccount", "Let a sub-account's people in again.", needOwner,
			func(k *call) (none, error) { return none{}, dir.ResumeSub(k.ctx(), k.who, id(k)) }).With(write),
		api.Send("PUT", "/api/v1/account/subaccounts/{id}/zones", "setSubaccountZones", "Say which of the account's zones a sub-account may use.", needOwner,
			func(k *call, in directory.SubZones) (none, error) {
				return none{}, dir.SetSubZones(k.ctx(), k.who, id(k), in)
			}).With(write),
	}
	return append(out, p.auditEndpoints("/api/v1/account/audit", "Audit", false, needAdmin, read)...)
}

// auditEndpoints are those of an audit log: in parts, and as a whole in two
// formats.
func (p *Portal) auditEndpoints(path, name string, ofPortal bool, need api.Need, guard func(*endpoint)) []endpoint {
	dir := p.cfg.Directory
	export := func(k *call, kind string, each func(directory.Entry) error) error {
		// What is wrong must be said before the first line is sent.
		if _, err := dir.AuditLog(k.ctx(), k.who, ofPortal, directory.AuditFilter{Size: 1}); err != nil {
			return err
		}
		k.w.Header().Set("Content-Type", kind)
		return dir.Export(k.ctx(), k.who, ofPortal, auditFilter(k), each)
	}
	// cut ends an answer that has begun, so that nobody takes it for a whole one.
	cut := func(k *call, err error) error {
		if err != nil && k.w.Header().Get("Content-Type") != "" {
			panic(http.ErrAbortHandler)
		}
		return err
	}
	return []endpoint{
		api.Get(path, "list"+name, "The audit log, the newest line first.", need,
			func(k *call) (directory.AuditPage, error) {
				return dir.AuditLog(k.ctx(), k.who, ofPortal, auditFilter(k))
			}).With(guard).With(query(auditParams)),
		api.Raw("GET", path+".jsonl", "export"+name+"Lines", "The audit log, one JSON object a line.", need, "application/jsonl", func(k *call) error {
			return cut(k, export(k, "application/jsonl", directory.WriteJSONLines(k.w)))
		}).With(guard).With(query(auditParams)),
		api.Raw("GET", path+".csv", "export"+name+"CSV", "The audit log as comma-separated values with a header.", need, "text/csv", func(k *call) error {
			each, end := directory.WriteCSV(k.w)
			err := export(k, "text/csv; charset=utf-8", each)
			if err == nil {
				err = end()
			}
			return cut(k, err)
		}).With(guard).With(query(auditParams)),
	}
}

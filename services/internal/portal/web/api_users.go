package web

import (
	"strconv"
	"strings"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// ImportInput is people to invite: a list, or text as somebody pasted it, one a
// line: an address; NAME <ADDRESS>; or CSV of address, name, role, kind.
type ImportInput struct {
	People []directory.Invitee `json:"people,omitempty"`
	Text   string              `json:"text,omitempty"`
	Role   people.Role         `json:"role,omitempty"` // of lines that name none
	Kind   people.Kind         `json:"kind,omitempty"`
}

// Invited is what came of an import.
type Invited struct {
	People []people.User `json:"people"`
}

var listParams = []api.Param{
	{Name: "q", Summary: "what name or address contain", Schema: "string"},
	{Name: "role", Summary: "owner, admin or member", Schema: "string"},
	{Name: "kind", Summary: "the kind in effect: basic, licensed or onprem", Schema: "string"},
	{Name: "state", Summary: "active, invited or suspended", Schema: "string"},
	{Name: "group", Summary: "id of a group", Schema: "string"},
	{Name: "page", Summary: "from 1", Schema: "integer"},
	{Name: "size", Summary: "of a page, 200 at most", Schema: "integer"},
}

func query(p []api.Param) func(*endpoint) { return func(e *endpoint) { e.Query = p } }

func (p *Portal) usersEndpoints() []endpoint {
	dir := p.cfg.Directory
	read, write := scope("users:read"), scope("users:write")
	id := func(k *call) string { return k.r.PathValue("id") }
	language := func(k *call) string { return string(k.words.Language()) }
	return []endpoint{
		api.Get("/api/v1/users", "listUsers", "People of the account, by name.", needAdmin,
			func(k *call) (directory.People, error) { return dir.List(k.ctx(), k.who, peopleFilter(k)) }).With(read).With(query(listParams)),
		api.Send("POST", "/api/v1/users", "inviteUser", "Invite a person.", needAdmin,
			func(k *call, in directory.Invitee) (people.User, error) {
				list, err := dir.Invite(k.ctx(), k.who, []directory.Invitee{in}, language(k))
				if err != nil {
					return people.User{}, under(err, "people.0.")
				}
				return list[0], nil
			}).With(write),
		api.SendLarge("POST", "/api/v1/users/import", "inviteUsers", "Invite several people: all of them, or none when something is wrong with one.", needAdmin,
			func(k *call, in ImportInput) (Invited, error) {
				pasted := in.People == nil
				if pasted {
					var err error
					if in.People, err = directory.ParseInvitees("text", in.Text, in.Role, in.Kind); err != nil {
						return Invited{}, err
					}
				}
				list, err := dir.Invite(k.ctx(), k.who, in.People, language(k))
				if pasted {
					err = pastedFault(k, err, in.People)
				}
				return Invited{list}, err
			}).With(write),
		api.Send("POST", "/api/v1/users/kind", "setKinds", "Give several people a kind of their own, or take it away.", needAdmin,
			func(k *call, in directory.Bulk) (none, error) { return none{}, dir.SetKind(k.ctx(), k.who, in) }).With(write),
		api.Get("/api/v1/users/{id}", "getUser", "A person of the account, with his groups.", needAdmin,
			func(k *call) (directory.Details, error) { return dir.Get(k.ctx(), k.who, id(k)) }).With(read),
		api.Send("PUT", "/api/v1/users/{id}", "setUser", "Change a person; what is left out stays. An owner changes by a transfer alone.", needAdmin,
			func(k *call, in directory.Edit) (none, error) {
				return none{}, dir.Update(k.ctx(), k.who, id(k), in)
			}).With(write),
		api.Act("DELETE", "/api/v1/users/{id}", "removeUser", "Delete a person with his meetings.", needAdmin,
			func(k *call) (none, error) { return none{}, dir.Remove(k.ctx(), k.who, id(k)) }).With(write),
		api.Act("POST", "/api/v1/users/{id}/invite", "inviteAgain", "Send an invitation again. Links before it are not good any more.", needAdmin,
			func(k *call) (none, error) { return none{}, dir.Resend(k.ctx(), k.who, id(k), language(k)) }).With(write),
		api.Act("POST", "/api/v1/users/{id}/suspend", "suspendUser", "Keep a person out at once.", needAdmin,
			func(k *call) (none, error) { return none{}, dir.Suspend(k.ctx(), k.who, id(k)) }).With(write),
		api.Act("POST", "/api/v1/users/{id}/resume", "resumeUser", "Let a suspended person in again.", needAdmin,
			func(k *call) (none, error) { return none{}, dir.Resume(k.ctx(), k.who, id(k)) }).With(write),
		api.Act("POST", "/api/v1/users/{id}/owner", "transferAccount", "Make a person the account's owner. Who was it becomes an admin.", needOwner,
			func(k *call) (none, error) { return none{}, dir.Transfer(k.ctx(), k.who, id(k)) }).With(person),
		api.Get("/api/v1/groups", "listGroups", "The account's groups.", needAdmin,
			func(k *call) ([]directory.Group, error) { return dir.Groups(k.ctx(), k.who) }).With(read),
		api.Send("POST", "/api/v1/groups", "addGroup", "Make a group.", needAdmin,
			func(k *call, in directory.GroupInput) (directory.Group, error) {
				return dir.AddGroup(k.ctx(), k.who, in)
			}).With(write),
		api.Get("/api/v1/groups/{id}", "getGroup", "A group. Its people are /api/v1/users?group=ID.", needAdmin,
			func(k *call) (directory.Group, error) { return dir.GetGroup(k.ctx(), k.who, id(k)) }).With(read),
		api.Send("PUT", "/api/v1/groups/{id}", "setGroup", "Change a group.", needAdmin,
			func(k *call, in directory.GroupInput) (none, error) {
				return none{}, dir.SetGroup(k.ctx(), k.who, id(k), in)
			}).With(write),
		api.Act("DELETE", "/api/v1/groups/{id}", "removeGroup", "Delete a group. Its people stay.", needAdmin,
			func(k *call) (none, error) { return none{}, dir.RemoveGroup(k.ctx(), k.who, id(k)) }).With(write),
		api.Send("POST", "/api/v1/groups/{id}/members", "addMembers", "Put people into a group, by id or by address.", needAdmin,
			func(k *call, in directory.MembersInput) (none, error) {
				return none{}, dir.AddMembers(k.ctx(), k.who, id(k), in)
			}).With(write),
		api.Act("DELETE", "/api/v1/groups/{id}/members/{user}", "removeMember", "Take a person out of a group.", needAdmin,
			func(k *call) (none, error) {
				return none{}, dir.RemoveMember(k.ctx(), k.who, id(k), k.r.PathValue("user"))
			}).With(write),
	}
}

// under takes a prefix from the fields of faults.
func under(err error, prefix string) error {
	l := fault.Of(err)
	if l == nil {
		return err
	}
	out := make(fault.List, len(l))
	for i, f := range l {
		f.Field = strings.TrimPrefix(f.Field, prefix)
		out[i] = f
	}
	return out
}

// maxPastedFaults is how many faults of a pasted list are told at a time.
const maxPastedFaults = 20

// pastedFault tells what is wrong with people that came as text by their
// addresses, in the field of the text.
func pastedFault(k *call, err error, list []directory.Invitee) error {
	l := fault.Of(err)
	if l == nil {
		return err
	}
	var out fault.List
	for _, f := range l {
		number, _, _ := strings.Cut(strings.TrimPrefix(f.Field, "people."), ".")
		i, err := strconv.Atoi(number)
		if err != nil || i < 0 || i >= len(list) {
			f.Field = "text"
			out = append(out, f)
			continue
		}
		out.Add("text", "people-of", api.Cut(list[i].Email, 60), f.Text(k.words))
		if len(out) == maxPastedFaults {
			break
		}
	}
	return out
}

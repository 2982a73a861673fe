package web

import (
	"net/url"
	"slices"
	"strconv"

	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// Pages of an account's people and groups.
func (p *Portal) usersPages() []page {
	return []page{
		{Path: "/users", Section: "users", Title: "users.title", Template: "users", Need: needAdmin, Load: func(k *call) (any, error) {
			f := peopleFilter(k)
			list, err := k.dir().List(k.ctx(), k.who, f)
			if err != nil {
				return nil, err
			}
			d := usersData{Filter: f, Total: list.Total, Pager: k.pager("/users", list.Page, list.Pages), Kinds: k.kinds(true)}
			d.Filtered = f.Search != "" || f.Role != "" || f.Kind != "" || f.State != ""
			d.Roles = anyOf(k, choicesOf(k, "users.role.", []people.Role{people.Owner, people.Admin, people.Member}))
			d.AnyKinds = anyOf(k, choicesOf(k, "users.kind.", directory.Kinds))
			d.States = anyOf(k, choicesOf(k, "users.state.", []people.State{people.Active, people.Invited, people.Suspended}))
			for _, u := range list.People {
				d.Rows = append(d.Rows, k.userRow(u))
			}
			return d, nil
		}},
		{Path: "/users/invite", Section: "users", Title: "users.invite.title", Template: "users_invite", NoTab: true, Need: needAdmin, Load: func(k *call) (any, error) {
			return usersData{Roles: k.someRoles(), Kinds: k.kinds(true)}, nil
		}},
		{Path: "/users/groups", Section: "users", Title: "groups.title", Template: "groups", Need: needAdmin, Load: func(k *call) (any, error) {
			list, err := k.dir().Groups(k.ctx(), k.who)
			d := groupsData{Kinds: k.groupKinds()}
			for _, g := range list {
				d.Rows = append(d.Rows, groupRow{g, k.groupKind(g.Kind)})
			}
			return d, err
		}},
		{Path: "/users/groups/{id}", Section: "users", Title: "groups.title", Template: "group", NoTab: true, Need: needAdmin, Load: func(k *call) (any, error) {
			g, err := k.dir().GetGroup(k.ctx(), k.who, k.r.PathValue("id"))
			if err != nil {
				return nil, err
			}
			list, err := k.dir().List(k.ctx(), k.who, directory.Filter{Group: g.ID, Page: pageOf(k)})
			if err != nil {
				return nil, err
			}
			d := groupData{Group: g, Kinds: k.groupKinds(), Pager: k.pager(k.r.URL.Path, list.Page, list.Pages)}
			for _, u := range list.People {
				d.Rows = append(d.Rows, k.userRow(u))
			}
			return d, nil
		}},
		{Path: "/users/{id}", Section: "users", Title: "users.title", Template: "user", NoTab: true, Need: needAdmin, Load: func(k *call) (any, error) {
			u, err := k.dir().Get(k.ctx(), k.who, k.r.PathValue("id"))
			if err != nil {
				return nil, err
			}
			groups, err := k.dir().Groups(k.ctx(), k.who)
			if err != nil {
				return nil, err
			}
			d := userData{userRow: k.userRow(u.Person), Made: when(u.Created), Roles: k.someRoles(), Kinds: k.kinds(true)}
			d.Self, d.IsOwner, d.ByOwner = u.ID == k.who.User, u.Role == people.Owner, k.who.At(people.Owner)
			d.Fixed = d.IsOwner && !d.ByOwner
			d.Others = !d.IsOwner && !d.Self && !u.Operator
			for _, g := range groups {
				c := groupChoice{ID: g.ID, Name: g.Name, In: slices.Contains(u.Groups, g.ID)}
				if g.Kind != "" {
					c.Kind = k.groupKind(g.Kind)
				}
				d.Groups = append(d.Groups, c)
			}
			return d, nil
		}},
	}
}

func (k *call) dir() *directory.Service { return k.p.cfg.Directory }

type usersData struct {
	Filter                         directory.Filter
	Filtered                       bool
	Rows                           []userRow
	Total                          int
	Pager                          pager
	Roles, Kinds, AnyKinds, States []option
}

type userRow struct {
	directory.Person
	RoleText, KindText, From, StateText string
	Mark                                string // of the state
	UsedAt                              moment
}

func (k *call) userRow(u directory.Person) userRow {
	mark := map[people.State]string{people.Active: "ready", people.Invited: "starting", people.Unverified: "starting", people.Suspended: "stopped"}[u.State]
	return userRow{u, k.words.T("users.role." + string(u.Role)), k.words.T("users.kind." + string(u.Effective)), k.words.T("users.from." + string(u.Source)),
		k.words.T("users.state." + string(u.State)), mark, when(u.Used)}
}

type userData struct {
	userRow
	Made         moment
	Roles, Kinds []option
	Groups       []groupChoice
	Self         bool
	IsOwner      bool // he is
	ByOwner      bool // whoever looks is the owner
	Fixed        bool // an owner that an admin looks at
	Others       bool // may be suspended and removed
}

// PageTitle is the person's name.
func (d userData) PageTitle() string { return d.Name }

type groupChoice struct {
	ID, Name, Kind string
	In             bool
}

type groupsData struct {
	Rows  []groupRow
	Kinds []option
}

type groupRow struct {
	directory.Group
	KindText string
}

type groupData struct {
	Group directory.Group
	Rows  []userRow
	Pager pager
	Kinds []option
}

// PageTitle is the group's name.
func (d groupData) PageTitle() string { return d.Group.Name }

// anyOf puts one before that leaves the choice open.
func anyOf(k *call, list []option) []option {
	return append([]option{{"", k.words.T("users.any"), ""}}, list...)
}

// choicesOf makes options of words.
func choicesOf[T ~string](k *call, prefix string, values []T) []option {
	var out []option
	for _, v := range values {
		out = append(out, option{string(v), k.words.T(prefix + string(v)), ""})
	}
	return out
}

func (k *call) someRoles() []option {
	return choicesOf(k, "users.role.", []people.Role{people.Member, people.Admin})
}

// kinds are the kinds that one can be given; inherit adds none of his own.
func (k *call) kinds(inherit bool) []option {
	var out []option
	if inherit {
		out = append(out, option{"", k.words.T("users.kind.inherited"), ""})
	}
	for _, v := range directory.Kinds {
		out = append(out, option{string(v), k.words.T("users.kind." + string(v)), k.words.T("users.kind." + string(v) + ".text")})
	}
	return out
}

func (k *call) groupKinds() []option {
	out := k.kinds(true)
	out[0].Label = k.words.T("groups.kind.none")
	return out
}

func (k *call) groupKind(v people.Kind) string {
	if v == "" {
		return k.words.T("groups.kind.none")
	}
	return k.words.T("users.kind." + string(v))
}

// pager are the links to a list's other parts.
type pager struct {
	Page, Pages    int
	Before, Behind string // addresses; "" is none
}

// pageOf reads ?page=.
func pageOf(k *call) directory.Page {
	n, _ := strconv.Atoi(k.r.URL.Query().Get("page")) // what is no number is the first
	return directory.Page{Number: n}
}

func (k *call) pager(path string, n, of int) pager {
	at := func(n int) string {
		q := url.Values{}
		for name, v := range k.r.URL.Query() {
			if name != "page" && len(v) > 0 && v[0] != "" {
				q.Set(name, v[0])
			}
		}
		q.Set("page", strconv.Itoa(n))
		return path + "?" + q.Encode()
	}
	p := pager{Page: n, Pages: of}
	if n > 1 {
		p.Before = at(min(n-1, of))
	}
	if n < of {
		p.Behind = at(n + 1)
	}
	return p
}

// peopleFilter reads a filter from the query, of the page and of the API.
func peopleFilter(k *call) directory.Filter {
	q := k.r.URL.Query()
	f := directory.Filter{Search: short(q.Get("q")), Role: people.Role(q.Get("role")), Kind: people.Kind(q.Get("kind")), State: people.State(q.Get("state")), Group: q.Get("group"), Page: pageOf(k)}
	f.Size, _ = strconv.Atoi(q.Get("size")) // what is no number is the usual one
	return f
}

// short bounds what somebody searches for.
func short(s string) string {
	if r := []rune(s); len(r) > 100 {
		return string(r[:100])
	}
	return s
}

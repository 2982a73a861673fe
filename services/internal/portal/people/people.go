// Package people is who uses the portal: accounts, the people in them, what they
// may do, their sessions and tokens, and the audit log.
//
// A person belongs to one account, or to none when he operates the portal
// itself. Every operation that other packages offer takes the Actor who wants it
// and reaches only rows of Actor.Account; no account's id is ever read from a
// request, but for the operator's own operations.
package people

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Errors that all operations share.
var (
	// ErrDenied means that the actor's role does not allow it.
	ErrDenied = errors.New("this needs another role")
	// ErrUnknown means that there is no such thing in the actor's account;
	// whether another account has it cannot be told from it.
	ErrUnknown = errors.New("there is no such thing")
)

// Type is a type of account.
type Type string

// The types. A Basic account has no meeting connector.
const (
	Basic      Type = "basic"
	Business   Type = "business"
	Education  Type = "education"
	Enterprise Type = "enterprise"
)

// Types lists them.
var Types = []Type{Basic, Business, Education, Enterprise}

// Connector reports whether accounts of the type may enable the meeting
// connector.
func (t Type) Connector() bool { return t == Business || t == Education || t == Enterprise }

// Role is what a person may do in the account.
type Role string

// The roles, each with what those after it may do.
const (
	Owner  Role = "owner"  // one of each account; everything, also the account itself
	Admin  Role = "admin"  // people, the meeting connector, settings
	Member Role = "member" // own meetings
)

// Kind is what a person's meetings are.
type Kind string

// The kinds. "" is inherited: from the person's groups, or from the account.
const (
	KindBasic    Kind = "basic"    // joins meetings, hosts none
	KindLicensed Kind = "licensed" // hosts where the portal's operator offers media; this portal has none
	KindOnPrem   Kind = "onprem"   // hosts through the account's meeting connector
)

// State is a person's state.
type State string

// The states. Only an active person can sign in.
const (
	Unverified State = "unverified" // signed up, the address is not proven
	Invited    State = "invited"    // made by an admin, has no password yet
	Active     State = "active"
	Suspended  State = "suspended"
)

// Account is an account.
type Account struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Type        Type      `json:"type"`
	Parent      string    `json:"parent,omitempty"` // of a sub-account
	DefaultKind Kind      `json:"defaultKind"`
	Enabled     time.Time `json:"enabled,omitzero"`    // the meeting connector; zero: it is off
	Production  time.Time `json:"production,omitzero"` // zero: test
	Suspended   time.Time `json:"suspended,omitzero"`
	Closed      time.Time `json:"closed,omitzero"` // then it is suspended too
	Created     time.Time `json:"created"`
}

// User is a person.
type User struct {
	ID       string    `json:"id"`
	Account  string    `json:"account,omitempty"` // id
	Email    string    `json:"email"`
	Name     string    `json:"name"`
	Role     Role      `json:"role,omitempty"`
	Kind     Kind      `json:"kind,omitempty"` // "": inherited
	Operator bool      `json:"operator,omitempty"`
	State    State     `json:"state"`
	Language string    `json:"language,omitempty"`
	Timezone string    `json:"timezone,omitempty"` // IANA name
	Created  time.Time `json:"created"`
	Used     time.Time `json:"used,omitzero"` // last sign-in, or use of a token
}

// Actor is who wants something.
type Actor struct {
	User     string // id
	Account  string // id; "": an operator without an account
	Name     string
	Email    string
	Role     Role
	Operator bool
	Token    string   // id of the API token; "" is the person himself
	Scopes   []string // of that token
	From     string   // address
	Via      string   // "web", "api", "link", "command"
}

// At reports whether the actor has the role or one above it.
func (a Actor) At(r Role) bool {
	order := []Role{Owner, Admin, Member}
	have := slices.Index(order, a.Role)
	return a.Account != "" && have >= 0 && have <= slices.Index(order, r)
}

// Scoped reports whether the actor is a person, or a token with the scope.
func (a Actor) Scoped(scope string) bool { return a.Token == "" || slices.Contains(a.Scopes, scope) }

const userColumns = "id, COALESCE(account_id, ''), email, name, role, kind, operator, state, language, timezone, created, used"

func scanUser(scan func(...any) error) (User, error) {
	var u User
	var created, used int64
	err := scan(&u.ID, &u.Account, &u.Email, &u.Name, &u.Role, &u.Kind, &u.Operator, &u.State, &u.Language, &u.Timezone, &created, &used)
	u.Created, u.Used = store.FromMillis(created), store.FromMillis(used)
	return u, err
}

// GetUser returns a person, whatever the account.
func GetUser(tx *store.Tx, id string) (User, error) {
	return scanUser(tx.Row("SELECT "+userColumns+" FROM users WHERE id = ?", id).Scan)
}

// FindUser returns the person of an e-mail address (in small letters).
func FindUser(tx *store.Tx, email string) (User, error) {
	return scanUser(tx.Row("SELECT "+userColumns+" FROM users WHERE email = ?", email).Scan)
}

// InsertUser adds a person; ID and Created are filled in where they are empty.
func InsertUser(tx *store.Tx, u User) (User, error) {
	if u.ID == "" {
		u.ID = store.NewID()
	}
	if u.Created.IsZero() {
		u.Created = time.Now()
	}
	var account any
	if u.Account != "" {
		account = u.Account
	}
	_, err := tx.Exec("INSERT INTO users (id, account_id, email, name, name_key, role, kind, operator, state, language, timezone, created) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
		u.ID, account, u.Email, u.Name, Key(u.Name), string(u.Role), string(u.Kind), u.Operator, string(u.State), u.Language, u.Timezone, store.Millis(u.Created))
	return u, err
}

const accountColumns = "id, name, type, COALESCE(parent_id, ''), default_kind, connector_enabled, production, suspended, closed, created"

func scanAccount(scan func(...any) error) (Account, error) {
	var a Account
	var enabled, production, suspended, closed, created int64
	err := scan(&a.ID, &a.Name, &a.Type, &a.Parent, &a.DefaultKind, &enabled, &production, &suspended, &closed, &created)
	a.Enabled, a.Production, a.Suspended = store.FromMillis(enabled), store.FromMillis(production), store.FromMillis(suspended)
	a.Closed, a.Created = store.FromMillis(closed), store.FromMillis(created)
	return a, err
}

// GetAccount returns an account.
func GetAccount(tx *store.Tx, id string) (Account, error) {
	return scanAccount(tx.Row("SELECT "+accountColumns+" FROM accounts WHERE id = ?", id).Scan)
}

// InsertAccount adds an account; ID and Created are filled in where they are
// empty.
func InsertAccount(tx *store.Tx, a Account) (Account, error) {
	if a.ID == "" {
		a.ID = store.NewID()
	}
	if a.Created.IsZero() {
		a.Created = time.Now()
	}
	var parent any
	if a.Parent != "" {
		parent = a.Parent
	}
	_, err := tx.Exec("INSERT INTO accounts (id, name, name_key, type, parent_id, default_kind, created) VALUES (?,?,?,?,?,?,?)",
		a.ID, a.Name, Key(a.Name), string(a.Type), parent, string(a.DefaultKind), store.Millis(a.Created))
	return a, err
}

// Key is what a name is searched and sorted by: small letters of any script,
// which SQLite cannot make by itself. Whoever changes a name changes it too.
func Key(name string) string { return strings.ToLower(name) }

// EffectiveKind returns what a person's meetings are: his own kind, or else the
// highest of his groups, or else his account's.
func EffectiveKind(tx *store.Tx, u User) (Kind, error) {
	if u.Kind != "" || u.Account == "" {
		return u.Kind, nil
	}
	best := Kind("")
	rank := []Kind{"", KindBasic, KindLicensed, KindOnPrem}
	err := tx.Each(func(scan func(...any) error) error {
		var k Kind
		if err := scan(&k); err != nil {
			return err
		}
		if slices.Index(rank, k) > slices.Index(rank, best) {
			best = k
		}
		return nil
	}, "SELECT g.kind FROM groups g JOIN group_members m ON m.group_id = g.id WHERE m.user_id = ?", u.ID)
	if err != nil || best != "" {
		return best, err
	}
	a, err := GetAccount(tx, u.Account)
	return a.DefaultKind, err
}

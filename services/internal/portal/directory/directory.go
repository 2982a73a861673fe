// Package directory is who is in an account, and which accounts there are:
// people, groups, sub-accounts, the audit log, and what the portal's operators
// decide of accounts.
//
// Every operation reads the actor's role again in its own transaction: one whose
// role was taken away a moment ago does nothing any more, and of two who act at
// once the second sees what the first has done. An account has one owner, who
// changes by Transfer alone; so it always has one.
package directory

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/mail"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// Bounds.
const (
	maxText   = 100 // characters of a name
	maxInvite = 500 // people of one request
	maxBulk   = 500
	maxGroups = 200 // of an account
	maxSubs   = 500 // sub-accounts of an account
	pageSize  = 50
	maxPage   = 200
)

// Service does it. It is safe for concurrent use.
type Service struct {
	db    *store.DB
	vault *vault.Vault
	log   *slog.Logger
}

// New returns one. log may be nil.
func New(db *store.DB, v *vault.Vault, log *slog.Logger) *Service {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{db, v, log}
}

// now checks in tx that the actor still has the role in his account.
func now(tx *store.Tx, who people.Actor, r people.Role) error {
	if !who.At(r) {
		return people.ErrDenied
	}
	u, err := people.GetUser(tx, who.User)
	if errors.Is(err, store.ErrNotFound) {
		return people.ErrDenied
	}
	if err != nil {
		return err
	}
	if u.Account != who.Account || u.State != people.Active || !(people.Actor{Account: u.Account, Role: u.Role}).At(r) {
		return people.ErrDenied
	}
	return nil
}

// operates checks in tx that the actor still operates the portal.
func operates(tx *store.Tx, who people.Actor) error {
	if !who.Operator {
		return people.ErrDenied
	}
	u, err := people.GetUser(tx, who.User)
	if errors.Is(err, store.ErrNotFound) || err == nil && (!u.Operator || u.State != people.Active) {
		return people.ErrDenied
	}
	return err
}

// portal is the actor as what he does is written into the portal's own audit
// log, and not into that of the account that he may be in.
func portal(who people.Actor) people.Actor {
	who.Account = ""
	return who
}

// within is the actor as what he does to another account, as an operator or from
// the account above, is written into that one's audit log.
func within(who people.Actor, account string) people.Actor {
	who.Account = account
	return who
}

// userOf returns a person of the actor's account.
func userOf(tx *store.Tx, who people.Actor, id string) (people.User, error) {
	u, err := people.GetUser(tx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && (u.Account != who.Account || u.Account == "") {
		return people.User{}, people.ErrUnknown
	}
	return u, err
}

// text checks a name of a field.
func text(l *fault.List, field string, s *string) {
	*s = strings.TrimSpace(*s)
	switch {
	case *s == "":
		l.Add(field, "required")
	case utf8.RuneCountInString(*s) > maxText:
		l.Add(field, "long", maxText)
	case !utf8.ValidString(*s) || api.Cut(*s, maxText) != *s:
		l.Add(field, "control-character")
	}
}

// Kinds lists the kinds that a person, a group or an account can have.
var Kinds = []people.Kind{people.KindBasic, people.KindLicensed, people.KindOnPrem}

// kind checks one; "" is inherited, where that is allowed.
func kind(l *fault.List, field string, k people.Kind, inherit bool) {
	if k == "" && inherit || slices.Contains(Kinds, k) {
		return
	}
	l.Add(field, "choice", api.Cut(string(k), 20), "basic, licensed, onprem")
}

// like is a pattern of SQL's LIKE … ESCAPE '\' for what contains s.
func like(s string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(s) + "%"
}

// Page says which part of a list is wanted. The zero Page is the first.
type Page struct {
	Number int // from 1
	Size   int // 0 is pageSize, maxPage at most
}

func (p Page) bounds() (limit, offset int) {
	size := p.Size
	if size <= 0 {
		size = pageSize
	}
	size = min(size, maxPage)
	// A number that nobody reaches must not overflow.
	return size, (min(max(p.Number, 1), 1_000_000) - 1) * size
}

// Pages returns of how many parts a list of total elements is.
func (p Page) Pages(total int) int {
	size, _ := p.bounds()
	return max(1, (total+size-1)/size)
}

// queueFault puts the outbox's bounds into words.
func queueFault(field string, err error) error {
	switch {
	case errors.Is(err, mail.ErrMany):
		return fault.New(field, "mail-many")
	case errors.Is(err, mail.ErrFull):
		return fault.New("", "mail-full")
	}
	return err
}

// invite sends a person the link on which he chooses his password.
func (s *Service) invite(tx *store.Tx, u people.User, account, by, language, field string) error {
	secret, err := people.MakeLink(tx, people.LinkInvite, u.ID, "", people.InviteTTL)
	if err != nil {
		return err
	}
	m := mail.Message{To: u.Email, Kind: "invite", Language: language, Args: []string{account, by}, Link: people.LinkInvite.Path(secret)}
	return queueFault(field, mail.Queue(tx, s.vault, m, people.InviteTTL))
}

// addInvited adds a person who is invited; the address must be nobody's.
func (s *Service) addInvited(tx *store.Tx, u people.User, account, by, language, field string) (people.User, error) {
	if _, err := people.FindUser(tx, u.Email); err == nil {
		return u, fault.New(field, "person-exists")
	} else if !errors.Is(err, store.ErrNotFound) {
		return u, err
	}
	u.State = people.Invited
	u, err := people.InsertUser(tx, u)
	if errors.Is(err, store.ErrConflict) { // somebody else was faster, and ended this transaction
		return u, raced{fault.New(field, "person-exists")}
	}
	if err != nil {
		return u, err
	}
	return u, s.invite(tx, u, account, by, language, field)
}

// raced is a fault after which PostgreSQL takes no more statements of the
// transaction.
type raced struct{ fault.List }

func (r raced) Unwrap() error { return r.List }

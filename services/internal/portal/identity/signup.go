package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/mail"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Mode is who may sign up.
type Mode string

// The modes.
const (
	SignupOpen    Mode = "open"    // everybody
	SignupInvited Mode = "invited" // whom an operator sends a link
	SignupClosed  Mode = "closed"
)

// modes lists them.
var modes = []Mode{SignupOpen, SignupInvited, SignupClosed}

// ErrClosed means that nobody may sign up, or not without a link.
var ErrClosed = errors.New("sign-up is not open")

const modeSetting = "signup"

func mode(tx *store.Tx) (Mode, error) {
	var m []byte
	err := tx.Row("SELECT value FROM settings WHERE name = ?", modeSetting).Scan(&m)
	if errors.Is(err, store.ErrNotFound) {
		return SignupOpen, nil
	}
	return Mode(m), err
}

// SignupMode returns who may sign up.
func (s *Service) SignupMode(ctx context.Context) (m Mode, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error { m, err = mode(tx); return err })
	return m, err
}

// SetSignupMode changes who may sign up.
func (s *Service) SetSignupMode(ctx context.Context, who people.Actor, m Mode) error {
	if !who.Operator {
		return people.ErrDenied
	}
	if !slices.Contains(modes, m) {
		return fault.New("mode", "choice", api.Cut(string(m), 20), "open, invited, closed")
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec("INSERT INTO settings (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", modeSetting, []byte(m)); err != nil {
			return err
		}
		return people.Audit(tx, who, "signup.mode", string(m), nil)
	})
}

// InviteAccount sends a link with which somebody may open an account.
func (s *Service) InviteAccount(ctx context.Context, who people.Actor, email, language string) error {
	if !who.Operator {
		return people.ErrDenied
	}
	email, err := people.NormalizeEmail("email", email)
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		secret, err := people.MakeLink(tx, people.LinkSignup, "", email, people.InviteTTL)
		if err != nil {
			return err
		}
		if err := mail.Queue(tx, s.vault, mail.Message{To: email, Kind: "signup", Language: language, Link: people.LinkSignup.Path(secret)}, people.InviteTTL); err != nil {
			return queueFault(err)
		}
		return people.Audit(tx, who, "signup.invite", email, nil)
	})
}

// queueFault puts the outbox's bounds into words for one who may know of them.
func queueFault(err error) error {
	switch {
	case errors.Is(err, mail.ErrMany):
		return fault.New("email", "mail-many")
	case errors.Is(err, mail.ErrFull):
		return fault.New("", "mail-full")
	}
	return err
}

// Signup is what a new person tells.
type Signup struct {
	Name     string      `json:"name"`
	Account  string      `json:"account"` // its name
	Type     people.Type `json:"type"`
	Email    string      `json:"email"`
	Password string      `json:"password"`
	Link     string      `json:"link,omitempty"` // of an invitation
}

// pending is a sign-up whose address is not proven. It is kept in its link
// alone: there is no account and no person until then, so that nobody keeps
// somebody else's address, and two who sign up with one each have a link of
// their own.
type pending struct {
	Signup
	Hash     string `json:"hash"`
	Language string `json:"language"`
}

// maxText is the length of a name in characters.
const maxText = 100

// text checks a name.
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

// SignUp begins a sign-up: a link goes to the address. Whether that has an
// account already is only told in the mail; the answer and its cost are the same.
// handle is for Resend.
func (s *Service) SignUp(ctx context.Context, in Signup, language string) (handle string, err error) {
	var l fault.List
	text(&l, "name", &in.Name)
	text(&l, "account", &in.Account)
	if !slices.Contains(people.Types, in.Type) {
		l.Add("type", "choice", api.Cut(string(in.Type), 20), "basic, business, education, enterprise")
	}
	email, err := people.NormalizeEmail("email", in.Email)
	l = append(l, fault.Of(err)...)
	l = append(l, judge("password", in.Password)...)
	if err := l.Err(); err != nil {
		return "", err
	}
	invitation := in.Link
	in.Email, in.Link = email, ""
	// Before the hash, which costs something.
	may := func(tx *store.Tx, now time.Time) error {
		m, err := mode(tx)
		if err != nil || m == SignupOpen {
			return err
		}
		if m == SignupInvited && invitation != "" {
			if _, err := people.LookLink(tx, people.LinkSignup, invitation, now); err == nil || !errors.Is(err, people.ErrLink) {
				return err
			}
		}
		return ErrClosed
	}
	if err := s.db.Read(ctx, func(tx *store.Tx) error { return may(tx, time.Now()) }); err != nil {
		return "", err
	}
	hash, err := s.hash(ctx, "password", in.Password)
	if err != nil {
		return "", err
	}
	in.Password = ""
	data, err := json.Marshal(pending{Signup: in, Hash: hash, Language: language})
	if err != nil {
		return "", err
	}
	sealed := base64.StdEncoding.EncodeToString(s.vault.Seal("signup", "", data))
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		if err := may(tx, time.Now()); err != nil {
			return err
		}
		taken := false
		if u, err := people.FindUser(tx, email); err == nil {
			taken = !unclaimed(u)
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if taken { // its link does nothing, and costs as much
			secret, err := people.MakeLink(tx, "none", "", sealed, people.VerifyTTL)
			if err != nil {
				return err
			}
			handle = people.Sum(secret)
			return mail.Queue(tx, s.vault, mail.Message{To: email, Kind: "taken", Language: language, Link: "/reset"}, people.VerifyTTL)
		}
		secret, err := people.MakeLink(tx, people.LinkVerify, "", sealed, people.VerifyTTL)
		if err != nil {
			return err
		}
		handle = people.Sum(secret)
		return mail.Queue(tx, s.vault, mail.Message{To: email, Kind: "verify", Language: language, Link: people.LinkVerify.Path(secret)}, people.VerifyTTL)
	})
	if errors.Is(err, mail.ErrMany) { // the mails before it are there; nothing is told
		return people.Sum(people.NewSecret()), nil
	}
	return handle, err
}

// Resend sends the mail of a sign-up again. A handle that is of none does
// nothing.
func (s *Service) Resend(ctx context.Context, handle string) error {
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		var sealed string
		err := tx.Row("SELECT data FROM links WHERE sum = ? AND purpose = ? AND expires > ?", handle, string(people.LinkVerify), store.Millis(time.Now())).Scan(&sealed)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		p, err := s.pending(sealed)
		if err != nil {
			return err
		}
		secret, err := people.MakeLink(tx, people.LinkVerify, "", sealed, people.VerifyTTL)
		if err != nil {
			return err
		}
		return mail.Queue(tx, s.vault, mail.Message{To: p.Email, Kind: "verify", Language: p.Language, Link: people.LinkVerify.Path(secret)}, people.VerifyTTL)
	})
	if errors.Is(err, mail.ErrMany) {
		return nil
	}
	return err
}

func (s *Service) pending(sealed string) (pending, error) {
	var p pending
	b, err := base64.StdEncoding.DecodeString(sealed)
	if err == nil {
		b, err = s.vault.Open("signup", "", b)
	}
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	return p, err
}

// Verify ends a sign-up: the link proves the address, and the password proves
// that it is the person who signed up, and not one who was made to follow a
// link. It makes the account with him as its owner.
func (s *Service) Verify(ctx context.Context, link, password, from string) (people.User, error) {
	var p pending
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		l, err := people.LookLink(tx, people.LinkVerify, link, time.Now())
		if err == nil {
			p, err = s.pending(l.Data)
		}
		return err
	})
	if err != nil {
		return people.User{}, linkFault(err)
	}
	h, err := credential.ParseHash(p.Hash)
	if err != nil {
		return people.User{}, err
	}
	same := false
	if len(password) <= credential.MaxSize {
		if same, err = s.hasher.Verify(ctx, credential.Credential{Hash: h}, password); err != nil {
			return people.User{}, err
		}
	}
	if !same {
		return people.User{}, fault.New("password", "password-signup")
	}
	var u people.User
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		now := time.Now()
		if _, err := people.TakeLink(tx, people.LinkVerify, link, now); err != nil {
			return err
		}
		if err := claim(tx, p.Email, from); err != nil {
			return err
		}
		a, err := people.InsertAccount(tx, people.Account{Name: p.Account, Type: p.Type, DefaultKind: people.KindBasic})
		if err != nil {
			return err
		}
		u, err = people.InsertUser(tx, people.User{Account: a.ID, Email: p.Email, Name: p.Name, Role: people.Owner, State: people.Active, Language: p.Language})
		if err != nil {
			return err
		}
		if err := setPassword(tx, u.ID, p.Hash, now); err != nil {
			return err
		}
		if err := mail.Done(tx, u.Email, "verify"); err != nil {
			return err
		}
		return people.Audit(tx, ActorOf(u, from, "web"), "signup", a.ID, map[string]any{"type": p.Type, "name": p.Account})
	})
	return u, linkFault(err)
}

// unclaimed reports whether somebody was invited to an account and never came:
// nobody has proven that the address is his, and whoever does so elsewhere goes
// before an account that only named it. An owner stays: an account would have
// none.
func unclaimed(u people.User) bool {
	return u.State == people.Invited && u.Role != people.Owner && !u.Operator
}

// claim makes an address free for one who has proven it; people.ErrLink when it is
// somebody's: another link of the same address came first.
func claim(tx *store.Tx, email, from string) error {
	had, err := people.FindUser(tx, email)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err == nil && !unclaimed(had):
		return people.ErrLink
	case err != nil:
		return err
	}
	return disown(tx, had, from)
}

// disown takes a person who is unclaimed out of the account that has invited him.
// What names him as one of those who may use a zone stays: a zone that is for him
// alone must not become everybody's.
func disown(tx *store.Tx, u people.User, from string) error {
	if _, err := tx.Exec("DELETE FROM mails WHERE address = ? AND kind = 'invite' AND sent = 0", u.Email); err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM users WHERE id = ?", u.ID); err != nil {
		return err
	}
	return people.Audit(tx, people.Actor{Account: u.Account, Name: u.Email, From: from, Via: "web"}, "user.elsewhere", u.ID, map[string]any{"email": u.Email, "name": u.Name})
}

// linkFault makes a bad link a fault of the field.
func linkFault(err error) error {
	if errors.Is(err, people.ErrLink) {
		return fault.New("link", "link")
	}
	return err
}

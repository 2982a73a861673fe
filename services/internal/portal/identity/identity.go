// Package identity is how a person of the portal proves who he is: sign-up,
// sign-in, passwords, second factors, sign-in by OpenID Connect, API tokens. It
// keeps all its state in the database, so that any instance goes on with what
// another one began.
package identity

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// Errors of signing in.
var (
	// ErrWrong means that the address or the password is wrong; nothing tells
	// which.
	ErrWrong = errors.New("wrong address or password")
	// ErrUnverified and ErrSuspended come only after the right password.
	ErrUnverified = errors.New("the address is not verified")
	ErrSuspended  = errors.New("the person or the account is suspended")
)

// waiting is how many password checks wait for the one under way; more are
// turned away with credential.ErrBusy.
const waiting = 32

// Service does it. It is safe for concurrent use.
type Service struct {
	db     *store.DB
	vault  *vault.Vault
	log    *slog.Logger
	hasher *credential.Hasher
	decoy  credential.Credential
	oidc   *discovered
}

// New returns one. log may be nil.
func New(db *store.DB, v *vault.Vault, log *slog.Logger) *Service {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{db: db, vault: v, log: log, hasher: credential.NewHasher(waiting), decoy: credential.Decoy(), oidc: newDiscovered()}
}

// CheckPassword returns whose address and password it is. An address that nobody
// has costs as much as a wrong password, and is answered the same: ErrWrong.
func (s *Service) CheckPassword(ctx context.Context, email, password string) (people.User, error) {
	email, err := people.NormalizeEmail("email", email)
	var u people.User
	c, found := s.decoy, false
	if err == nil {
		err = s.db.Read(ctx, func(tx *store.Tx) (err error) {
			u, found = people.User{}, false
			var phc string
			if err := tx.Row("SELECT password FROM users WHERE email = ?", email).Scan(&phc); errors.Is(err, store.ErrNotFound) || err == nil && phc == "" {
				return nil
			} else if err != nil {
				return err
			}
			if c.Hash, err = credential.ParseHash(phc); err != nil {
				return err
			}
			u, err = people.FindUser(tx, email)
			found = err == nil
			return err
		})
		if err != nil {
			return people.User{}, err
		}
	}
	if len(password) > credential.MaxSize { // costs nothing, and tells nothing of the address
		return people.User{}, ErrWrong
	}
	same, err := s.hasher.Verify(ctx, c, password)
	if err != nil {
		return people.User{}, err
	}
	if !same || !found {
		return people.User{}, ErrWrong
	}
	return u, s.db.Read(ctx, func(tx *store.Tx) error { return mayEnter(tx, u) })
}

// checkOwn reports whether password is the person's.
func (s *Service) checkOwn(ctx context.Context, user, password string) (bool, error) {
	c := s.decoy
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		var phc string
		if err := tx.Row("SELECT password FROM users WHERE id = ?", user).Scan(&phc); err != nil || phc == "" {
			return err
		}
		var err error
		c.Hash, err = credential.ParseHash(phc)
		return err
	})
	if err != nil || len(password) > credential.MaxSize {
		return false, err
	}
	return s.hasher.Verify(ctx, c, password)
}

// mayEnter returns why a person cannot sign in, or nil.
func mayEnter(tx *store.Tx, u people.User) error {
	switch u.State {
	case people.Active:
	case people.Suspended:
		return ErrSuspended
	default:
		return ErrUnverified
	}
	if u.Account == "" {
		return nil
	}
	a, err := people.GetAccount(tx, u.Account)
	if err == nil && !a.Suspended.IsZero() {
		err = ErrSuspended
	}
	return err
}

// Enter makes a session of a person who has proven to be who he is, ends the one
// that the browser had, and returns the new one's token. The stamp is the
// person's when the proof began: what has changed since then ends it.
func (s *Service) Enter(ctx context.Context, user string, who people.Actor, agent, old string) (token string, err error) {
	token = people.NewSecret()
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		u, err := people.GetUser(tx, user)
		if err != nil {
			return err
		}
		if err := mayEnter(tx, u); err != nil {
			return err
		}
		if old != "" {
			if _, err := tx.Exec("DELETE FROM sessions WHERE sum = ?", people.Sum(old)); err != nil {
				return err
			}
		}
		if err := people.InsertSession(tx, token, user, who.From, agent, time.Now()); err != nil {
			return err
		}
		return people.Audit(tx, ActorOf(u, who.From, who.Via), "signin", u.ID, nil)
	})
	return token, err
}

// ActorOf is a person who acts for himself.
func ActorOf(u people.User, from, via string) people.Actor {
	return people.Actor{User: u.ID, Account: u.Account, Name: u.Name, Email: u.Email, Role: u.Role, Operator: u.Operator, From: from, Via: via}
}

// hash judges and hashes a new password; the error is a fault of field.
func (s *Service) hash(ctx context.Context, field, password string) (string, error) {
	if f := judge(field, password); f != nil {
		return "", f
	}
	h, err := s.hasher.Hash(ctx, password)
	if err != nil {
		return "", err
	}
	return h.String(), nil
}

// judge is credential.Judge as faults of a field.
func judge(field, password string) fault.List {
	if password == "" {
		return fault.New(field, "required")
	}
	var why credential.Refusal
	if !errors.As(credential.Judge(password), &why) {
		return nil
	}
	var args []any
	switch why {
	case credential.ErrShort:
		args = []any{credential.MinLength}
	case credential.ErrLong:
		args = []any{credential.MaxSize}
	}
	return fault.New(field, "password-"+string(why), args...)
}

// setPassword gives a person a password and ends all his sessions.
func setPassword(tx *store.Tx, user, phc string, now time.Time) error {
	_, err := tx.Exec("UPDATE users SET password = ?, password_set = ?, stamp = stamp + 1 WHERE id = ?", phc, store.Millis(now), user)
	return err
}

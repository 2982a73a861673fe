package identity

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// A second factor is account.Factor, as the appliance has it; here it is sealed
// in the person's row (users.factor). One that is being set up waits in
// factor_pending for its first code, PendingFor at most.

// pendingFor is how long a setup may take.
const pendingFor = 15 * time.Minute

// ErrCode means that a code is wrong, or missing.
var ErrCode = errors.New("wrong code")

type pendingFactor struct {
	Secret string    `json:"secret"`
	At     time.Time `json:"at"`
}

// factor returns a person's second factor, or nil.
func (s *Service) factor(tx *store.Tx, user string) (*account.Factor, error) {
	var sealed []byte
	if err := tx.Row("SELECT factor FROM users WHERE id = ?", user).Scan(&sealed); err != nil || len(sealed) == 0 {
		return nil, err
	}
	text, err := s.vault.Open("second factor", user, sealed)
	if err != nil {
		return nil, err
	}
	f := &account.Factor{}
	return f, json.Unmarshal(text, f)
}

func (s *Service) setFactor(tx *store.Tx, user string, f *account.Factor) error {
	var sealed any
	if f != nil {
		text, err := json.Marshal(f)
		if err != nil {
			return err
		}
		sealed = s.vault.Seal("second factor", user, text)
	}
	_, err := tx.Exec("UPDATE users SET factor = ? WHERE id = ?", sealed, user)
	return err
}

// FactorState is a person's second factor, for his page.
type FactorState struct {
	On       bool
	Recovery int  // codes that are left
	Required bool // by the account
}

// Factor returns it.
func (s *Service) Factor(ctx context.Context, user string) (st FactorState, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		st = FactorState{}
		f, err := s.factor(tx, user)
		if err != nil {
			return err
		}
		if f != nil {
			st.On, st.Recovery = true, len(f.Recovery)
		}
		st.Required, err = required(tx, user)
		return err
	})
	return st, err
}

// required reports whether the person's account demands a second factor.
func required(tx *store.Tx, user string) (bool, error) {
	var is bool
	err := tx.Row("SELECT COALESCE(a.require_factor, ?) FROM users u LEFT JOIN accounts a ON a.id = u.account_id WHERE u.id = ?", false, user).Scan(&is)
	return is, err
}

// takeCode takes a code of a person's second factor, once in all instances.
func (s *Service) takeCode(tx *store.Tx, user, code string, now time.Time) error {
	f, err := s.factor(tx, user)
	if err != nil {
		return err
	}
	if f == nil || !f.Take(code, now) {
		return ErrCode
	}
	return s.setFactor(tx, user, f)
}

// pendingOf returns the secret that waits for its first code, or "".
func (s *Service) pendingOf(tx *store.Tx, user string, now time.Time) (string, error) {
	var sealed []byte
	if err := tx.Row("SELECT factor_pending FROM users WHERE id = ?", user).Scan(&sealed); err != nil || len(sealed) == 0 {
		return "", err
	}
	var p pendingFactor
	b, err := s.vault.Open("pending factor", user, sealed)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if age := now.Sub(p.At); age > pendingFor || age < -pendingFor {
		p.Secret = ""
	}
	return p.Secret, err
}

// BeginFactor makes the secret of a new second factor, which counts once
// ConfirmFactor has seen a code of it. uri is for an authenticator app. With keep
// a secret that waits already stays: a page that is loaded anew shows the same.
func (s *Service) BeginFactor(ctx context.Context, user, host string, keep bool) (secret, uri string, err error) {
	made, err := account.NewSecret(rand.Reader)
	if err != nil {
		return "", "", err
	}
	now := time.Now()
	text, err := json.Marshal(pendingFactor{made, now})
	if err != nil {
		return "", "", err
	}
	var email string
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		u, err := people.GetUser(tx, user)
		if err != nil {
			return err
		}
		email, secret = u.Email, ""
		if keep {
			if secret, err = s.pendingOf(tx, user, now); err != nil {
				return err
			}
		}
		if secret != "" {
			return nil
		}
		secret = made
		_, err = tx.Exec("UPDATE users SET factor_pending = ? WHERE id = ?", s.vault.Seal("pending factor", user, text), user)
		return err
	})
	return secret, account.URI(host, email, secret), err
}

// ConfirmFactor turns the second factor on and returns recovery codes, which are
// shown once. Other sessions go on: they were there before it.
func (s *Service) ConfirmFactor(ctx context.Context, who people.Actor, code string) ([]string, error) {
	if code == "" {
		return nil, fault.New("code", "required")
	}
	codes, sums, err := account.NewRecovery(rand.Reader)
	if err != nil {
		return nil, err
	}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		now := time.Now()
		secret, err := s.pendingOf(tx, who.User, now)
		if err != nil {
			return err
		}
		if secret == "" {
			return fault.New("code", "totp-not-begun")
		}
		f := &account.Factor{Secret: secret, Recovery: []string{}}
		if !f.Take(code, now) {
			return fault.New("code", "factor-wrong")
		}
		f.Recovery = sums
		if err := s.setFactor(tx, who.User, f); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE users SET factor_pending = NULL WHERE id = ?", who.User); err != nil {
			return err
		}
		return people.Audit(tx, who, "factor.on", who.User, nil)
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// RenewRecovery replaces the recovery codes.
func (s *Service) RenewRecovery(ctx context.Context, who people.Actor, password string) ([]string, error) {
	if err := s.Prove(ctx, who.User, password); err != nil {
		return nil, err
	}
	codes, sums, err := account.NewRecovery(rand.Reader)
	if err != nil {
		return nil, err
	}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		f, err := s.factor(tx, who.User)
		if err != nil {
			return err
		}
		if f == nil {
			return people.ErrUnknown
		}
		f.Recovery = sums
		if err := s.setFactor(tx, who.User, f); err != nil {
			return err
		}
		return people.Audit(tx, who, "factor.recovery", who.User, nil)
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// RemoveFactor turns a person's own second factor off, unless his account demands
// one.
func (s *Service) RemoveFactor(ctx context.Context, who people.Actor, password string) error {
	if err := s.Prove(ctx, who.User, password); err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if is, err := required(tx, who.User); err != nil || is {
			if is {
				err = fault.New("", "factor-required")
			}
			return err
		}
		if err := s.setFactor(tx, who.User, nil); err != nil {
			return err
		}
		return people.Audit(tx, who, "factor.off", who.User, nil)
	})
}

// DropFactor takes another person's second factor away, who has lost his phone
// and his recovery codes, and ends his sessions. An admin may, for members and
// admins of his account; an owner for everybody in it; with anywhere an operator
// of the portal for everybody.
func (s *Service) DropFactor(ctx context.Context, who people.Actor, user string, anywhere bool) error {
	if anywhere && !who.Operator || !anywhere && !who.At(people.Admin) {
		return people.ErrDenied
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		u, err := people.GetUser(tx, user)
		if errors.Is(err, store.ErrNotFound) || err == nil && !anywhere && u.Account != who.Account {
			return people.ErrUnknown
		}
		if err != nil {
			return err
		}
		// Nobody takes it from one who may do more than he.
		if !anywhere && (u.Role == people.Owner && who.Role != people.Owner || u.Operator) {
			return people.ErrDenied
		}
		if _, err := tx.Exec("UPDATE users SET factor = NULL, factor_pending = NULL, stamp = stamp + 1 WHERE id = ?", user); err != nil {
			return err
		}
		return people.Audit(tx, who, "factor.drop", user, map[string]any{"email": u.Email})
	})
}

// RequireFactor says whether nobody of the account signs in without a second
// factor. Who has none sets one up at the next sign-in; sessions that are there
// go on.
func (s *Service) RequireFactor(ctx context.Context, who people.Actor, is bool) error {
	if !who.At(people.Owner) {
		return people.ErrDenied
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec("UPDATE accounts SET require_factor = ? WHERE id = ?", is, who.Account); err != nil {
			return err
		}
		return people.Audit(tx, who, "factor.require", who.Account, map[string]any{"required": is})
	})
}

// Prove returns a fault of "password" unless it is the person's own. One who has
// none, because he signs in by another site, sets one by a reset first.
func (s *Service) Prove(ctx context.Context, user, password string) error {
	if password == "" {
		return fault.New("password", "required")
	}
	same, err := s.checkOwn(ctx, user, password)
	if err == nil && !same {
		err = fault.New("password", "password-wrong")
	}
	return err
}

// Need is what a sign-in still needs after the password.
type Need string

// The needs.
const (
	NeedNothing Need = ""
	NeedCode    Need = "code"  // of the second factor
	NeedEnrol   Need = "enrol" // a second factor, which the account demands
)

// Needs returns what a person's sign-in still needs.
func (s *Service) Needs(ctx context.Context, user string) (n Need, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		n = NeedNothing
		f, err := s.factor(tx, user)
		if err != nil {
			return err
		}
		if f != nil {
			n = NeedCode
			return nil
		}
		if is, err := required(tx, user); err != nil || !is {
			return err
		}
		n = NeedEnrol
		return nil
	})
	return n, err
}

// StepTTL is how long a sign-in waits for its second step.
const StepTTL = 10 * time.Minute

// Step is a sign-in that waits.
type Step struct {
	User  people.User // of Need code and enrol
	To    string      // page to go on to
	stamp int64
}

// ErrStep means that a sign-in took too long, or was ended.
var ErrStep = errors.New("the sign-in is over")

// BeginStep keeps a sign-in that waits for what it needs, and returns the token
// for the browser. It says of itself nothing but who has given the password.
func (s *Service) BeginStep(ctx context.Context, n Need, user, to string) (token string, err error) {
	token = people.NewSecret()
	return token, s.db.Write(ctx, func(tx *store.Tx) error {
		var stamp int64
		if err := tx.Row("SELECT stamp FROM users WHERE id = ?", user).Scan(&stamp); err != nil {
			return err
		}
		return keepStep(tx, token, string(n), user, stamp, to)
	})
}

func keepStep(tx *store.Tx, token, kind, user string, stamp int64, data string) error {
	now := time.Now()
	if _, err := tx.Exec("DELETE FROM signins WHERE expires < ?", store.Millis(now)); err != nil {
		return err
	}
	_, err := tx.Exec("INSERT INTO signins (sum, kind, user_id, stamp, data, expires) VALUES (?,?,?,?,?,?)",
		people.Sum(token), kind, user, stamp, data, store.Millis(now.Add(StepTTL)))
	return err
}

func step(tx *store.Tx, n Need, token string) (Step, error) {
	var st Step
	var user string
	err := tx.Row("SELECT user_id, stamp, data FROM signins WHERE sum = ? AND kind = ? AND expires > ?", people.Sum(token), string(n), store.Millis(time.Now())).
		Scan(&user, &st.stamp, &st.To)
	if errors.Is(err, store.ErrNotFound) {
		return st, ErrStep
	}
	if err != nil {
		return st, err
	}
	var stamp int64
	if err := tx.Row("SELECT stamp FROM users WHERE id = ?", user).Scan(&stamp); err != nil {
		return st, err
	}
	if stamp != st.stamp { // the password, or what the person may, has changed meanwhile
		return st, ErrStep
	}
	st.User, err = people.GetUser(tx, user)
	return st, err
}

// GetStep returns a sign-in that waits.
func (s *Service) GetStep(ctx context.Context, n Need, token string) (st Step, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) (err error) { st, err = step(tx, n, token); return err })
	return st, err
}

// EndStep forgets a sign-in that waits.
func (s *Service) EndStep(ctx context.Context, token string) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM signins WHERE sum = ?", people.Sum(token))
		return err
	})
}

// FinishStep takes the code of a sign-in that waits for one; then the person is
// in (Enter). A wrong code leaves the sign-in waiting: ErrCode.
func (s *Service) FinishStep(ctx context.Context, token, code string) (st Step, err error) {
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		if st, err = step(tx, NeedCode, token); err != nil {
			return err
		}
		if err := s.takeCode(tx, st.User.ID, code, time.Now()); err != nil {
			return err
		}
		_, err := tx.Exec("DELETE FROM signins WHERE sum = ?", people.Sum(token))
		return err
	})
	return st, err
}

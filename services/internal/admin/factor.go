package admin

import (
	"context"
	"crypto/rand"
	"os"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/fault"
)

// takeCode takes a code of the account's second factor, or returns ErrCode. The
// file is read anew under the lock, so that a code is good once even when both
// consoles are given it at the same moment.
func (a *Admin) takeCode(ctx context.Context, name, code string) error {
	unlock, err := a.folder.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := a.accounts.Load()
	if err != nil {
		return err
	}
	r := b.Find(name)
	if r == nil || r.TOTP == nil {
		return ErrCode // it was changed meanwhile
	}
	a.mu.Lock()
	if u, ok := a.used[name]; ok && u.Secret == r.TOTP.Secret {
		r.TOTP.Merge(u)
	}
	good := r.TOTP.Take(code, a.cfg.Now())
	if good {
		a.used[name] = *r.TOTP
	}
	a.mu.Unlock()
	if !good {
		return ErrCode
	}
	if err := a.accounts.Write(b); err != nil {
		// A broken disk must not lock anybody out of the console that tells of it.
		a.cfg.Log.Error("second factor: the code that was used is remembered until the restart alone", "account", name, "error", err)
		return nil
	}
	a.forgetFactor(name)
	return nil
}

func (a *Admin) forgetFactor(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.used, name)
}

// BeginTOTP makes the secret of a new second factor for the own account; it
// counts once ConfirmTOTP has seen a code of it. Another Begin replaces it.
func (a *Admin) BeginTOTP(ctx context.Context, who Actor) (TOTPSetup, error) {
	var setup TOTPSetup
	err := a.own(ctx, who, "totp.begin", func() (string, error) {
		secret, err := account.NewSecret(rand.Reader)
		if err != nil {
			return "", err
		}
		host, err := os.Hostname()
		if err != nil {
			return "", err
		}
		if st, err := a.cfg.Appliance.Status(ctx); err == nil {
			host = st.Hostname
		}
		_, err = a.changeAccount(ctx, who.Name, func(_ *account.Book, r *account.Record) error {
			r.Pending, r.PendingAt = secret, a.seconds()
			return nil
		})
		if err == nil {
			setup = TOTPSetup{Secret: secret, URI: account.URI(host, who.Name, secret)}
		}
		return "", err
	})
	return setup, err
}

// ConfirmTOTP turns the second factor on.
func (a *Admin) ConfirmTOTP(ctx context.Context, who Actor, code string) ([]string, error) {
	var codes []string
	err := a.own(ctx, who, "totp.on", func() (string, error) {
		if code == "" {
			return "", fault.New("code", "required")
		}
		made, sums, err := account.NewRecovery(rand.Reader)
		if err != nil {
			return "", err
		}
		_, err = a.changeAccount(ctx, who.Name, func(_ *account.Book, r *account.Record) error {
			now := a.cfg.Now()
			if age := now.Sub(r.PendingAt); r.Pending == "" || age > account.PendingFor || age < -account.PendingFor {
				return fault.New("code", "totp-not-begun")
			}
			f := &account.Factor{Secret: r.Pending, Recovery: []string{}}
			if !f.Take(code, now) {
				return fault.New("code", "totp-wrong")
			}
			f.Recovery = sums
			r.TOTP, r.Pending, r.PendingAt = f, "", time.Time{}
			return nil
		})
		if err == nil {
			codes = made
		}
		return "", err
	})
	return codes, err
}

// RemoveTOTP removes a second factor: the own one, or for one who may operate
// another's.
func (a *Admin) RemoveTOTP(ctx context.Context, who Actor, name string) error {
	do := func() (string, error) {
		detail, err := a.changeAccount(ctx, name, func(_ *account.Book, r *account.Record) error {
			r.TOTP, r.Pending, r.PendingAt = nil, "", time.Time{}
			return nil
		})
		if err == nil {
			a.forgetFactor(name)
		}
		return detail, err
	}
	if name == who.Name {
		return a.own(ctx, who, "totp.off", do)
	}
	return a.act(ctx, who, "totp.off", do)
}

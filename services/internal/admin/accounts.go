package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/fault"
)

// book returns the accounts. A damaged file is an empty book: admin, who is in
// another file, can log in and is told (Notices).
func (a *Admin) book() (account.Book, error) {
	b, err := a.accounts.Read()
	if empty(err) {
		return account.NewBook(), nil
	}
	return b, err
}

// entry is an account with what its password is checked by.
type entry struct {
	account.Record
	cred credential.Credential
}

// entry returns the account of a name. ErrUnknown is no such account; admin's
// password may be missing or damaged (package credential's errors).
func (a *Admin) entry(name string) (entry, error) {
	b, err := a.book()
	if err != nil {
		return entry{}, err
	}
	r := b.Find(name)
	if name != credential.User {
		if r == nil {
			return entry{}, ErrUnknown
		}
		h, err := credential.ParseHash(r.Hash)
		return entry{*r, credential.Credential{Hash: h, Set: r.Set}}, err
	}
	e := entry{Record: account.Record{Name: credential.User, Authority: account.Operate}}
	if r != nil {
		e.Record = *r
	}
	e.cred, err = a.cfg.Store.Current()
	return e, err
}

// account returns the entry without secrets.
func (e entry) account() account.Account {
	c := e.Account()
	c.Set = e.cred.Set
	c.Generated = e.cred.Generated
	c.MustChange = c.MustChange || c.Generated
	return c
}

func (e entry) stamp() string { return e.Stamp(e.cred.Hash.String()) }

// Login checks a name, a password and where it is needed a code.
func (a *Admin) Login(ctx context.Context, name, password, code string) (account.Account, string, error) {
	none := account.Account{}
	e, err := a.entry(account.FoldName(name))
	unknown := errors.Is(err, ErrUnknown)
	if unknown {
		e.cred = credential.Decoy()
	} else if err != nil {
		return none, "", err
	}
	good, err := a.cfg.Hasher.Verify(ctx, e.cred, password)
	if err != nil {
		return none, "", err
	}
	if unknown || !good {
		return none, "", ErrWrong
	}
	if e.TOTP != nil {
		if err := a.takeCode(ctx, e.Name, code); err != nil {
			return none, "", err
		}
	}
	return e.account(), e.stamp(), nil
}

// Stamp returns the account and what changes with its secrets.
func (a *Admin) Stamp(name string) (account.Account, string, error) {
	e, err := a.entry(name)
	if err != nil {
		return account.Account{}, "", err
	}
	return e.account(), e.stamp(), nil
}

// Accounts lists admin, and the others by name.
func (a *Admin) Accounts(context.Context) ([]account.Account, error) {
	b, err := a.book()
	if err != nil {
		return nil, err
	}
	admin, err := a.entry(credential.User)
	if err != nil && admin.Name == "" {
		return nil, err
	}
	out := []account.Account{admin.account()} // without a password that can be read too
	for i := range b.Accounts {
		if b.Accounts[i].Name != credential.User {
			out = append(out, b.Accounts[i].Account())
		}
	}
	slices.SortFunc(out[1:], func(x, y account.Account) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}

// AddAccount adds an operator, who must change the password at the first login.
func (a *Admin) AddAccount(ctx context.Context, who Actor, in AccountInput) error {
	return a.act(ctx, who, "account.add", func() (string, error) {
		name := account.FoldName(in.Name)
		var faults fault.List
		switch {
		case name == "":
			faults.Add("name", "required")
		case account.Reserved(name):
			faults.Add("name", "account-reserved", name)
		case !account.ValidName(name):
			faults.Add("name", "account-name")
		}
		faults = append(faults, choice("authority", in.Authority, string(account.Operate), string(account.View))...)
		faults = append(faults, judge("password", name, in.Password)...)
		if err := faults.Err(); err != nil {
			return "", err
		}
		room := func(b *account.Book) error {
			if b.Find(name) != nil {
				return fault.New("name", "account-exists", name)
			}
			if n := len(b.Accounts); n >= account.MaxAccounts+1 || n == account.MaxAccounts && b.Find(credential.User) == nil {
				return fault.New("name", "many", account.MaxAccounts)
			}
			return nil
		}
		b, err := a.book()
		if err == nil {
			err = room(&b) // before the hash, which is dear
		}
		if err == nil {
			err = a.savable(ctx)
		}
		if err != nil {
			return "", err
		}
		h, err := a.cfg.Hasher.Hash(ctx, in.Password)
		if err != nil {
			return "", err
		}
		return name + " " + in.Authority, change(ctx, a, a.accounts, account.NewBook(), func(b *account.Book) error {
			if err := room(b); err != nil {
				return err
			}
			b.Accounts = append(b.Accounts, account.Record{Name: name, Authority: account.Authority(in.Authority), Hash: h.String(), MustChange: true, Set: a.seconds()})
			return nil
		})
	})
}

// seconds is the time as state files keep it.
func (a *Admin) seconds() time.Time { return a.cfg.Now().UTC().Truncate(time.Second) }

// judge says what is wrong with a new password of an account.
func judge(field, name, password string) fault.List {
	if password == "" {
		return fault.New(field, "required")
	}
	if strings.EqualFold(strings.TrimSpace(password), name) {
		return fault.New(field, "password-name")
	}
	return refused(field, credential.Judge(password))
}

// refused puts package credential's refusal as a fault.
func refused(field string, err error) fault.List {
	var r credential.Refusal
	if !errors.As(err, &r) {
		return nil
	}
	switch r {
	case credential.ErrShort:
		return fault.New(field, "password-short", credential.MinLength)
	case credential.ErrLong:
		return fault.New(field, "password-long", credential.MaxSize)
	}
	return fault.New(field, "password-"+string(r))
}

// other refuses what would take an operator his own account, or the appliance
// its last one: admin always stays, and may always operate.
func other(who Actor, name string) error {
	switch name {
	case credential.User:
		return fault.New("name", "account-admin")
	case who.Name:
		return fault.New("name", "account-self")
	}
	return nil
}

// RemoveAccount removes an operator, and with him the tokens that he made.
func (a *Admin) RemoveAccount(ctx context.Context, who Actor, name string) error {
	return a.act(ctx, who, "account.remove", func() (string, error) {
		if err := other(who, name); err != nil {
			return "", err
		}
		b, err := a.book()
		if err != nil {
			return "", err
		}
		if b.Find(name) == nil {
			return clean(name, 40), ErrUnknown
		}
		// The tokens first: they would count again if the name were given again.
		if err := a.removeTokens(ctx, name); err != nil {
			return name, err
		}
		return a.changeAccount(ctx, name, func(b *account.Book, r *account.Record) error {
			b.Remove(name)
			return nil
		})
	})
}

// changeAccount changes an account's record. It returns the name, for the audit
// log. admin's record is made where there is none.
func (a *Admin) changeAccount(ctx context.Context, name string, do func(*account.Book, *account.Record) error) (string, error) {
	if err := a.savable(ctx); err != nil {
		return clean(name, 40), err
	}
	return clean(name, 40), change(ctx, a, a.accounts, account.NewBook(), func(b *account.Book) error {
		r := b.Find(name)
		if name == credential.User {
			r = b.Admin()
		}
		if r == nil {
			return ErrUnknown
		}
		return do(b, r)
	})
}

// SetAuthority sets what an operator may do.
func (a *Admin) SetAuthority(ctx context.Context, who Actor, name, authority string) error {
	return a.act(ctx, who, "account.authority", func() (string, error) {
		if err := other(who, name); err != nil {
			return "", err
		}
		if err := choice("authority", authority, string(account.Operate), string(account.View)).Err(); err != nil {
			return "", err
		}
		detail, err := a.changeAccount(ctx, name, func(_ *account.Book, r *account.Record) error {
			r.Authority = account.Authority(authority)
			return nil
		})
		return detail + " " + authority, err
	})
}

// ResetPassword sets another's password.
func (a *Admin) ResetPassword(ctx context.Context, who Actor, name, next string) error {
	return a.act(ctx, who, "password.reset", func() (string, error) {
		if name == who.Name {
			return "", fault.New("name", "account-own-password")
		}
		b, err := a.book()
		if err != nil {
			return "", err
		}
		if name != credential.User && b.Find(name) == nil {
			return clean(name, 40), ErrUnknown
		}
		if err := judge("password", name, next).Err(); err != nil {
			return "", err
		}
		if err := a.savable(ctx); err != nil {
			return name, err
		}
		return name, a.setPassword(ctx, name, next, func(r *account.Record) { r.MustChange = true })
	})
}

// setPassword sets an account's password, and does what also must be changed.
// admin's own is in a file of its own: that is written first, because it alone
// decides what his password is.
func (a *Admin) setPassword(ctx context.Context, name, next string, also func(*account.Record)) error {
	h, err := a.cfg.Hasher.Hash(ctx, next)
	if err != nil {
		return err
	}
	if name == credential.User {
		unlock, err := a.folder.Lock(ctx)
		if err != nil {
			return err
		}
		err = a.cfg.Store.Set(h, a.cfg.Now())
		unlock()
		if err != nil {
			return err
		}
		b, err := a.book()
		if err != nil {
			return err
		}
		r := account.Record{Name: name}
		if old := b.Find(name); old != nil {
			r = *old
		}
		was := r
		if also(&r); r == was {
			return nil // nothing to say: admin alone needs no accounts.json
		}
	}
	return change(ctx, a, a.accounts, account.NewBook(), func(b *account.Book) error {
		r := b.Find(name)
		if name == credential.User {
			r = b.Admin()
		}
		if r == nil {
			return ErrUnknown // removed meanwhile
		}
		if name != credential.User {
			r.Hash, r.Set = h.String(), a.seconds()
		}
		also(r)
		return nil
	})
}

// ChangePassword sets the own password. It can be done while a RAM disk stands
// in for /perm too: the generated password must not stay in force because the
// disk is broken.
func (a *Admin) ChangePassword(ctx context.Context, who Actor, in PasswordInput) error {
	return a.own(ctx, who, "password.change", func() (string, error) {
		e, err := a.entry(who.Name)
		if err != nil {
			return "", err
		}
		var faults fault.List
		if in.Current == "" {
			faults.Add("current", "required")
		}
		faults = append(faults, judge("new", e.Name, in.New)...)
		if in.Confirm != in.New {
			faults.Add("confirm", "password-differs")
		}
		if err := faults.Err(); err != nil {
			return "", err
		}
		good, err := a.cfg.Hasher.Verify(ctx, e.cred, in.Current)
		if err != nil {
			return "", err
		}
		switch {
		case !good:
			a.Note(who, "login.failed", "current password", ErrWrong)
			return "", fault.New("current", "password-wrong")
		case e.cred.Generated && credential.SameGenerated(in.New, in.Current):
			return "", refused("new", credential.ErrShown)
		case in.New == in.Current:
			return "", refused("new", credential.ErrUnchanged)
		}
		return "", a.setPassword(ctx, e.Name, in.New, func(r *account.Record) { r.MustChange = false })
	})
}

// RecoverPassword sets admin's password for one who holds the console.
func (a *Admin) RecoverPassword(ctx context.Context, who Actor, next string) error {
	do := func() (string, error) {
		if err := judge("password", credential.User, next).Err(); err != nil {
			return "", err
		}
		err := a.setPassword(ctx, credential.User, next, func(r *account.Record) {
			r.MustChange, r.TOTP, r.Pending, r.PendingAt = false, nil, "", time.Time{}
		})
		if err != nil {
			return "", err
		}
		a.forgetFactor(credential.User)
		if err := a.AddNotice(NoticeRecovered); err != nil {
			return "", fmt.Errorf("the password is set: %w", err)
		}
		return "", nil
	}
	if who.Via != "serial" && who.Via != "screen" {
		do = func() (string, error) { return "", ErrDenied }
	}
	return a.own(ctx, who, "password.recovered", do)
}

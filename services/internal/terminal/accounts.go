package terminal

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/fault"
)

var usersForms = []string{"users", "users add NAME operate|view", "users passwd NAME", "users authority NAME operate|view",
	"users del NAME", "users totp off NAME"}

var authorities = []string{string(account.Operate), string(account.View)}

func usersWords(s *session, before []string) []string {
	switch strings.ToLower(strings.Join(before, " ")) {
	case "":
		return []string{"add", "passwd", "authority", "del", "totp"}
	case "passwd", "authority", "del", "totp off":
		return s.accountNames()
	case "totp":
		return []string{"off"}
	}
	if len(before) == 2 && (strings.EqualFold(before[0], "add") || strings.EqualFold(before[0], "authority")) {
		return authorities
	}
	return nil
}

// accountNames is for completion, which must not wait for anything.
func (s *session) accountNames() []string {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	var out []string
	for _, a := range <-ask(ctx, s.c.cfg.Admin.Accounts) {
		out = append(out, clean(a.Name, 40))
	}
	return out
}

func (s *session) cmdUsers(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return s.listUsers(ctx)
	}
	c := find("users")
	verb := strings.ToLower(args[0])
	// Whoever may only look may end his own second factor.
	if verb != "totp" {
		if err := s.mayOperate(); err != nil {
			return err
		}
	}
	a := s.c.cfg.Admin
	switch {
	case verb == "add" && len(args) == 3:
		return s.addUser(ctx, args[1], strings.ToLower(args[2]))
	case verb == "passwd" && len(args) == 2:
		if args[1] == s.who.Name {
			return s.cmdPasswd(ctx, nil)
		}
		s.say("passwd.rule", credential.MinLength)
		next, err := s.newPassword(ctx, "", idleLogout)
		if err != nil || next == "" {
			return err
		}
		err = s.do(ctx, "users passwd", opLimit, func(ctx context.Context, who admin.Actor) error { return a.ResetPassword(ctx, who, args[1], next) })
		return s.done(err, "users.reset", clean(args[1], 40))
	case verb == "authority" && len(args) == 3:
		err := s.do(ctx, "users authority", opLimit, func(ctx context.Context, who admin.Actor) error {
			return a.SetAuthority(ctx, who, args[1], strings.ToLower(args[2]))
		})
		return s.done(err, "users.authority", clean(args[1], 40), s.words().T("authority."+strings.ToLower(args[2])))
	case verb == "del" && len(args) == 2:
		if ok, err := s.confirm(ctx, "users.del-sure", clean(args[1], 40)); err != nil || !ok {
			return err
		}
		err := s.do(ctx, "users del", opLimit, func(ctx context.Context, who admin.Actor) error { return a.RemoveAccount(ctx, who, args[1]) })
		return s.done(err, "users.deleted", clean(args[1], 40))
	case verb == "totp" && len(args) == 3 && strings.EqualFold(args[1], "off"):
		if ok, err := s.confirm(ctx, "users.totp-sure", clean(args[2], 40)); err != nil || !ok {
			return err
		}
		err := s.do(ctx, "users totp off", opLimit, func(ctx context.Context, who admin.Actor) error { return a.RemoveTOTP(ctx, who, args[2]) })
		if err == nil {
			s.restamp(args[2])
		}
		return s.done(err, "users.totp-off", clean(args[2], 40))
	}
	return c.wrong()
}

// done says the text of a key when err is nil.
func (s *session) done(err error, key string, args ...any) error {
	if err == nil {
		s.say(key, args...)
	}
	return err
}

// restamp keeps the session when it was its own account that it has changed.
func (s *session) restamp(name string) {
	if name != s.who.Name {
		return
	}
	if _, stamp, err := s.c.cfg.Admin.Stamp(name); err == nil {
		s.stamp = stamp
	}
}

func (s *session) listUsers(ctx context.Context) error {
	list, err := get(s, ctx, statusLimit, s.c.cfg.Admin.Accounts)
	if err != nil {
		return err
	}
	w := s.words()
	row := func(name, authority, totp, set string) {
		s.printf("%s %s %s %s\n", pad(name, 24), pad(authority, 20), pad(totp, 14), set)
	}
	s.printf("%s", bold)
	row(w.T("users.name"), w.T("users.authority-head"), w.T("users.totp"), w.T("users.set"))
	s.printf("%s", plain)
	for _, a := range list {
		totp, set := w.T("no"), "-"
		if a.TOTP {
			totp = w.T("yes")
		}
		if !a.Set.IsZero() {
			set = a.Set.UTC().Format("2006-01-02")
		}
		row(clean(a.Name, 40), clean(w.Or("authority.", string(a.Authority)), 40), totp, set)
		if a.Generated {
			s.printf("  %s\n", w.T("users.generated"))
		}
		if a.MustChange {
			s.printf("  %s\n", w.T("users.must-change"))
		}
	}
	return nil
}

func (s *session) addUser(ctx context.Context, name, authority string) error {
	// Before a password is thought up and typed twice.
	switch folded := account.FoldName(name); {
	case account.Reserved(folded):
		return fault.New("name", "account-reserved", clean(folded, 40))
	case !account.ValidName(folded):
		return fault.New("name", "account-name")
	case slices.Contains(s.accountNames(), folded):
		return fault.New("name", "account-exists", folded)
	}
	s.say("passwd.rule", credential.MinLength)
	next, err := s.newPassword(ctx, "", idleLogout)
	if err != nil || next == "" {
		return err
	}
	err = s.do(ctx, "users add", opLimit, func(ctx context.Context, who admin.Actor) error {
		return s.c.cfg.Admin.AddAccount(ctx, who, admin.AccountInput{Name: name, Authority: authority, Password: next})
	})
	return s.done(err, "users.added", clean(name, 40), s.words().Or("authority.", authority))
}

// cmdPasswd changes the own password.
func (s *session) cmdPasswd(ctx context.Context, _ []string) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if st.Perm.State == control.PermReadOnly {
		s.say("passwd.read-only")
		return nil
	}
	current, err := s.ask(ctx, s.words().T("passwd.current"), true)
	if err != nil {
		return err
	}
	switch _, err := s.authenticate(ctx, s.who.Name, current, ""); {
	case errors.Is(err, admin.ErrWrong):
		s.log.Warn("password not changed", "reason", "wrong current password")
		s.say("passwd.wrong")
		return s.pause(ctx, 2*time.Second)
	case err != nil && !errors.Is(err, admin.ErrCode):
		return err
	}
	s.say("passwd.rule", credential.MinLength)
	next, err := s.newPassword(ctx, current, idleLogout)
	if err != nil || next == "" {
		return err
	}
	if err := s.setPassword(ctx, current, next); err != nil {
		s.log.Error("password not changed", "error", err)
		if errors.Is(err, syscall.EROFS) || errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) || errors.Is(err, admin.ErrReadOnly) {
			s.say("passwd.read-only")
			return nil
		}
		return err
	}
	s.reloadPassword()
	s.restamp(s.who.Name)
	s.log.Info("password changed", "account", s.who.Name)
	s.say("passwd.done")
	if st.Perm.State == control.PermMissing {
		s.say("passwd.lost")
	}
	return nil
}

// setPassword sets the own password. Where the administrator's cannot be read,
// or the generated one's hash is gone or another's, the current one is the
// generated one, which the Administrator does not take.
func (s *session) setPassword(ctx context.Context, current, next string) error {
	k := s.c.cfg.Keeper
	err := s.do(ctx, "passwd", opLimit, func(ctx context.Context, who admin.Actor) error {
		return s.c.cfg.Admin.ChangePassword(ctx, who, admin.PasswordInput{Current: current, New: next, Confirm: next})
	})
	var damaged *credential.DamagedError
	lost := errors.As(err, &damaged) || errors.Is(err, credential.ErrNone) || fault.Of(err).Has("current")
	if lost && s.who.Name == credential.User && k.Shown(current) {
		err = s.within(ctx, opLimit, func(ctx context.Context) error {
			h, err := k.Hasher.Hash(ctx, next)
			if err != nil {
				return err
			}
			return k.Store.Set(h, time.Now())
		})
		s.note(ctx, s.who, "password.change", "", err)
	}
	return err
}

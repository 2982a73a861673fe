package terminal

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/credential"
)

// login returns when somebody has logged in.
func (s *session) login(ctx context.Context) error {
	s.ed.Reset()
	s.ed.Complete = nil
	select {
	case <-s.c.polled:
	case <-time.After(500 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	s.showBanner()
	for {
		name, err := s.readLine(ctx, s.host()+" login: ", false, idleLogin, s.bannerNews)
		s.ed.Reset() // names are not remembered: somebody may have typed a password
		if soft(err) {
			continue
		}
		if err != nil {
			return err
		}
		name = strings.TrimSpace(name)
		if name == "" {
			// Whoever comes to a quiet line presses Enter; noise does so often.
			if time.Since(s.shownAt) > 2*time.Second {
				s.showBanner()
			}
			continue
		}
		if name == recoverName && s.c.recoverable(ctx) {
			if err := s.recover(ctx); soft(err) {
				s.say("cancelled")
			} else if err != nil {
				return err
			}
			continue
		}
		password, err := s.readLine(ctx, s.words().T("password"), true, idleLogin, nil)
		if soft(err) {
			continue
		}
		if err != nil {
			return err
		}
		ok, err := s.check(ctx, name, password)
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
	}
}

// check judges a login. A wrong password makes the next attempt on this
// terminal wait longer; a wrong name does not, because noise on the line must
// not keep the administrator out.
func (s *session) check(ctx context.Context, name, password string) (bool, error) {
	for { // a session that broke off may have left a wait
		d := s.c.failures.Wait(s.name, time.Now())
		if d == 0 || !s.c.known(name) {
			break
		}
		s.say("login.wait", s.words().Duration(d+time.Second))
		if err := s.pause(ctx, d); err != nil {
			return false, err
		}
	}
	a, err := s.authenticate(ctx, name, password, "")
	if errors.Is(err, admin.ErrCode) {
		var code string
		if code, err = s.readLine(ctx, s.words().T("login.code"), false, idleLogin, nil); soft(err) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		s.ed.Reset() // a code is not remembered either
		a, err = s.authenticate(ctx, name, password, strings.TrimSpace(code))
	}
	switch {
	case err == nil:
		s.c.failures.Succeed(s.name)
		s.who = s.actor(a.Name)
		s.who.Authority, s.stamp = a.Authority, a.stamp
		s.note(ctx, s.who, "login", "", nil)
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case !errors.Is(err, admin.ErrWrong) && !errors.Is(err, admin.ErrCode):
		s.log.Warn("login refused", "reason", err)
		s.say("login.impossible", clean(err.Error(), 200))
		return false, s.pause(ctx, time.Second)
	case !s.c.known(name):
		s.log.Info("login refused", "reason", "unknown name")
		if err := s.pause(ctx, 2*time.Second); err != nil {
			return false, err
		}
		s.say("login.incorrect")
		return false, nil
	}
	now := time.Now()
	s.c.failures.Fail(s.name, now)
	d := max(time.Second, s.c.failures.Wait(s.name, now))
	what, text := "wrong password", "login.incorrect"
	if errors.Is(err, admin.ErrCode) {
		what, text = "wrong code", "login.wrong-code"
	}
	s.log.Warn("login refused", "account", name, "reason", what, "wait", d)
	s.note(ctx, s.actor(name), "login.failed", "", err)
	s.say(text)
	if d > 2*time.Second {
		s.say("login.wait", s.words().Duration(d))
	}
	return false, s.pause(ctx, d)
}

// known reports whether there is an account of that name. When that cannot be
// told, there is.
func (c *Console) known(name string) bool {
	_, _, err := c.cfg.Admin.Stamp(name)
	return name == credential.User || !errors.Is(err, admin.ErrUnknown)
}

// actor is who does something on this terminal.
func (s *session) actor(name string) admin.Actor {
	via := "serial"
	if s.dev.Screen() {
		via = "screen"
	}
	return admin.Actor{Name: name, From: s.name, Via: via}
}

// note writes a line into the audit log.
func (s *session) note(ctx context.Context, who admin.Actor, what, detail string, failed error) {
	err := s.within(ctx, statusLimit, func(context.Context) error {
		s.c.cfg.Admin.Note(who, what, detail, failed)
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.log.Warn("audit log", "error", err)
	}
}

// shownStamp is of a login with the generated password before its hash was there,
// or in place of one that is damaged: it is good while the password is shown.
const shownStamp = "shown"

// entrant is an account that may come in, with its stamp.
type entrant struct {
	account.Account
	stamp string
}

// authenticate compares a password with the account's, and waits for the
// generated one while the appliance is starting.
func (s *session) authenticate(ctx context.Context, name, password, code string) (entrant, error) {
	return get(s, ctx, opLimit, func(ctx context.Context) (entrant, error) {
		for {
			a, stamp, err := s.c.cfg.Admin.Login(ctx, name, password, code)
			// Where the one that was set is damaged the terminals take the generated
			// password, or nobody could set a new one; and they take what they show
			// even where another process has changed its hash.
			if name == credential.User && err != nil && !errors.Is(err, admin.ErrCode) && s.c.cfg.Keeper.Shown(password) {
				return entrant{account.Account{Name: credential.User, Authority: account.Operate, Generated: true}, shownStamp}, nil
			}
			var damaged *credential.DamagedError
			if name == credential.User && errors.As(err, &damaged) {
				return entrant{}, admin.ErrWrong
			}
			if !errors.Is(err, credential.ErrNone) {
				return entrant{a, stamp}, err
			}
			select {
			case s.c.hash <- struct{}{}:
			default:
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return entrant{}, err
			}
		}
	})
}

// still reports whether the account is as it was at the login.
func (s *session) still() bool {
	if s.stamp == shownStamp {
		s.reloadPassword()
		return s.c.cfg.Keeper.Plain() != ""
	}
	_, stamp, err := s.c.cfg.Admin.Stamp(s.who.Name)
	return stamp == s.stamp || err != nil && !errors.Is(err, admin.ErrUnknown)
}

// mayOperate is nil when the account may change something.
func (s *session) mayOperate() error {
	if s.who.Authority != account.Operate {
		return admin.ErrDenied
	}
	return nil
}

// welcome tells what must be known before anything is typed, and asks what must
// be answered.
func (s *session) welcome(ctx context.Context) error {
	w, now := s.words(), s.c.snapshot()
	width, _ := s.size()
	s.printf("\n")
	for _, text := range warnings(w, now) {
		s.printf("%s%s%s\n", alarm, hang("! "+text, width-2, 2), plain)
	}
	if s.who.Authority != account.Operate {
		s.say("welcome.view")
		s.say("welcome.help")
		return nil
	}
	if now.status != nil && now.status.Machine.Changed {
		if err := s.askClone(ctx); err != nil {
			return err
		}
	}
	if now.password != "" {
		s.say("welcome.generated")
	}
	if now.status != nil && now.status.Role == rolePortal {
		s.say("welcome.portal")
	}
	if now.password != "" && !s.c.opened(s.name) {
		s.showMenu(mainMenu())
		s.say("welcome.menu-open")
		return nil
	}
	s.say("welcome.help")
	return nil
}

// opened reports whether the menu has opened by itself on this terminal, which
// it does once.
func (c *Console) opened(terminal string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.menus, terminal) {
		return true
	}
	c.menus = append(c.menus, terminal)
	return false
}

package terminal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/services/internal/credential"
)

// Recovery: whoever can restart the machine and sits at its console may set a
// new password for the administrator. Both are needed, and both show: the
// machine was down, the audit log has it, and the next login on the web tells.
//
//	boot ──3 minutes──▶ closed
//	  └──── used ─────────▲
//
// A dialogue that was begun in time may be ended later; a minute without a key
// ends it.
const (
	recoverName   = "recover"
	recoverWindow = 3 * time.Minute
)

// RecoveredPath is Config.Recovered of the appliance.
var RecoveredPath = filepath.Join(layout.RunDir, "console-serial", "recovered")

// uptime is how long the machine runs; setting its clock does not change that.
func uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return recoverWindow // closed
	}
	return time.Duration(t.Nano())
}

// recoveryOpen reports whether it is early enough and nobody has used it.
func (c *Console) recoveryOpen() bool {
	if c.cfg.Uptime() >= recoverWindow {
		return false
	}
	_, err := os.Lstat(c.cfg.Recovered)
	return errors.Is(err, os.ErrNotExist)
}

// statusWait is how long recovery waits for the appliance's state. Right after the
// boot nobody may know it yet, and that is when the name is typed.
const statusWait = 15 * time.Second

// recoverable reports whether the name that is typed stands for recovery.
func (c *Console) recoverable(ctx context.Context) bool {
	for end := time.Now().Add(statusWait); c.recoveryOpen(); {
		if st := c.snapshot().status; st != nil {
			return st.Recovery
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pollEvery / 10):
		}
		if time.Now().After(end) {
			return false
		}
	}
	return false
}

// recover asks for a new password of the administrator and sets it.
func (s *session) recover(ctx context.Context) error {
	who := s.actor(recoverName)
	s.log.Warn("recovery of the administrator's password begun")
	s.say("recover.what")
	typed, err := s.readLine(ctx, s.words().T("recover.confirm"), false, idleLogin, nil)
	s.ed.Reset()
	if err != nil {
		return err
	}
	if strings.TrimSpace(typed) != "RESET" {
		s.say("cancelled")
		return nil
	}
	s.say("passwd.rule", credential.MinLength)
	next, err := s.newPassword(ctx, "", idleLogin)
	if err != nil || next == "" {
		return err
	}
	// First of all it is used up: it must not be left open when something fails
	// half way (the machine can be restarted), and one of two terminals is quicker.
	f, err := os.OpenFile(s.c.cfg.Recovered, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, os.ErrExist):
		s.say("recover.used")
		return nil
	case err != nil:
		s.log.Error("recovery", "error", err)
		s.say("error", clean(err.Error(), 200))
		return nil
	}
	f.Close()
	err = s.within(ctx, opLimit, func(ctx context.Context) error { return s.c.cfg.Admin.RecoverPassword(ctx, who, next) })
	s.log.Warn("recovery of the administrator's password", "error", err)
	if err != nil {
		return s.report(ctx, err)
	}
	s.reloadPassword()
	s.c.failures.Succeed(s.name)
	s.say("recover.done")
	return nil
}

// passwordTries is how often a new password is asked for.
const passwordTries = 3

// newPassword asks twice for a new password, again after one that is refused or
// typed differently, and returns it, or "" when nothing came of it: an empty line
// gives up. current is the one in force, where it is known.
func (s *session) newPassword(ctx context.Context, current string, idle time.Duration) (string, error) {
	w := s.words()
	for range passwordTries {
		next, err := s.readLine(ctx, w.T("passwd.new"), true, idle, nil)
		if err != nil {
			return "", err
		}
		if next == "" {
			s.say("cancelled")
			return "", nil
		}
		var refusal credential.Refusal
		if errors.As(s.refuse(current, next), &refusal) {
			s.say("passwd.refused", w.T("password."+string(refusal)))
			continue
		}
		again, err := s.readLine(ctx, w.T("passwd.again"), true, idle, nil)
		if err != nil {
			return "", err
		}
		if again == next {
			return next, nil
		}
		s.say("passwd.differ")
	}
	return "", nil
}

func (s *session) refuse(current, next string) error {
	if next == current {
		return credential.ErrUnchanged
	}
	if s.c.cfg.Keeper.IsGenerated(next) {
		return credential.ErrShown
	}
	return credential.Judge(next)
}

// reloadPassword has what was shown of a generated password vanish.
func (s *session) reloadPassword() {
	if err := s.c.cfg.Keeper.Load(); err != nil {
		s.log.Error("generated password", "error", err)
	}
	s.c.passwordChanged()
}

package terminal

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/look"
)

func (s *session) cmdHelp(_ context.Context, args []string) error {
	w := s.words()
	if len(args) == 0 {
		for _, c := range commands {
			s.printf("  %s %s\n", pad(strings.TrimSpace(c.name+" "+c.usage), 26), w.T("help."+c.name))
		}
		s.printf("\n")
		s.say("help.keys")
		return nil
	}
	c := find(strings.ToLower(args[0]))
	if c == nil {
		return usageError{"unknown", clean(args[0], 40)}
	}
	s.say("usage", strings.TrimSpace(c.name+" "+c.usage))
	s.say("more." + c.name)
	return nil
}

func (s *session) cmdLogout(context.Context, []string) error { return errLogout }

func (s *session) cmdStart(ctx context.Context, args []string) error {
	return s.operate(ctx, control.OpStart, args[0], "started")
}

func (s *session) cmdRestart(ctx context.Context, args []string) error {
	return s.operate(ctx, control.OpRestart, args[0], "restarted")
}

func (s *session) cmdStop(ctx context.Context, args []string) error {
	if args[0] == "console-serial" {
		ok, err := s.confirm(ctx, "stop.self")
		if err != nil || !ok {
			return err
		}
	}
	return s.operate(ctx, control.OpStop, args[0], "stopped")
}

func (s *session) operate(ctx context.Context, op control.Op, name, done string) error {
	began := time.Now()
	if err := s.do(ctx, control.Request{Op: op, Service: name}); err != nil {
		return err
	}
	s.say(done, clean(name, 40), s.words().Seconds(time.Since(began)))
	return nil
}

func (s *session) cmdReboot(ctx context.Context, _ []string) error {
	return s.shutdown(ctx, control.OpReboot, "reboot.sure", "reboot.now")
}

func (s *session) cmdPoweroff(ctx context.Context, _ []string) error {
	return s.shutdown(ctx, control.OpPowerOff, "poweroff.sure", "poweroff.now")
}

func (s *session) shutdown(ctx context.Context, op control.Op, sure, now string) error {
	ok, err := s.confirm(ctx, sure)
	if err != nil || !ok {
		return err
	}
	if err := s.do(ctx, control.Request{Op: op}); err != nil {
		return err
	}
	s.say(now)
	return errLogout
}

func (s *session) cmdRole(ctx context.Context, args []string) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	w := s.words()
	if len(args) == 0 {
		s.say("role.is", roles(w, st))
		return nil
	}
	c := find("role")
	next := strings.ToLower(args[0])
	if !slices.Contains(c.choices(s), next) {
		return usageError{"usage", c.name + " " + c.usage}
	}
	if next == cmp.Or(st.NextRole, st.Role) {
		s.say("role.same", roles(w, st))
		return nil
	}
	ok, err := s.confirm(ctx, "role.sure", w.Role(next))
	if err != nil || !ok {
		return err
	}
	if err := s.do(ctx, control.Request{Op: control.OpRole, Role: next}); err != nil {
		return err
	}
	s.say("role.set")
	return nil
}

// roles names the role, and the one after a restart when that is another.
func roles(w *look.Words, st *control.Status) string {
	text := w.Role(clean(st.Role, 40))
	if st.NextRole != "" {
		text = w.T("role.next", text, w.Role(clean(st.NextRole, 40)))
	}
	return text
}

// repairConfirmed is what PID 1 asks to be added to a step that would lose files
// which can still be read.
const repairConfirmed = "!"

func (s *session) cmdRepair(ctx context.Context, args []string) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	w := s.words()
	if len(args) == 0 {
		s.say("repair.state", clean(w.Or("perm.", string(st.Perm.State)), 60))
		if st.Perm.Message != "" {
			s.say("error", clean(st.Perm.Message, 400))
		}
		s.say("more.repair")
		return nil
	}
	step := control.Repair(strings.ToLower(args[0]))
	switch control.Repair(strings.TrimSuffix(string(step), repairConfirmed)) {
	case control.RepairRetry:
	case control.RepairFormat:
		if st.Perm.State == control.PermReadWrite {
			s.say("repair.state", clean(w.Or("perm.", string(st.Perm.State)), 60))
			s.say("repair.normal")
			return nil
		}
		s.say("repair.format")
		answer, err := s.ask(ctx, w.T("repair.confirm"), false)
		if err != nil {
			return err
		}
		if strings.TrimSpace(answer) != "FORMAT" {
			s.say("cancelled")
			return nil
		}
	default:
		return usageError{"usage", "repair [retry|format]"}
	}
	if err := s.do(ctx, control.Request{Op: control.OpRepair, Repair: step}); err != nil {
		return err
	}
	if st, err = s.status(ctx); err != nil {
		return err
	}
	s.say("repair.state", clean(w.Or("perm.", string(st.Perm.State)), 60))
	return nil
}

func (s *session) cmdLanguage(_ context.Context, args []string) error {
	if len(args) == 0 {
		s.say("language.is", s.words().Language().Native())
		return nil
	}
	l, ok := look.ParseLanguage(args[0])
	if !ok {
		return usageError{"usage", "language [en|ru]"}
	}
	err := s.c.setLanguage(l)
	s.say("language.is", l.Native())
	if err != nil {
		s.log.Warn("language", "error", err)
		s.say("language.lost")
	}
	return nil
}

func (s *session) cmdPasswd(ctx context.Context, _ []string) error {
	w := s.words()
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if st.Perm.State == control.PermReadOnly {
		s.say("passwd.read-only")
		return nil
	}
	current, err := s.ask(ctx, w.T("passwd.current"), true)
	if err != nil {
		return err
	}
	var good bool
	err = s.wait(ctx, false, func(ctx context.Context, _ func(string)) (err error) {
		good, err = s.c.verify(ctx, current)
		return err
	})
	if err != nil {
		return err
	}
	if !good {
		s.log.Warn("password not changed", "reason", "wrong current password")
		s.say("passwd.wrong")
		return s.pause(ctx, 2*time.Second)
	}
	s.say("passwd.rule", credential.MinLength)
	next, err := s.ask(ctx, w.T("passwd.new"), true)
	if err != nil {
		return err
	}
	var refusal credential.Refusal
	if errors.As(s.refuse(current, next), &refusal) {
		s.say("passwd.refused", w.T("password."+string(refusal)))
		return nil
	}
	again, err := s.ask(ctx, w.T("passwd.again"), true)
	if err != nil {
		return err
	}
	if again != next {
		s.say("passwd.differ")
		return nil
	}
	k := s.c.cfg.Keeper
	err = s.wait(ctx, false, func(ctx context.Context, _ func(string)) error {
		h, err := k.Hasher.Hash(ctx, next)
		if err != nil {
			return err
		}
		return k.Store.Set(h, time.Now())
	})
	if err != nil {
		s.log.Error("password not changed", "error", err)
		if errors.Is(err, syscall.EROFS) || errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
			s.say("passwd.read-only")
			return nil
		}
		return err
	}
	if err := k.Load(); err != nil { // the generated one is gone
		s.log.Error("generated password", "error", err)
	}
	s.c.passwordChanged()
	s.log.Info("administrator's password changed")
	s.say("passwd.done")
	if st.Perm.State == control.PermMissing {
		s.say("passwd.lost")
	}
	return nil
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

// logOptions are the arguments of logs.
type logOptions struct {
	service string
	follow  bool
	lines   int
}

// defaultLines is what fits a screen with the prompt.
const defaultLines = 20

// maxLines is how many past lines can be asked for.
const maxLines = 10000

func parseLogs(args []string) (logOptions, error) {
	o := logOptions{lines: defaultLines}
	bad := usageError{"usage", "logs [NAME] [-f] [-n N]"}
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "-f":
			o.follow = true
		case strings.HasPrefix(a, "-n"):
			a = a[2:]
			if a == "" {
				if i++; i == len(args) {
					return o, bad
				}
				a = args[i]
			}
			n, err := strconv.Atoi(a)
			if err != nil || n < 1 || n > maxLines {
				return o, usageError{"logs.lines", strconv.Itoa(maxLines)}
			}
			o.lines = n
		case strings.HasPrefix(a, "-") || o.service != "":
			return o, bad
		default:
			o.service = a
		}
	}
	return o, nil
}

// What a line of a log says besides its text: when it was written, which stands
// before it already, and the kernel's priority.
var (
	slogTime       = regexp.MustCompile(`^time=\S+ `)
	kernelPriority = regexp.MustCompile(`^(\[ *[0-9.]+\] )?<[0-9]+> ?`)
)

// logText is a line's text without those.
func logText(l control.Log) string {
	if l.Service == "kernel" {
		return kernelPriority.ReplaceAllString(l.Text, "$1")
	}
	return slogTime.ReplaceAllString(l.Text, "")
}

func (s *session) cmdLogs(ctx context.Context, args []string) error {
	o, err := parseLogs(args)
	if err != nil {
		return err
	}
	names := s.logNames()
	unknown := o.service != "" && s.c.snapshot().status != nil && !slices.Contains(names, o.service)
	if o.follow && unknown { // nothing would ever come
		s.say("logs.unknown", clean(o.service, 40), strings.Join(names, ", "))
		return nil
	}
	if o.follow {
		s.say("logs.follow")
	}
	n := 0
	width, _ := s.size()
	err = s.wait(ctx, true, func(ctx context.Context, emit func(string)) error {
		return s.c.cfg.Appliance.Logs(ctx, control.Request{Service: o.service, Lines: o.lines, Follow: o.follow}, func(l control.Log) error {
			n++
			stamp := l.At.UTC().Format("15:04:05") + " " + pad(clean(l.Service, 40), 14) + " "
			emit(stamp + hang(clean(logText(l), 2000), width-1, utf8.RuneCountInString(stamp)))
			return ctx.Err()
		})
	})
	var refused *control.Error
	switch {
	case n == 0 && unknown && (err == nil || errors.As(err, &refused) && refused.Code == control.CodeUnknown):
		s.say("logs.unknown", clean(o.service, 40), strings.Join(names, ", "))
		return nil
	case errors.Is(err, context.Canceled) && ctx.Err() == nil:
		return nil // Ctrl-C is how following ends
	case errors.Is(err, io.EOF):
		return nil
	case err == nil && n == 0:
		s.say("logs.none")
	}
	return err
}

package terminal

import (
	"cmp"
	"context"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/look"
)

func (s *session) cmdHelp(_ context.Context, args []string) error {
	w := s.words()
	width, _ := s.size()
	if len(args) == 0 {
		for _, c := range commands {
			s.printf("  %s %s\n", pad(strings.TrimSpace(c.name+" "+c.usage), helpWidth), hang(w.T("help."+c.name), width-1, helpWidth+3))
		}
		s.printf("\n")
		s.say("help.keys")
		return nil
	}
	c := find(strings.ToLower(args[0]))
	if c == nil {
		return usageError{"unknown", clean(args[0], 40)}
	}
	s.usage(c.syntax())
	s.say("more." + c.name)
	return nil
}

// helpWidth is the room for a command in the list of all.
const helpWidth = 32

// usage prints the forms of a command as they are: they are not wrapped.
func (s *session) usage(syntax string) { s.printf("%s\n", s.words().T("usage", syntax)) }

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
	err := s.do(ctx, string(op)+" "+clean(name, 40), opLimit, func(ctx context.Context, who admin.Actor) error {
		return s.c.cfg.Admin.Operate(ctx, who, op, name)
	})
	if err != nil {
		return err
	}
	s.say(done, clean(name, 40), s.words().Seconds(time.Since(began)))
	return nil
}

func (s *session) cmdReboot(ctx context.Context, _ []string) error {
	return s.shutdown(ctx, s.c.cfg.Admin.Reboot, "reboot")
}

func (s *session) cmdPoweroff(ctx context.Context, _ []string) error {
	return s.shutdown(ctx, s.c.cfg.Admin.PowerOff, "poweroff")
}

func (s *session) shutdown(ctx context.Context, f func(context.Context, admin.Actor) error, what string) error {
	ok, err := s.confirm(ctx, what+".sure")
	if err != nil || !ok {
		return err
	}
	if err := s.do(ctx, what, opLimit, f); err != nil {
		return err
	}
	s.say(what + ".now")
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
	if !s.inZone(st.Role) {
		return nil
	}
	c := find("role")
	next := strings.ToLower(args[0])
	if !slices.Contains(c.words(s, nil), next) {
		return c.wrong()
	}
	if next == cmp.Or(st.NextRole, st.Role) {
		s.say("role.same", roles(w, st))
		return nil
	}
	ok, err := s.confirm(ctx, "role.sure", w.Role(next))
	if err != nil || !ok {
		return err
	}
	err = s.do(ctx, "role "+next, opLimit, func(ctx context.Context, who admin.Actor) error { return s.c.cfg.Admin.SetRole(ctx, who, next) })
	if err != nil {
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
		return find("repair").wrong()
	}
	err = s.do(ctx, "repair "+string(step), opLimit, func(ctx context.Context, _ admin.Actor) error {
		return s.c.cfg.Appliance.Do(ctx, control.Request{Op: control.OpRepair, Repair: step})
	})
	// What is written of it before formatting would be lost.
	s.note(ctx, s.who, "repair", string(step), err)
	if err != nil {
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
		return find("language").wrong()
	}
	err := s.c.setLanguage(l)
	s.say("language.is", l.Native())
	if err != nil {
		s.log.Warn("language", "error", err)
		s.say("language.lost")
	}
	return nil
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
	limited, cancel := ctx, context.CancelFunc(func() {})
	if !o.follow {
		limited, cancel = context.WithTimeout(ctx, opLimit)
	}
	defer cancel()
	err = s.wait(limited, true, func(ctx context.Context, emit func(string)) error {
		return s.c.cfg.Admin.Logs(ctx, control.Request{Service: o.service, Lines: o.lines, Follow: o.follow}, func(l control.Log) error {
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

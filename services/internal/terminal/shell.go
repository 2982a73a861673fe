package terminal

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/control"
)

// command is one that an administrator can type. Its help is in the
// dictionaries: help.NAME in one line, more.NAME in full.
type command struct {
	name    string
	usage   string // arguments
	min     int    // arguments at least
	max     int    // arguments at most
	run     func(*session, context.Context, []string) error
	choices func(*session) []string // what the first argument may be
}

// commands in the order of the help.
var commands []command

func init() { // not a literal: help refers to the list itself
	commands = []command{
		{"status", "", 0, 0, (*session).cmdStatus, nil},
		{"services", "", 0, 0, (*session).cmdServices, nil},
		{"ifconfig", "[NAME]", 0, 1, (*session).cmdIfconfig, (*session).interfaceNames},
		{"logs", "[NAME] [-f] [-n N]", 0, 4, (*session).cmdLogs, (*session).logNames},
		{"start", "NAME", 1, 1, (*session).cmdStart, (*session).serviceNames},
		{"stop", "NAME", 1, 1, (*session).cmdStop, (*session).serviceNames},
		{"restart", "NAME", 1, 1, (*session).cmdRestart, (*session).serviceNames},
		{"version", "", 0, 0, (*session).cmdVersion, nil},
		{"passwd", "", 0, 0, (*session).cmdPasswd, nil},
		{"language", "[en|ru]", 0, 1, (*session).cmdLanguage, fixed("en", "ru")},
		{"role", "[controller|router]", 0, 1, (*session).cmdRole, fixed("controller", "router")},
		{"repair", "[retry|format]", 0, 1, (*session).cmdRepair, fixed("retry", "format")},
		{"reboot", "", 0, 0, (*session).cmdReboot, nil},
		{"poweroff", "", 0, 0, (*session).cmdPoweroff, nil},
		{"help", "[COMMAND]", 0, 1, (*session).cmdHelp, (*session).commandNames},
		{"logout", "", 0, 0, (*session).cmdLogout, nil},
	}
}

func fixed(words ...string) func(*session) []string {
	return func(*session) []string { return words }
}

// aliases are names from other systems that people type.
var aliases = map[string]string{"exit": "logout", "quit": "logout", "?": "help", "shutdown": "poweroff", "ps": "services", "ip": "ifconfig", "log": "logs"}

func find(name string) *command {
	if a, ok := aliases[name]; ok {
		name = a
	}
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return &commands[i]
}

// parse splits a command line at spaces. There is no quoting: no argument has
// a space in it.
func parse(line string) (*command, []string, error) {
	f := strings.Fields(line)
	if len(f) == 0 {
		return nil, nil, nil
	}
	c := find(strings.ToLower(f[0]))
	if c == nil {
		return nil, nil, usageError{"unknown", clean(f[0], 40)}
	}
	if n := len(f) - 1; n < c.min || n > c.max {
		return nil, nil, usageError{"usage", strings.TrimSpace(c.name + " " + c.usage)}
	}
	return c, f[1:], nil
}

// spell gives arguments that are a command's choices but for upper and lower
// case the spelling of the choice.
func (s *session) spell(c *command, args []string) []string {
	if c.choices == nil || len(args) == 0 {
		return args
	}
	choices, out := c.choices(s), slices.Clone(args)
	for i, a := range out {
		if slices.Contains(choices, a) {
			continue
		}
		if n := slices.IndexFunc(choices, func(choice string) bool { return strings.EqualFold(choice, a) }); n >= 0 {
			out[i] = choices[n]
		}
	}
	return out
}

// usageError is something typed that is no command; key is a text with one
// argument.
type usageError struct{ key, arg string }

func (e usageError) Error() string { return e.key + ": " + e.arg }

// errLogout ends a session.
var errLogout = errors.New("logout")

// shell runs commands until the administrator logs out (nil), types nothing for
// too long, or the terminal breaks off.
func (s *session) shell(ctx context.Context) error {
	s.ed.Complete = s.complete
	now := s.c.snapshot()
	s.printf("\n")
	for _, text := range warnings(s.words(), now) {
		s.printf("%s%s%s\n", alarm, hang("! "+text, 78, 2), plain)
	}
	if now.password != "" {
		s.say("welcome.generated")
	}
	s.say("welcome.help")
	for {
		line, err := s.readLine(ctx, s.host()+"> ", false, idleLogout, nil)
		switch {
		case errors.Is(err, errInterrupt):
			continue
		case errors.Is(err, errLong):
			s.say("too-long")
			continue
		case errors.Is(err, errIdle):
			s.say("idle", s.words().Duration(idleLogout))
			return err
		case err != nil:
			return err
		}
		cmd, args, err := parse(line)
		if err == nil && cmd != nil {
			err = cmd.run(s, ctx, s.spell(cmd, args))
		}
		if errors.Is(err, errLogout) {
			return nil
		}
		if err := s.report(ctx, err); err != nil {
			return err
		}
	}
}

// report tells the administrator what went wrong; it returns an error that
// ends the session.
func (s *session) report(ctx context.Context, err error) error {
	var usage usageError
	var refused *control.Error
	switch {
	case err == nil:
	case errors.As(err, &usage):
		s.say(usage.key, usage.arg)
	case errors.As(err, &refused):
		s.say("refused", clean(refused.Message, 400))
	case errors.Is(err, context.DeadlineExceeded):
		s.say("timeout")
	case errors.Is(err, errIdle):
		return err
	case soft(err) || errors.Is(err, context.Canceled) && ctx.Err() == nil:
		s.say("cancelled")
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		s.say("error", clean(err.Error(), 400))
	}
	return nil
}

// complete offers what the word at the cursor may become.
func (s *session) complete(head string) []string {
	f := strings.Fields(head)
	word := ""
	if !strings.HasSuffix(head, " ") && len(f) > 0 {
		word, f = f[len(f)-1], f[:len(f)-1]
	}
	var from []string
	switch len(f) {
	case 0:
		from = s.commandNames()
	case 1:
		if c := find(strings.ToLower(f[0])); c != nil && c.choices != nil {
			from = c.choices(s)
		}
	}
	var out []string
	for _, w := range from {
		if strings.HasPrefix(w, word) {
			out = append(out, w)
		}
	}
	return out
}

func (s *session) commandNames() []string {
	var out []string
	for _, c := range commands {
		out = append(out, c.name)
	}
	slices.Sort(out)
	return out
}

func (s *session) serviceNames() []string {
	var out []string
	if st := s.c.snapshot().status; st != nil {
		for _, v := range st.Services {
			out = append(out, clean(v.Name, 40))
		}
	}
	return out
}

func (s *session) logNames() []string { return append(s.serviceNames(), "init", "kernel") }

func (s *session) interfaceNames() []string {
	var out []string
	for _, i := range s.c.snapshot().interfaces {
		out = append(out, clean(i.Name, 15))
	}
	return out
}

// ask reads an answer; the empty string is none.
func (s *session) ask(ctx context.Context, prompt string, hidden bool) (string, error) {
	return s.readLine(ctx, prompt, hidden, idleLogout, nil)
}

// confirm asks a question that is answered with y.
func (s *session) confirm(ctx context.Context, key string, args ...any) (bool, error) {
	s.say(key, args...)
	answer, err := s.ask(ctx, s.words().T("confirm"), false)
	if err != nil {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes", "д", "да":
		return true, nil
	}
	s.say("cancelled")
	return false, nil
}

// do asks PID 1 for an operation and waits for it.
func (s *session) do(ctx context.Context, req control.Request) error {
	began := time.Now()
	err := s.wait(ctx, false, func(ctx context.Context, _ func(string)) error {
		ctx, cancel := context.WithTimeout(ctx, opLimit)
		defer cancel()
		return s.c.cfg.Appliance.Do(ctx, req)
	})
	s.log.Info("operation", "op", req.Op, "service", req.Service, "role", req.Role, "repair", req.Repair,
		"took", time.Since(began).Round(time.Millisecond), "error", err)
	return err
}

// status asks PID 1 afresh.
func (s *session) status(ctx context.Context) (*control.Status, error) {
	var st *control.Status
	err := s.wait(ctx, false, func(ctx context.Context, _ func(string)) (err error) {
		ctx, cancel := context.WithTimeout(ctx, statusLimit)
		defer cancel()
		st, err = s.c.cfg.Appliance.Status(ctx)
		return err
	})
	return st, err
}

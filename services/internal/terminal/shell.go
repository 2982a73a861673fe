package terminal

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/lineedit"
)

// command is one that an administrator can type. Its help is in the
// dictionaries: help.NAME in one line, more.NAME in full.
type command struct {
	name     string
	usage    string   // arguments, as the list of commands shows them
	forms    []string // all of them, when usage does not tell
	min, max int      // how many arguments
	// operates is from how many arguments on it needs the authority to operate;
	// onlyLooks is never.
	operates int
	run      func(*session, context.Context, []string) error
	words    func(s *session, before []string) []string // what the next argument may be
}

const onlyLooks = 99 // more than any command takes

// commands in the order of the help.
var commands []command

func init() { // not a literal: help refers to the list itself
	commands = []command{
		{"menu", "", nil, 0, 0, onlyLooks, (*session).cmdMenu, nil},
		{"status", "", nil, 0, 0, onlyLooks, (*session).cmdStatus, nil},
		{"ifconfig", "[NAME]", nil, 0, 1, onlyLooks, (*session).cmdIfconfig, first((*session).interfaceNames)},
		{"network", "[set|route|confirm|…]", networkForms, 0, 20, 1, (*session).cmdNetwork, networkWords},
		{"firewall", "[allow PORT NET…|all]", []string{"firewall", "firewall allow PORT NETWORK…", "firewall allow PORT all"}, 0, 70, 1, (*session).cmdFirewall, firewallWords},
		{"configure", "[token|zone|router|…]", configureForms, 0, 3, 1, (*session).cmdConfigure, configureWords},
		{"trial", "[new|end]", trialForms, 0, 40, 0, (*session).cmdTrial, tree{"": {"new", "end"}}.words},
		{"services", "", nil, 0, 0, onlyLooks, (*session).cmdServices, nil},
		{"start", "NAME", nil, 1, 1, 0, (*session).cmdStart, first((*session).serviceNames)},
		{"stop", "NAME", nil, 1, 1, 0, (*session).cmdStop, first((*session).serviceNames)},
		{"restart", "NAME", nil, 1, 1, 0, (*session).cmdRestart, first((*session).serviceNames)},
		{"logs", "[NAME] [-f] [-n N]", nil, 0, 4, onlyLooks, (*session).cmdLogs, func(s *session, _ []string) []string { return s.logNames() }},
		{"passwd", "", nil, 0, 0, onlyLooks, (*session).cmdPasswd, nil},
		{"users", "[add|passwd|del|…]", usersForms, 0, 3, onlyLooks, (*session).cmdUsers, usersWords},
		{"certs", "[reset|request|…]", certsForms, 0, 20, 1, (*session).cmdCerts, certsWords},
		{"ping", "HOST", nil, 1, 1, 0, (*session).cmdPing, nil},
		{"traceroute", "HOST", nil, 1, 1, 0, (*session).cmdTraceroute, nil},
		{"lookup", "NAME [TYPE] [@SERVER]", nil, 1, 3, 0, (*session).cmdLookup, after(1, recordTypes...)},
		{"tls", "HOST [PORT] [proxy]", nil, 1, 3, 0, (*session).cmdTLS, after(2, "proxy")},
		{"port", "HOST PORT [proxy]", nil, 2, 3, 0, (*session).cmdPort, after(2, "proxy")},
		{"counters", "", nil, 0, 0, 0, (*session).cmdCounters, nil},
		{"time", "[set TIME|sync]", []string{"time", "time set YYYY-MM-DD hh:mm:ss", "time sync"}, 0, 3, 1, (*session).cmdTime, tree{"": {"set", "sync"}}.words},
		{"audit", "[-n N]", nil, 0, 2, onlyLooks, (*session).cmdAudit, nil},
		{"role", "[controller|router]", nil, 0, 1, 1, (*session).cmdRole, after(0, "controller", "router")},
		{"portal", "[acme|install|self]", portalForms, 0, 2, 0, (*session).cmdPortal, tree{"": {"acme", "install", "self"}}.words},
		{"identity", "[same|copy]", nil, 0, 1, 1, (*session).cmdIdentity, after(0, "same", "copy")},
		{"language", "[en|ru]", nil, 0, 1, onlyLooks, (*session).cmdLanguage, after(0, "en", "ru")},
		{"version", "", nil, 0, 0, onlyLooks, (*session).cmdVersion, nil},
		{"repair", "[retry|format]", nil, 0, 1, 1, (*session).cmdRepair, after(0, "retry", "format")},
		{"reboot", "", nil, 0, 0, 0, (*session).cmdReboot, nil},
		{"poweroff", "", nil, 0, 0, 0, (*session).cmdPoweroff, nil},
		{"factory-reset", "", nil, 0, 0, 0, (*session).cmdFactoryReset, nil},
		{"help", "[COMMAND]", nil, 0, 1, onlyLooks, (*session).cmdHelp, first((*session).commandNames)},
		{"logout", "", nil, 0, 0, onlyLooks, (*session).cmdLogout, nil},
	}
}

// first offers words for the first argument.
func first(words func(*session) []string) func(*session, []string) []string {
	return func(s *session, before []string) []string {
		if len(before) > 0 {
			return nil
		}
		return words(s)
	}
}

// after offers fixed words behind n arguments.
func after(n int, words ...string) func(*session, []string) []string {
	return func(_ *session, before []string) []string {
		if len(before) != n {
			return nil
		}
		return words
	}
}

// tree offers fixed words, by what is before them.
type tree map[string][]string

func (t tree) words(_ *session, before []string) []string {
	return t[strings.ToLower(strings.Join(before, " "))]
}

// aliases are names from other systems that people type.
var aliases = map[string]string{"exit": "logout", "quit": "logout", "?": "help", "shutdown": "poweroff", "ps": "services", "ip": "ifconfig", "log": "logs",
	"date": "time", "nslookup": "lookup", "dig": "lookup", "user": "users", "config": "configure", "net": "network", "netstat": "counters"}

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

// syntax is every form of the command, one a line.
func (c *command) syntax() string {
	if len(c.forms) > 0 {
		return strings.Join(c.forms, "\n       ")
	}
	return strings.TrimSpace(c.name + " " + c.usage)
}

func (c *command) wrong() error { return usageError{"usage", c.syntax()} }

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
		return nil, nil, c.wrong()
	}
	return c, f[1:], nil
}

// spell gives arguments that are words of a command but for upper and lower
// case the spelling of the word.
func (s *session) spell(c *command, args []string) []string {
	if c.words == nil {
		return args
	}
	out := slices.Clone(args)
	for i, a := range out {
		words := c.words(s, out[:i])
		if slices.Contains(words, a) {
			continue
		}
		if n := slices.IndexFunc(words, func(w string) bool { return strings.EqualFold(w, a) }); n >= 0 {
			out[i] = words[n]
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

// errEnded: the account was changed or removed while it was logged in.
var errEnded = errors.New("the account was changed")

// shell runs commands until the administrator logs out (nil), types nothing for
// too long, or the terminal breaks off. A number alone is an entry of the main
// menu.
func (s *session) shell(ctx context.Context) error {
	s.ed.Complete = s.complete
	if c, l := s.dev.Size(); c == 0 || l == 0 {
		s.printf("%s", lineedit.AskSize)
	}
	if err := s.welcome(ctx); err != nil {
		if err := s.report(ctx, err); err != nil {
			return err
		}
	}
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
		if !s.still() {
			s.say("ended")
			return errEnded
		}
		if entry := mainMenu().entry(line); entry != nil {
			err = entry.run(s, ctx)
		} else {
			err = s.execute(ctx, line)
		}
		if errors.Is(err, errLogout) {
			return nil
		}
		if err := s.report(ctx, err); err != nil {
			return err
		}
		if err := s.page(ctx); err != nil {
			return err
		}
	}
}

// execute runs a command line.
func (s *session) execute(ctx context.Context, line string) error {
	cmd, args, err := parse(line)
	if err != nil || cmd == nil {
		return err
	}
	if len(args) >= cmd.operates {
		if err := s.mayOperate(); err != nil {
			return err
		}
	}
	return cmd.run(s, ctx, s.spell(cmd, args))
}

// report tells the administrator what went wrong; it returns an error that
// ends the session.
func (s *session) report(ctx context.Context, err error) error {
	var usage usageError
	var refused *control.Error
	switch {
	case err == nil:
	case errors.As(err, &usage) && usage.key == "usage":
		s.usage(usage.arg)
	case errors.As(err, &usage):
		s.say(usage.key, usage.arg)
	case fault.Of(err) != nil:
		s.sayFaults(fault.Of(err))
	case errors.Is(err, admin.ErrDenied):
		s.say("err.denied")
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
	case errors.Is(err, admin.ErrReadOnly):
		s.say("err.read-only")
	case errors.Is(err, admin.ErrUnknown):
		s.say("err.unknown", clean(err.Error(), 200))
	case errors.Is(err, admin.ErrAway):
		s.say("err.away", clean(err.Error(), 200))
	default:
		s.say("error", clean(err.Error(), 400))
	}
	return nil
}

// sayFaults names each value that is wrong, and why.
func (s *session) sayFaults(list fault.List) {
	width, _ := s.size()
	for _, f := range list[:min(len(list), 20)] {
		text := clean(f.Text(s.words()), 600)
		if f.Field != "" {
			text = s.label(f.Field) + ": " + text
		}
		s.printf("%s\n", hang(text, width-1, 2))
	}
}

// label names the field of a request: field.NAME, without the numbers of
// elements, which are counted from 1.
func (s *session) label(field string) string {
	var name []string
	number := ""
	for _, part := range strings.Split(field, ".") {
		if n, err := strconv.Atoi(part); err == nil {
			number = " " + strconv.Itoa(n+1)
		} else {
			name = append(name, part)
		}
	}
	key := "field." + strings.Join(name, ".")
	if w := s.words(); w.Has(key) {
		return w.T(key) + number
	}
	return clean(field, 60)
}

// complete offers what the word at the cursor may become.
func (s *session) complete(head string) []string {
	f := strings.Fields(head)
	word := ""
	if !strings.HasSuffix(head, " ") && len(f) > 0 {
		word, f = f[len(f)-1], f[:len(f)-1]
	}
	var from []string
	if len(f) == 0 {
		from = s.commandNames()
	} else if c := find(strings.ToLower(f[0])); c != nil && c.words != nil {
		from = c.words(s, f[1:])
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
	case "y", "yes", "д", "да", "1": // a keypad, or a keyboard of another alphabet
		return true, nil
	}
	s.say("cancelled")
	return false, nil
}

// do has the administrator's side do something that changes the appliance, and
// waits for it.
func (s *session) do(ctx context.Context, what string, limit time.Duration, f func(context.Context, admin.Actor) error) error {
	began, who := time.Now(), s.who
	err := s.within(ctx, limit, func(ctx context.Context) error { return f(ctx, who) })
	s.log.Info("operation", "what", what, "account", who.Name, "took", time.Since(began).Round(time.Millisecond), "error", err)
	return err
}

// status asks PID 1 afresh.
func (s *session) status(ctx context.Context) (*control.Status, error) {
	return get(s, ctx, statusLimit, s.c.cfg.Appliance.Status)
}

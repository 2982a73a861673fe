package terminal

import (
	"context"
	"errors"
	"strconv"
	"strings"
)

// menu is a list of things to do, chosen by their numbers, for whoever does not
// know the commands. It needs nothing of the terminal but digits and Enter.
type menu struct {
	title   string // menu.TITLE is its text
	entries []entry
}

// entry is a line of a menu.
type entry struct {
	key string // menu.KEY is its text
	run func(*session, context.Context) error
}

// entry returns the entry of that number, or nil.
func (m menu) entry(text string) *entry {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 1 || n > len(m.entries) {
		return nil
	}
	return &m.entries[n-1]
}

// run runs a command line.
func run(line string) func(*session, context.Context) error {
	return func(s *session, ctx context.Context) error { return s.execute(ctx, line) }
}

// with asks for the arguments of a command and runs it. A key that ends with ?
// is of one that may be left out.
func with(command string, keys ...string) func(*session, context.Context) error {
	return func(s *session, ctx context.Context) error {
		line := command
		for _, key := range keys {
			key, optional := strings.CutSuffix(key, "?")
			answer, err := s.ask(ctx, s.words().T("ask."+key)+": ", false)
			if err != nil {
				return err
			}
			if answer = strings.TrimSpace(answer); answer == "" {
				if optional {
					break
				}
				return errInterrupt
			}
			line += " " + answer
		}
		return s.execute(ctx, line)
	}
}

// choose has one of words chosen by its number, and runs the command with it and
// what is behind it.
func choose(command string, words func(*session) []string, behind ...string) func(*session, context.Context) error {
	return func(s *session, ctx context.Context) error {
		word, err := s.choose(ctx, words(s))
		if err != nil {
			return err
		}
		return s.execute(ctx, strings.Join(append([]string{command, word}, behind...), " "))
	}
}

// choose asks for one of the words.
func (s *session) choose(ctx context.Context, words []string) (string, error) {
	for i, word := range words {
		s.printf("  %d  %s\n", i+1, word)
	}
	for {
		answer, err := s.ask(ctx, s.words().T("menu.choice", len(words)), false)
		if err != nil {
			return "", err
		}
		answer = strings.TrimSpace(answer)
		if answer == "" || answer == "0" {
			return "", errInterrupt
		}
		if n, err := strconv.Atoi(answer); err == nil && n >= 1 && n <= len(words) {
			return words[n-1], nil
		}
		s.say("menu.no-choice", clean(answer, 20), len(words))
	}
}

func named(names ...string) func(*session) []string {
	return func(*session) []string { return names }
}

// sub opens a menu.
func sub(m menu) func(*session, context.Context) error {
	return func(s *session, ctx context.Context) error { return s.runMenu(ctx, m) }
}

// mainMenu is all of them.
func mainMenu() menu {
	return menu{"main", []entry{
		{"network", sub(menu{"network", []entry{
			{"network.show", run("network")}, {"network.interfaces", run("ifconfig")}, {"network.eth0", (*session).formMaster},
			{"network.slave", (*session).formSlave}, {"network.ipv6", (*session).formIPv6},
			{"network.route-add", with("network route add", "network", "gateway")}, {"network.route-del", with("network route del", "network")},
			{"network.firewall", run("firewall")}, {"network.confirm", run("network confirm")}, {"network.revert", run("network revert")},
		}})},
		{"names", sub(menu{"names", []entry{
			{"names.dns", (*session).formDNS}, {"names.ntp", (*session).formNTP}, {"names.proxy", (*session).formProxy},
			{"names.time", run("time")}, {"names.sync", run("time sync")}, {"names.set", with("time set", "time")},
		}})},
		{"configure", sub(menu{"configure", []entry{
			{"configure.show", run("configure")}, {"configure.form", (*session).formConnector}, {"configure.token", run("configure token")},
			{"configure.external", with("configure external", "local", "external")}, {"configure.limit", with("configure limit", "participants")},
			{"configure.trial", run("trial new")}, {"configure.trials", run("trial")},
		}})},
		{"services", sub(menu{"services", []entry{
			{"services.show", run("services")}, {"services.restart", choose("restart", (*session).serviceNames)},
			{"services.stop", choose("stop", (*session).serviceNames)}, {"services.start", choose("start", (*session).serviceNames)},
			{"services.logs", choose("logs", (*session).logNames)}, {"services.follow", choose("logs", (*session).logNames, "-f")},
		}})},
		{"users", sub(menu{"users", []entry{
			{"users.own", run("passwd")}, {"users.show", run("users")},
			{"users.add-operate", with2("users add", "name", "operate")}, {"users.add-view", with2("users add", "name", "view")},
			{"users.passwd", choose("users passwd", (*session).accountNames)},
			{"users.operate", choose("users authority", (*session).accountNames, "operate")}, {"users.view", choose("users authority", (*session).accountNames, "view")},
			{"users.totp", choose("users totp off", (*session).accountNames)}, {"users.del", choose("users del", (*session).accountNames)},
		}})},
		{"certs", sub(menu{"certs", []entry{
			{"certs.show", run("certs")}, {"certs.request", with("certs request", "names")}, {"certs.install", run("certs install")},
			{"certs.reset", run("certs reset")}, {"certs.authorities", run("certs authorities")}, {"certs.trust", run("certs trust")},
		}})},
		{"diagnose", sub(menu{"diagnose", []entry{
			{"diagnose.ping", with("ping", "host")}, {"diagnose.traceroute", with("traceroute", "host")}, {"diagnose.lookup", with("lookup", "name", "type?")},
			{"diagnose.port", with("port", "host", "port")}, {"diagnose.tls", with("tls", "host", "port?")}, {"diagnose.counters", run("counters")},
		}})},
		{"system", sub(menu{"system", []entry{
			{"system.status", run("status")}, {"system.version", run("version")}, {"system.audit", run("audit")},
			{"system.language", choose("language", named("en", "ru"))}, {"system.role", choose("role", named("controller", "router"))},
			{"system.portal", run("portal")}, {"system.identity", run("identity")}, {"system.repair", run("repair")}, {"system.reboot", run("reboot")}, {"system.poweroff", run("poweroff")},
			{"system.reset", run("factory-reset")},
		}})},
		// At hand for whoever cannot read the rest.
		{"system.language", func(s *session, ctx context.Context) error {
			err := choose("language", named("en", "ru"))(s, ctx)
			if err == nil {
				s.showMenu(mainMenu())
			}
			return err
		}},
	}}
}

// with2 is with for one argument and a word behind it.
func with2(command, key, behind string) func(*session, context.Context) error {
	return func(s *session, ctx context.Context) error {
		answer, err := s.ask(ctx, s.words().T("ask."+key)+": ", false)
		if err != nil {
			return err
		}
		f := strings.Fields(answer)
		if len(f) != 1 {
			return errInterrupt
		}
		return s.execute(ctx, command+" "+f[0]+" "+behind)
	}
}

func (s *session) cmdMenu(context.Context, []string) error {
	s.showMenu(mainMenu())
	return nil
}

func (s *session) showMenu(m menu) {
	w := s.words()
	width, _ := s.size()
	s.printf("\n")
	s.heading("menu." + m.title)
	for i, e := range m.entries {
		s.printf("%s  %s\n", pad(strconv.Itoa(i+1), 4), hang(w.T("menu."+e.key), width-1, 6))
	}
	if m.title == "main" {
		s.say("menu.main-how")
	}
}

// runMenu shows a menu and does what is chosen, until 0 or Ctrl-C goes back.
func (s *session) runMenu(ctx context.Context, m menu) error {
	for {
		s.showMenu(m)
		answer, err := s.ask(ctx, s.words().T("menu.choice", len(m.entries)), false)
		switch {
		case errors.Is(err, errInterrupt), errors.Is(err, errEnd):
			answer = "0"
		case errors.Is(err, errLong):
			answer = "?"
		case err != nil:
			return err
		}
		if !s.still() {
			return errEnded
		}
		switch answer = strings.TrimSpace(answer); answer {
		case "0", "":
			s.showMenu(mainMenu())
			return nil
		}
		e := m.entry(answer)
		if e == nil {
			s.say("menu.no-choice", clean(answer, 20), len(m.entries))
			continue
		}
		err = e.run(s, ctx)
		if errors.Is(err, errLogout) {
			return err
		}
		if err := s.report(ctx, err); err != nil {
			return err
		}
		if err := s.page(ctx); err != nil {
			return err
		}
	}
}

package config

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/layout"
)

// Bounds of a service's values.
const (
	maxID         = 65533 // 65534 and 65535 are nobody's by custom
	minServiceMiB = 8     // the Go runtime alone needs some
	minFiles      = 64
	maxFiles      = 1 << 20 // Linux's default fs.nr_open
	maxAccess     = 256     // entries of each list

	// firstFreePort is what PID 1 sets ip_unprivileged_port_start to.
	firstFreePort = 80

	minDeadline = 100 * time.Millisecond
	maxDeadline = 10 * time.Minute
	minPause    = 10 * time.Millisecond
	maxPause    = time.Hour
	minCalm     = time.Second
	maxCalm     = 24 * time.Hour
)

var (
	serviceName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	userName    = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)
	terminal    = regexp.MustCompile(`^tty(S[0-3]|[1-9]|[1-5][0-9]|6[0-3])$`)
)

// reservedNames are the tags of PID 1's and the kernel's lines in the log, and
// the folders of layout that stand beside the services' own.
var reservedNames = []string{
	"init", "kernel", path.Base(layout.PermLogDir), path.Base(layout.CredentialDir), path.Base(layout.ConnectorDir),
}

// serviceChecker holds what must differ between services.
type serviceChecker struct {
	*checker
	cfg       *Config
	names     unique[string]
	users     unique[string]
	ids       unique[uint32]
	terminals unique[string]
	binaries  map[string]string // last element of a package → package
}

func (c *checker) services(cfg *Config) {
	c.count("services", len(cfg.Services), 1, maxServices, "services")
	sc := &serviceChecker{
		checker: c, cfg: cfg, binaries: make(map[string]string),
		names: unique[string]{}, users: unique[string]{}, ids: unique[uint32]{}, terminals: unique[string]{},
	}
	for i := range cfg.Services {
		sc.service(item("services", i), &cfg.Services[i])
	}
	// A group may be told from another service's user only when all are known.
	for i := range cfg.Services {
		sc.groups(join(item("services", i), "user.groups"), cfg.Services[i].User.Groups)
	}
}

func (c *serviceChecker) service(p string, s *Service) {
	c.name(join(p, "name"), s.Name, serviceName)
	if slices.Contains(reservedNames, s.Name) {
		c.fail(join(p, "name"), "%s: is reserved", quote(s.Name))
	}
	take(c.checker, c.names, join(p, "name"), s.Name)
	c.text(join(p, "title"), s.Title, maxTitle)
	c.program(p, s)
	c.user(join(p, "user"), &s.User)
	c.capabilities(join(p, "capabilities"), s.Capabilities)

	c.count(join(p, "roles"), len(s.Roles), 1, len(roles), "roles")
	seen := unique[string]{}
	for i, r := range s.Roles {
		c.oneOf(item(join(p, "roles"), i), r, roles...)
		take(c.checker, seen, item(join(p, "roles"), i), r)
	}
	if s.Control != "" {
		c.oneOf(join(p, "control"), s.Control, ControlRead, ControlServices, ControlManage, ControlOperate, ControlClock)
	}
	for i, t := range s.Terminals {
		at := item(join(p, "terminals"), i)
		if !terminal.MatchString(t) {
			c.fail(at, "%s: want tty1 to tty63 or ttyS0 to ttyS3", quote(t))
		}
		take(c.checker, c.terminals, at, t)
	}
	if s.MemoryMiB != 0 {
		c.within(join(p, "memoryMiB"), int64(s.MemoryMiB), minServiceMiB, c.memory(s))
	}
	if s.Files != 0 {
		c.within(join(p, "files"), int64(s.Files), minFiles, maxFiles)
	}
	c.duration(join(p, "ready"), s.Ready, minDeadline, maxDeadline, DefaultReady)
	c.duration(join(p, "stop"), s.Stop, minDeadline, maxDeadline, DefaultStop)
	c.restart(join(p, "restart"), &s.Restart)
	c.access(join(p, "access"), s)
}

func (c *serviceChecker) name(p, s string, form *regexp.Regexp) {
	if len(s) > maxName || !form.MatchString(s) {
		c.fail(p, "%s: want a-z first, then a-z, 0-9 and hyphens, at most %d characters", quote(s), maxName)
	}
}

// memory returns the MiB of the largest machine that the service runs on.
func (c *serviceChecker) memory(s *Service) int64 {
	most := c.cfg.Hardware.MemoryMiB
	for _, v := range c.cfg.Variants {
		if s.RunsIn(v.Role) {
			most = max(most, v.MemoryMiB)
		}
	}
	return int64(most)
}

func (c *serviceChecker) program(p string, s *Service) {
	at := join(p, "package")
	local, ok := strings.CutPrefix(s.Package, "./")
	switch domain, _, _ := strings.Cut(s.Package, "/"); {
	case !cleanImport(local), !ok && !strings.Contains(domain, "."):
		c.fail(at, "%s: want a Go package such as \"./services/console\" or \"example.com/module/command\"", quote(s.Package))
	default:
		// Each package is one file of layout.ServiceDir, named after its folder.
		base := path.Base(s.Package)
		if other := c.binaries[base]; other != "" && other != s.Package {
			c.fail(at, "%s: its binary would have the name of that of %s", quote(s.Package), quote(other))
		}
		c.binaries[base] = s.Package
	}
	at = join(p, "arguments")
	c.count(at, len(s.Arguments), 0, maxArguments, "arguments")
	for i, a := range s.Arguments {
		if len(a) > maxArgument || !printable(a) {
			c.fail(item(at, i), "%s: want printable characters, at most %d bytes", quote(a), maxArgument)
		}
	}
}

func (c *serviceChecker) user(p string, u *User) {
	c.name(join(p, "name"), u.Name, userName)
	if u.Name == "root" {
		c.fail(join(p, "name"), "%s: no service runs as root", quote(u.Name))
	}
	take(c.checker, c.users, join(p, "name"), u.Name)
	switch id := join(p, "id"); {
	case u.ID == 0:
		c.fail(id, "0: no service runs as root, want 1 to %d", maxID)
	case u.ID == layout.ConsoleGroup:
		c.fail(id, "%d: is the consoles' group", u.ID)
	case u.ID == layout.ConnectorGroup:
		c.fail(id, "%d: is the meeting connector's group", u.ID)
	case u.ID == layout.ControlGroup:
		c.fail(id, "%d: is the control socket's group", u.ID)
	default:
		c.within(id, int64(u.ID), 1, maxID)
		take(c.checker, c.ids, id, u.ID)
	}
}

// groups checks supplementary groups. That of another service's user would open
// what is that service's alone.
func (c *serviceChecker) groups(p string, groups []uint32) {
	seen := unique[uint32]{}
	c.count(p, len(groups), 0, maxArguments, "groups")
	for i, g := range groups {
		at := item(p, i)
		c.within(at, int64(g), 1, maxID)
		if g == layout.ControlGroup {
			c.fail(at, "%d: is the control socket's group, which the field control gives", g)
		}
		if owner, ok := c.ids[g]; ok {
			c.fail(at, "%d: is the user and group of %s", g, owner)
		}
		take(c.checker, seen, at, g)
	}
}

func (c *serviceChecker) restart(p string, r *Restart) {
	c.duration(join(p, "min"), r.Min, minPause, maxPause, DefaultRestartMin)
	c.duration(join(p, "max"), r.Max, minPause, maxPause, DefaultRestartMax)
	c.duration(join(p, "calm"), r.Calm, minCalm, maxCalm, DefaultCalm)
	low, high := r.Min.Or(DefaultRestartMin), r.Max.Or(DefaultRestartMax)
	if low > high {
		at := join(p, "min")
		if !c.given(at) {
			at = join(p, "max")
		}
		c.fail(at, "min %v is above max %v", low, high)
	}
}

func (c *serviceChecker) access(p string, s *Service) {
	c.paths(join(p, "read"), s, s.Access.Read)
	c.paths(join(p, "write"), s, s.Access.Write)
	c.ports(join(p, "bind"), s.Access.Bind, !slices.Contains(s.Capabilities, "NET_BIND_SERVICE"))
	c.ports(join(p, "connect"), s.Access.Connect, false)
	if at := join(p, "connectAny"); s.Access.ConnectAny && len(s.Access.Connect) > 0 {
		c.fail(at, "true: would make the list connect void, want one of the two")
	}
}

func (c *serviceChecker) paths(p string, s *Service, list []string) {
	c.count(p, len(list), 0, maxAccess, "paths")
	seen := unique[string]{}
	for i, f := range list {
		at := item(p, i)
		switch {
		case len(f) > maxPath || !printable(f) || !path.IsAbs(f) || path.Clean(f) != f:
			c.fail(at, "%s: want an absolute clean path", quote(f))
		case f == "/":
			c.fail(at, "%s: would open everything", quote(f))
		case c.others(f, s):
			c.fail(at, "%s: belongs to PID 1 or another service", quote(f))
		}
		take(c.checker, seen, at, f)
	}
}

// others reports whether the path is, holds or is inside what layout keeps for
// PID 1 and the other services.
func (c *serviceChecker) others(f string, s *Service) bool {
	for _, dir := range []string{layout.PermDir, layout.RunDir} {
		if inside(dir, f) {
			return true
		}
		if !inside(f, dir) {
			continue
		}
		if inside(f, path.Join(dir, s.Name)) {
			return false
		}
		shared := inside(f, layout.CredentialDir) || inside(f, layout.CredentialRunDir)
		return !shared || !slices.Contains(s.User.Groups, layout.ConsoleGroup)
	}
	return false
}

// inside reports whether the clean path f is dir or below it.
func inside(f, dir string) bool { return f == dir || strings.HasPrefix(f, dir+"/") }

func (c *serviceChecker) ports(p string, list []uint16, unprivileged bool) {
	c.count(p, len(list), 0, maxAccess, "ports")
	seen := unique[uint16]{}
	for i, port := range list {
		at := item(p, i)
		switch {
		case port == 0:
			c.fail(at, "0: want 1 to 65535")
		case unprivileged && port < firstFreePort:
			c.fail(at, "%d: a port below %d needs the capability NET_BIND_SERVICE", port, firstFreePort)
		}
		take(c.checker, seen, at, port)
	}
}

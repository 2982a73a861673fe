package config

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/parley-meet/parley/image/layout"
)

// Bounds of values. Those of the machine are what common hypervisors can give.
const (
	maxCPUs       = 64
	minMemoryMiB  = 512
	maxMemoryMiB  = 1 << 20
	memoryStepMiB = 4
	maxDiskMiB    = 2 << 20 // 2 TiB: the BIOS path counts sectors in 32 bits
	maxHostname   = 63      // Linux takes 64 bytes; one label has 63
	maxInterface  = 15      // IFNAMSIZ without its NUL
	maxTitle      = 64
	maxName       = 32
	maxVariants   = 16
	maxServices   = 64
	maxArguments  = 64
	maxArgument   = 4096
	maxPath       = 4096
	maxKernelArgs = 255 // in all, a space between; the builder's own need the rest of the sector
)

var (
	label        = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	digits       = regexp.MustCompile(`^[0-9]+$`)
	sha256Hex    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	interfaceRE  = regexp.MustCompile(`^[a-z][a-z0-9._-]*$`)
	serialDevice = regexp.MustCompile(`^ttyS[0-3]$`)
	variantName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)
	importPath   = regexp.MustCompile(`^[A-Za-z0-9_.~-]+(/[A-Za-z0-9_.~-]+)*$`)
)

var (
	roles     = []string{RoleController, RoleRouter, RolePortal}
	baudRates = []int{1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200}
)

// builderArguments are the kernel arguments that the builder sets, and those
// that would undo them.
var builderArguments = []string{
	"root", "rootfstype", "rootflags", "rootwait", "rootdelay", "ro", "rw",
	"init", "rdinit", "console", "panic", "oops",
}

// validate returns the first impossible value, or nil.
func validate(cfg *Config, at map[string]int) *problem {
	c := &checker{at: at}
	c.within("formatVersion", int64(cfg.FormatVersion), FormatVersion, FormatVersion)
	c.hostname("hostname", cfg.Hostname)
	c.oneOf("role", cfg.Role, roles...)
	c.kernel(&cfg.Kernel)
	c.boot(cfg)
	c.hardware(&cfg.Hardware)
	c.network(&cfg.Network)
	c.serial(&cfg.Serial)
	c.update(&cfg.Update)
	c.variants(cfg)
	c.services(cfg)
	return c.first
}

// hostname checks a name by RFC 1123, 2.1.
func (c *checker) hostname(path, s string) {
	if err := CheckHostname(s); err != nil {
		c.fail(path, "%v", err)
	}
}

// CheckHostname checks a host name (RFC 1123, 2.1): one label or several, that
// fit into what Linux keeps.
func CheckHostname(s string) error {
	if len(s) == 0 || len(s) > maxHostname {
		return fmt.Errorf("%s: want 1 to %d characters, has %d", quote(s), maxHostname, len(s))
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if !label.MatchString(l) {
			return fmt.Errorf("%s: want letters, digits and hyphens inside each label (RFC 1123)", quote(s))
		}
	}
	if digits.MatchString(labels[len(labels)-1]) {
		return fmt.Errorf("%s: ends in a number like an address, want a name", quote(s))
	}
	return nil
}

func (c *checker) kernel(k *Kernel) {
	c.goPackage("kernel.package", k.Package)
	const list = "kernel.arguments"
	c.count(list, len(k.Arguments), 0, maxArguments, "arguments")
	all := strings.Join(k.Arguments, " ")
	if len(all) > maxKernelArgs {
		c.fail(list, "%d bytes in all: want at most %d", len(all), maxKernelArgs)
	}
	for i, a := range k.Arguments {
		name, _, _ := strings.Cut(a, "=")
		// The kernel takes - and _ in names for one character.
		name = strings.ReplaceAll(name, "-", "_")
		switch {
		case a == "" || !visible(a) || strings.Contains(a, `"`):
			c.fail(item(list, i), "%s: want visible ASCII characters without spaces and quotation marks", quote(a))
		case a == "--":
			c.fail(item(list, i), "%s: what follows it would be PID 1's, not the kernel's", quote(a))
		case slices.Contains(builderArguments, name) || strings.HasPrefix(name, "parley."):
			c.fail(item(list, i), "%s: %s is the builder's to set", quote(a), name)
		case name == "lsm" || name == "security":
			c.fail(item(list, i), "%s: could leave out Landlock, which confines the services", quote(a))
		case name == "sysrq_always_enabled":
			c.fail(item(list, i), "%s: the serial line must not offer SysRq", quote(a))
		}
	}
}

func (c *checker) boot(cfg *Config) {
	b := &cfg.Boot
	const list = "boot.firmware"
	c.count(list, len(b.Firmware), 1, 2, "firmware names")
	seen := unique[string]{}
	for i, f := range b.Firmware {
		c.oneOf(item(list, i), f, BIOS, UEFI)
		take(c, seen, item(list, i), f)
	}
	if c.needed("boot.mbr", cfg.HasFirmware(BIOS), BIOS) {
		c.goPackage("boot.mbr.module", b.MBR.Module)
		if !fs.ValidPath(b.MBR.File) || b.MBR.File == "." || !visible(b.MBR.File) {
			c.fail("boot.mbr.file", "%s: want a path inside the module, with slashes and without ..", quote(b.MBR.File))
		}
		c.sha256("boot.mbr.sha256", b.MBR.SHA256)
	}
	if c.needed("boot.uefi", cfg.HasFirmware(UEFI), UEFI) {
		p := b.UEFI.Path
		// A path of Windows has its own separators; cleanness is judged by slashes.
		if p == "" || len(p) > maxPath || !printable(p) || strings.HasSuffix(p, "/") ||
			!strings.Contains(p, `\`) && path.Clean(p) != p || path.Base(p) == "." || path.Base(p) == ".." {
			c.fail("boot.uefi.path", "%s: want the clean path of a file", quote(p))
		}
		c.sha256("boot.uefi.sha256", b.UEFI.SHA256)
	}
}

// needed reports whether the part is there to be checked, and fails when the
// firmware needs it and it is not.
func (c *checker) needed(path string, need bool, firmware string) bool {
	if need && !c.given(path) {
		c.fail(path, "is missing: boot.firmware has %q", firmware)
	}
	return c.given(path)
}

func (c *checker) sha256(path, s string) {
	if !sha256Hex.MatchString(s) {
		c.fail(path, "%s: want a SHA-256 in 64 lower-case hexadecimal digits", quote(s))
	}
}

// goPackage checks an import or module path that another module owns.
func (c *checker) goPackage(path, s string) {
	domain, _, _ := strings.Cut(s, "/")
	if !cleanImport(s) || !strings.Contains(domain, ".") {
		c.fail(path, "%s: want a Go path such as \"example.com/module\"", quote(s))
	}
}

// cleanImport reports whether s has the characters of an import path and no
// element that starts with a dot or a hyphen.
func cleanImport(s string) bool {
	return len(s) <= maxPath && importPath.MatchString(s) && s[0] != '.' && s[0] != '-' &&
		!strings.Contains(s, "/.") && !strings.Contains(s, "/-")
}

func (c *checker) hardware(h *Hardware) {
	c.within("hardware.cpus", int64(h.CPUs), 1, maxCPUs)
	c.machineMemory("hardware.memoryMiB", h.MemoryMiB)
	c.within("hardware.diskMiB", int64(h.DiskMiB), (layout.MinDiskSize+layout.MiB-1)/layout.MiB, maxDiskMiB)
}

// machineMemory checks the size of a machine, which vSphere takes in steps.
func (c *checker) machineMemory(path string, mib int) {
	c.within(path, int64(mib), minMemoryMiB, maxMemoryMiB)
	if mib%memoryStepMiB != 0 {
		c.fail(path, "%d: want a multiple of %d", mib, memoryStepMiB)
	}
}

func (c *checker) network(n *Network) {
	if len(n.Interface) > maxInterface || !interfaceRE.MatchString(n.Interface) || n.Interface == "lo" {
		c.fail("network.interface", "%s: want the name of a network card such as \"eth0\", at most %d characters",
			quote(n.Interface), maxInterface)
	}
	c.oneOf("network.mode", n.Mode, ModeDHCP)
}

func (c *checker) serial(s *Serial) {
	if !serialDevice.MatchString(s.Device) {
		c.fail("serial.device", "%s: want ttyS0 to ttyS3", quote(s.Device))
	}
	if !slices.Contains(baudRates, s.Baud) {
		c.fail("serial.baud", "%d: want one of %v", s.Baud, baudRates)
	}
}

func (c *checker) update(u *Update) {
	c.oneOf("update.channel", u.Channel, ChannelStable, ChannelTest, ChannelDevelopment)
	c.count("update.keys", len(u.Keys), 0, maxArguments, "keys")
	if len(u.Keys) == 0 && u.Channel != ChannelDevelopment {
		c.fail("update.keys", "0 keys: want at least 1 in the channel %s", quote(u.Channel))
	}
	seen := unique[string]{}
	for i, k := range u.Keys {
		p := item("update.keys", i)
		raw, err := base64.StdEncoding.Strict().DecodeString(k)
		switch {
		// The decoder skips line breaks: two spellings of one key.
		case err != nil || len(raw) != ed25519.PublicKeySize || !visible(k):
			c.fail(p, "%s: want an Ed25519 public key, %d bytes in base64", quote(k), ed25519.PublicKeySize)
		case strings.Trim(string(raw), "\x00") == "":
			// A point of small order: signatures for it can be made up.
			c.fail(p, "%s: is all zeros, want a public key", quote(k))
		}
		take(c, seen, p, k)
	}
}

func (c *checker) variants(cfg *Config) {
	c.count("variants", len(cfg.Variants), 1, maxVariants, "variants")
	seen := unique[string]{}
	for i := range cfg.Variants {
		v, p := &cfg.Variants[i], item("variants", i)
		if len(v.Name) > maxTitle || !variantName.MatchString(v.Name) {
			c.fail(join(p, "name"), "%s: want a file name of a-z, 0-9, and . _ - inside, at most %d characters",
				quote(v.Name), maxTitle)
		}
		take(c, seen, join(p, "name"), v.Name)
		c.oneOf(join(p, "role"), v.Role, roles...)
		c.text(join(p, "title"), v.Title, maxTitle)
		if v.CPUs != 0 {
			c.within(join(p, "cpus"), int64(v.CPUs), 1, maxCPUs)
		}
		if v.MemoryMiB != 0 {
			c.machineMemory(join(p, "memoryMiB"), v.MemoryMiB)
		}
		if slices.Contains(roles, v.Role) && !anyRuns(cfg.Services, v.Role) {
			c.fail(join(p, "role"), "%s: no service runs in this role", quote(v.Role))
		}
	}
	if slices.Contains(roles, cfg.Role) && !anyRuns(cfg.Services, cfg.Role) {
		c.fail("role", "%s: no service runs in this role", quote(cfg.Role))
	}
}

func anyRuns(services []Service, role string) bool {
	return slices.ContainsFunc(services, func(s Service) bool { return s.RunsIn(role) })
}

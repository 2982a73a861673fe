package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gokrazy/gokrazy"
	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/internal/appliance"
	"github.com/parley-meet/parley/image/internal/identity"
	"github.com/parley-meet/parley/image/internal/kernel"
	"github.com/parley-meet/parley/image/internal/lastboot"
	"github.com/parley-meet/parley/image/internal/perm"
	"github.com/parley-meet/parley/image/internal/power"
	"github.com/parley-meet/parley/image/internal/ring"
	"github.com/parley-meet/parley/image/internal/timekeep"
	"github.com/parley-meet/parley/image/internal/watchdog"
	"github.com/parley-meet/parley/image/layout"
)

// laneBudget is how much log is kept of each service, in bytes.
const laneBudget = 256 << 10

// machine is the appliance as PID 1 holds it.
type machine struct {
	started time.Time
	ring    *ring.Ring
	log     *slog.Logger
	console *kernel.Console

	watchdog watchdog.Device // nil: none
	buttons  []*os.File
	cmdline  kernel.Cmdline
	version  kernel.Version
	config   *config.Config
	perm     *perm.Perm
	role     string
	bootID   string
	lastBoot string
	clock    *timekeep.Keeper
	identity *identity.Keeper
	noteMu   sync.Mutex
	notes    map[string]string // what is wrong on a /perm that is mounted, by subject

	running // set by run
}

func newMachine(started time.Time) *machine {
	m := &machine{started: started, ring: ring.New(laneBudget), console: &kernel.Console{}, notes: make(map[string]string)}
	// The ring carries each line's time.
	m.log = slog.New(slog.NewTextHandler(m.ring.Writer("init"), &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		},
	}))
	m.clock = &timekeep.Keeper{Clocks: kernel.Clocks{}, Path: layout.ClockPath, Log: m.log}
	// What gokrazy and the standard library log goes there too.
	slog.SetDefault(m.log)
	return m
}

// boot brings the machine to where services can be started. The order matters:
// the watchdog and the power button must be taken before gokrazy.Boot, which
// would feed and obey them whatever happens.
func (m *machine) boot() {
	kernel.Quiet()
	mountErr := kernel.MountAll(kernel.EarlyMounts)
	m.openWatchdog()
	m.openButtons()
	m.console = kernel.OpenConsole("/dev/console", "/dev/tty1")
	if mountErr != nil {
		m.log.Error("early mounts", "error", mountErr)
	}
	if err := nullStdin(); err != nil {
		m.log.Error("standard input", "error", err)
	}
	m.bootGokrazy()
	kernel.Harden(kernel.Hardened, m.log)
	kernel.SetSysctls("/proc/sys", kernel.Sysctls, m.log)
	m.identify()
	m.mountPerm()
	m.makeRunDirs()
}

func (m *machine) openWatchdog() {
	d, err := watchdog.Open("/dev/watchdog")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.log.Warn("there is no hardware watchdog: a hung essential service is killed instead")
	case err != nil:
		m.log.Error("watchdog", "error", err)
	}
	m.watchdog = d
}

// openButtons takes the power buttons and hides the input devices while
// gokrazy.Boot looks for buttons: its reaction to one, even to one that appears
// just then, is to power off with services running.
func (m *machine) openButtons() {
	buttons, err := power.Buttons("/sys", "/dev")
	if err != nil {
		m.log.Error("power button", "error", err)
	}
	m.buttons = buttons
}

// bootGokrazy calls gokrazy.Boot. It panics where it cannot find the root's
// disk; what it did until then is completed by kernel.Harden.
func (m *machine) bootGokrazy() {
	const input = "/dev/input"
	covered := unix.Mount("tmpfs", input, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k")
	defer func() {
		if r := recover(); r != nil {
			m.log.Error("gokrazy.Boot panicked", "panic", fmt.Sprint(r))
		}
		if covered == nil {
			if err := unix.Unmount(input, 0); err != nil {
				m.log.Error("uncover "+input, "error", err)
			}
		}
	}()
	if covered != nil && !errors.Is(covered, unix.ENOENT) {
		m.log.Error("cover "+input, "error", covered)
	}
	// Most of what it logs is about parts that an appliance has not, on purpose.
	slog.SetDefault(m.log.With("from", "gokrazy"))
	defer slog.SetDefault(m.log)
	if err := gokrazy.Boot("unused: the version stands in " + layout.VersionPath); err != nil {
		m.log.Error("gokrazy.Boot", "error", err)
	}
}

// identify reads what the image says about itself. Without its configuration
// there is nothing to run, and a reboot may lead to the other slot.
func (m *machine) identify() {
	cmdline, err := kernel.ReadCmdline()
	if err != nil {
		m.log.Error("kernel command line", "error", err)
	}
	m.cmdline = cmdline
	if b, err := os.ReadFile(layout.VersionPath); err != nil {
		m.log.Error("version", "error", err)
	} else if m.version, err = kernel.ParseVersion(b); err != nil {
		m.log.Error("version", "path", layout.VersionPath, "error", err)
	}
	if err := m.clock.Start(m.version.CommitTime); err != nil {
		m.log.Error("clock", "error", err)
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		m.log.Error("boot ID", "error", err)
	}
	m.bootID = strings.TrimSpace(string(id))
	m.config, err = config.Load(layout.ConfigPath)
	if err != nil {
		panic(err)
	}
	m.role = m.config.Role
	m.log.Info("boot", "version", m.version.String, "kernel", kernel.Release(), "slot", m.slot(), "firmware", firmware(), "boot-id", m.bootID)
	m.console.Print(fmt.Sprintf("Parley %s, slot %s, %s", m.version.String, m.slot(), firmware()))
}

func (m *machine) slot() string { return m.cmdline.Get("parley.slot") }

func firmware() string {
	if _, err := os.Stat("/sys/firmware/efi"); err == nil {
		return config.UEFI
	}
	return config.BIOS
}

// mountPerm brings up /perm and reads from it what the start of the services
// depends on.
func (m *machine) mountPerm() {
	disk, err := findDisk()
	if err != nil {
		m.log.Error("disk", "error", err)
	}
	v := &perm.Partition{Target: layout.PermMount}
	if disk != "" {
		v.Device = perm.PartitionPath(disk, layout.Perm)
		if changed, err := perm.GrowPartition(disk, "/sys"); err != nil {
			m.log.Error("grow partition", "disk", disk, "error", err)
		} else if changed {
			m.log.Info("partition for /perm has grown", "disk", disk)
		}
	}
	m.perm = perm.New(v, m.log)
	m.perm.Up()
	m.resetIfAsked()
	m.makePermDirs()
	if err := m.clock.Restore(); err != nil {
		m.log.Error("clock", "error", err)
	}
	m.knowMachine()
	line, report, err := lastboot.Read(layout.PermLogDir, m.bootID)
	if err != nil {
		m.log.Error("last boot", "error", err)
	}
	m.lastBoot = line
	if line != "" {
		m.log.Warn(line)
	}
	for l := range strings.Lines(report) {
		m.ring.Add(time.Now(), "init", "last boot: "+l)
	}
	st, err := appliance.Load(layout.AppliancePath)
	switch {
	case err != nil:
		m.log.Error("role", "error", err, "using", m.role)
		m.note("role", fmt.Sprintf("%v; the role is %q as the image says until it is set anew", err, m.role))
	case st != nil && !m.config.HasRole(st.Role):
		// The disk is another kind of appliance's.
		m.log.Error("role", "kept", st.Role, "using", m.role)
		m.note("role", fmt.Sprintf("nothing in this image has the role %q; the role is %q", st.Role, m.role))
	case st != nil:
		m.role = st.Role
	}
}

// note says in the status of /perm what is wrong about a subject; "" takes that
// back.
func (m *machine) note(subject, text string) {
	m.noteMu.Lock()
	defer m.noteMu.Unlock()
	if m.notes[subject] = text; text == "" {
		delete(m.notes, subject)
	}
	var all []string
	for _, s := range slices.Sorted(maps.Keys(m.notes)) {
		all = append(all, m.notes[s])
	}
	m.perm.Note(strings.Join(all, "; "))
}

func findDisk() (string, error) {
	major, minor, err := perm.RootDevice()
	if err != nil {
		return "", err
	}
	return perm.FindDisk("/sys", "/dev", major, minor)
}

// dir is a folder that PID 1 makes.
type dir struct {
	path     string
	uid, gid int
	mode     uint32
	own      bool // it is a RAM disk of its own, of runSize
}

// runSize bounds what is in a folder of RunDir, so that a service that fills its
// own takes nothing from the others: PID 1's socket and the generated
// password's hash are on the same tmpfs otherwise.
const runSize = "size=4m,nr_inodes=1k"

// makePermDirs makes the folders of layout on /perm. On a read-only one they
// are there already, or cannot be helped.
func (m *machine) makePermDirs() {
	dirs := []dir{
		{layout.PermDir, 0, 0, 0o755, false},
		{layout.PermLogDir, 0, 0, 0o700, false},
		{layout.CredentialDir, 0, layout.ConsoleGroup, 0o2770, false},
		{layout.ConnectorDir, 0, layout.ConnectorGroup, 0o2770, false},
	}
	for _, s := range m.services() {
		dirs = append(dirs, dir{filepath.Join(layout.PermDir, s.Name), int(s.User.ID), layout.ConsoleGroup, 0o750, false})
	}
	m.makeDirs(dirs)
}

// makeRunDirs makes the folders of layout in RAM and hands the terminals to
// their services. The folders are setgid, so that a socket in them is the
// consoles' to use once its service makes it group-writable; others may pass
// through, because everybody's resolver reads network's resolv.conf.
func (m *machine) makeRunDirs() {
	dirs := []dir{
		{layout.RunDir, 0, 0, 0o755, false},
		{layout.CredentialRunDir, 0, layout.ConsoleGroup, 0o2770, true},
		{layout.ConnectorRunDir, 0, layout.ConnectorGroup, 0o3770, true},
	}
	for _, s := range m.services() {
		dirs = append(dirs, dir{filepath.Join(layout.RunDir, s.Name), int(s.User.ID), layout.ConsoleGroup, 0o2751, true})
		for _, t := range s.Terminals {
			path := filepath.Join("/dev", t)
			if err := errors.Join(os.Chown(path, int(s.User.ID), int(s.User.ID)), os.Chmod(path, 0o600)); err != nil {
				m.log.Error("terminal", "service", s.Name, "error", err)
			}
		}
	}
	m.makeDirs(dirs)
}

func (m *machine) makeDirs(dirs []dir) {
	for _, d := range dirs {
		err := os.Mkdir(d.path, 0o700)
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		if err == nil && d.own {
			err = mountOwn(d.path)
		}
		if err == nil {
			err = errors.Join(os.Lchown(d.path, d.uid, d.gid), unix.Chmod(d.path, d.mode))
		}
		if err != nil && !errors.Is(err, unix.EROFS) {
			m.log.Error("folder", "path", d.path, "error", err)
		}
	}
}

// mountOwn mounts a RAM disk of runSize on the folder unless one is there.
func mountOwn(path string) error {
	var st, parent unix.Stat_t
	if err := errors.Join(unix.Lstat(path, &st), unix.Lstat(filepath.Dir(path), &parent)); err != nil {
		return err
	}
	if st.Dev != parent.Dev {
		return nil
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, runSize); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", path, err)
	}
	return nil
}

// services returns those of the whole configuration: folders are made for the
// services of the other role too, so that a change of role finds them.
func (m *machine) services() []config.Service { return m.config.Services }

func nullStdin() error {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Dup3(fd, 0, 0)
}

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/lastboot"
	"github.com/parley-meet/parley/image/internal/perm"
	"github.com/parley-meet/parley/image/internal/power"
	"github.com/parley-meet/parley/image/internal/stage"
	"github.com/parley-meet/parley/image/internal/supervisor"
	"github.com/parley-meet/parley/image/layout"
)

// endEnv makes this binary, as PID 1 of a namespace on the stage, end a machine.
const endEnv = "PARLEY_TEST_END"

func TestMain(m *testing.M) {
	if how := os.Getenv(endEnv); how != "" && os.Getpid() == 1 {
		endAs(how)
	}
	os.Exit(stage.Main(m, nil))
}

// newTestMachine is a machine after its boot, with a /perm that is a folder.
func newTestMachine(f *perm.Fake) *machine {
	m := newMachine(time.Now())
	m.config = &config.Config{Role: config.RoleController, Services: []config.Service{
		{Name: "mmr", User: config.User{ID: 54321}, Terminals: []string{"null-of-test"}, Roles: []string{config.RoleController, config.RoleRouter}},
	}}
	m.role, m.bootID = m.config.Role, "this-boot"
	m.version.String = "1.2.3"
	m.perm = perm.New(f, m.log)
	m.perm.Up()
	m.ended = make(chan struct{})
	m.supervisor = supervisor.New(supervisor.Options{Log: m.log})
	m.knowMachineAs("") // as one without a UUID
	return m
}

// empty makes /perm and /run empty for a test.
func empty(t *testing.T) {
	t.Helper()
	stage.Need(t)
	for _, dir := range []string{layout.PermMount, filepath.Dir(layout.RunDir)} {
		names, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if own, _ := filepath.Glob(layout.RunDir + "/*"); dir != layout.PermMount {
			for _, d := range own {
				_ = unix.Unmount(d, unix.MNT_DETACH) // EINVAL: it is only a folder
			}
		}
		for _, n := range names {
			if err := os.RemoveAll(filepath.Join(dir, n.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFolders(t *testing.T) {
	empty(t)
	m := newTestMachine(&perm.Fake{})
	for range 2 { // the next boot finds them, the second time with damage
		m.makePermDirs()
		m.makeRunDirs()
		for path, want := range map[string]struct {
			mode     uint32
			uid, gid uint32
		}{
			layout.PermDir: {0o755, 0, 0}, layout.PermLogDir: {0o700, 0, 0}, layout.CredentialDir: {0o2770, 0, layout.ConsoleGroup},
			layout.ConnectorDir: {0o2770, 0, layout.ConnectorGroup}, layout.ConnectorRunDir: {0o3770, 0, layout.ConnectorGroup},
			layout.PermDir + "/mmr": {0o750, 54321, layout.ConsoleGroup},
			layout.RunDir:           {0o755, 0, 0}, layout.CredentialRunDir: {0o2770, 0, layout.ConsoleGroup},
			layout.RunDir + "/mmr": {0o2751, 54321, layout.ConsoleGroup},
		} {
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if st.Mode != unix.S_IFDIR|want.mode || st.Uid != want.uid || st.Gid != want.gid {
				t.Errorf("%s: mode %#o, owner %d:%d; want %#o, %d:%d", path, st.Mode, st.Uid, st.Gid, want.mode, want.uid, want.gid)
			}
			if err := errors.Join(os.Chmod(path, 0o777), os.Chown(path, 1, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A service that fills its folder in RAM takes no room from the others.
func TestOwnRoom(t *testing.T) {
	empty(t)
	m := newTestMachine(&perm.Fake{})
	for range 2 {
		m.makeRunDirs()
	}
	fill := make([]byte, 16<<20)
	if err := os.WriteFile(layout.RunDir+"/mmr/fill", fill, 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("16 MiB in a service's folder: %v, want ENOSPC", err)
	}
	for _, path := range []string{layout.RunDir + "/s", layout.CredentialRunDir + "/admin.json"} {
		if err := os.WriteFile(path, fill[:64<<10], 0o600); err != nil {
			t.Error(err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if n := strings.Count(string(mounts), " "+layout.RunDir+"/mmr "); err != nil || n != 1 {
		t.Errorf("%d mounts on the folder, %v", n, err)
	}
}

func (m *machine) said(text string) (n int) {
	for _, l := range m.ring.Lines("", 0) {
		n += strings.Count(l.Text, text)
	}
	return n
}

// stored reads what an outsider finds in the stored log.
func stored(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(layout.PermLogDir + "/ring")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// A repair that is refused, or one after which the same file system is there
// again, says nothing twice, in RAM or on the disk; one that made a new file
// system stores this boot's lines again.
func TestRepairKeepsTheLogOnce(t *testing.T) {
	empty(t)
	f := &perm.Fake{}
	m := newTestMachine(f)
	m.makePermDirs()
	if err := os.WriteFile(layout.PermLogDir+"/ring", []byte("2026-07-01T12:00:00.000000Z mmr of the boot before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.ring.Add(time.Now(), "mmr", "of this boot")
	once := func(when string) {
		t.Helper()
		m.storeLog()
		for _, text := range []string{"of the boot before", "of this boot"} {
			if n := m.said(text); n != 1 {
				t.Errorf("%s: %q is %d times in the log", when, text, n)
			}
			if n := strings.Count(stored(t), text); n != 1 {
				t.Errorf("%s: %q is stored %d times", when, text, n)
			}
		}
	}
	m.holdPerm()
	once("after the boot")
	if err := m.Do(t.Context(), control.Request{Op: control.OpRepair, Repair: control.RepairRetry}); err == nil {
		t.Error("a healthy /perm was repaired")
	}
	once("after a refusal")
	f.State.ReadOnly = true
	m.perm.Check()
	f.State.ReadOnly = false
	if err := m.Do(t.Context(), control.Request{Op: control.OpRepair, Repair: control.RepairRetry}); err != nil {
		t.Error(err)
	}
	once("after a repair")
	f.State.ReadOnly = true
	m.perm.Check()
	f.State.ReadOnly = false
	empty(t)
	if err := m.Do(t.Context(), control.Request{Op: control.OpRepair, Repair: control.RepairFormat + perm.Confirmed}); err != nil {
		t.Error(err)
	}
	m.storeLog()
	if n := m.said("of this boot"); n != 1 || strings.Count(stored(t), "of this boot") != 1 {
		t.Errorf("after a format: %d times in the log, stored %q", n, stored(t))
	}
	if _, err := os.Stat(layout.PermDir + "/mmr"); err != nil {
		t.Errorf("the folders were not made: %v", err)
	}
	// The next boot knows that this one ran.
	if line, _, err := lastboot.Read(layout.PermLogDir, "next"); err != nil || !strings.Contains(line, "without an orderly shutdown") {
		t.Errorf("%q, %v", line, err)
	}
}

// On a /perm that keeps nothing PID 1 stores nothing.
func TestHoldNothing(t *testing.T) {
	empty(t)
	m := newTestMachine(&perm.Fake{ReadWriteErr: errors.New("damaged")})
	m.makePermDirs()
	m.holdPerm()
	m.storeLog()
	if err := m.markClean(t.Context()); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(layout.PermLogDir); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestDo(t *testing.T) {
	empty(t)
	f := &perm.Fake{}
	m := newTestMachine(f)
	m.makePermDirs()
	refused := func(req control.Request, code control.Code, words string) {
		t.Helper()
		err := m.Do(t.Context(), req)
		var e *control.Error
		if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, words) {
			t.Errorf("%+v: %v, want a refusal %s about %q", req, err, code, words)
		}
	}
	refused(control.Request{Op: "fly"}, control.CodeInvalid, `unknown operation "fly"`)
	refused(control.Request{Op: control.OpRole, Role: "king"}, control.CodeInvalid, `no role "king"`)
	refused(control.Request{Op: control.OpRole, Role: "portal"}, control.CodeInvalid, `no role "portal"`) // in this image
	refused(control.Request{Op: control.OpStart, Service: "x"}, control.CodeUnknown, "x")
	refused(control.Request{Op: control.OpStop, Service: "x"}, control.CodeUnknown, "x")
	refused(control.Request{Op: control.OpRestart, Service: "x"}, control.CodeUnknown, "x")
	m.perm.Note("the role file is bad")
	if err := m.Do(t.Context(), control.Request{Op: control.OpRole, Role: "router"}); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(layout.AppliancePath); err != nil || !strings.Contains(string(b), `"router"`) {
		t.Errorf("%q, %v", b, err)
	}
	if st := m.Status(); st.Role != "controller" || st.Perm.Message != "" {
		t.Errorf("%+v: the role counts from the next boot on, and nothing is wrong", st)
	}
	f.State.ReadOnly = true
	m.perm.Check()
	refused(control.Request{Op: control.OpRole, Role: "router"}, control.CodeState, "/perm is read-only, repair it first")
	if st := m.Status(); st.Version != "1.2.3" || st.Watchdog != "none" || !st.Degraded() || st.Kernel == "" || st.Firmware == "" {
		t.Errorf("%+v", st)
	}
	close(m.ended)
	for _, op := range []control.Op{control.OpStart, control.OpReboot, control.OpRepair, control.OpRole} {
		refused(control.Request{Op: op}, control.CodeState, "shutting down")
	}
}

// When everything is late, all of it is over before the dead man acts.
func TestShutdownFits(t *testing.T) {
	m := newTestMachine(&perm.Fake{})
	sum := time.Duration(0)
	for _, s := range m.steps() {
		if s.Limit <= 0 || s.Name == "" {
			t.Errorf("%+v", s)
		}
		sum += s.Limit + 100*time.Millisecond // what power.Run grants
	}
	if sum > deadManTime-time.Second {
		t.Errorf("the steps take up to %v, the dead man acts after %v", sum, deadManTime)
	}
}

// endAs is PID 1 of a namespace: what it does ends it by reboot(2).
func endAs(how string) {
	m := newTestMachine(&perm.Fake{})
	m.makePermDirs()
	m.holdPerm()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go m.supervisor.Run(ctx)
	switch how {
	case "panic":
		m.guard(func() { panic("boom") })()
	default:
		kind := power.Reboot
		if how == power.PowerOff.String() {
			kind = power.PowerOff
		}
		m.end(kind, "test")
	}
	os.Exit(3)
}

// The end of a machine, as far as a namespace can show it: the kernel kills its
// PID 1 with SIGHUP for a reboot and with SIGINT for a power-off.
func TestEnd(t *testing.T) {
	stage.Need(t)
	// A dead man that acted here would reset the machine.
	if _, err := os.Stat("/proc/sysrq-trigger"); err == nil {
		cover := filepath.Join(t.TempDir(), "trigger")
		if err := os.WriteFile(cover, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(cover, "/proc/sysrq-trigger", "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount("/proc/sysrq-trigger", unix.MNT_DETACH)
	}
	for how, want := range map[string]syscall.Signal{"panic": syscall.SIGHUP, "poweroff": syscall.SIGINT} {
		t.Run(how, func(t *testing.T) {
			empty(t)
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
			cmd.Env = append(os.Environ(), endEnv+"="+how)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
			out, err := cmd.CombinedOutput()
			var ended *exec.ExitError
			if !errors.As(err, &ended) {
				t.Fatalf("%v\n%s", err, out)
			}
			if ws := ended.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != want {
				t.Fatalf("%v, want %v\n%s", ended, want, out)
			}
			line, report, err := lastboot.Read(layout.PermLogDir, "next boot")
			if err != nil {
				t.Fatal(err)
			}
			if how == "panic" {
				if line != "PID 1 panicked: panic: boom" || !strings.Contains(report, "init.endAs") && !strings.Contains(report, "main.endAs") {
					t.Errorf("%q\n%s", line, report)
				}
				return
			}
			if line != "" || report != "" {
				t.Errorf("an orderly end is told as %q %q", line, report)
			}
			for _, want := range []string{"kind=poweroff why=test", `step="stop services"`} {
				if !strings.Contains(stored(t), want) {
					t.Errorf("no %q in the stored log\n%s", want, stored(t))
				}
			}
		})
	}
}

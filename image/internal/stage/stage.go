// Package stage lets the tests of a package run as root without touching the
// machine: in namespaces of their own (mounts, processes, network, names, IPC),
// as PID 1 there, and with a root folder in which layout's paths (/perm, /run,
// /services) are empty and everything else is the machine's, /proc that of the
// namespace. It is for tests alone.
package stage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// env holds the folder on which the inner process stands.
const env = "PARLEY_STAGE"

// fresh are the folders that are empty on the stage.
var fresh = []string{"perm", "run", "services"}

var inside bool

// Main is for TestMain. It runs the tests on a stage and returns their exit
// code; where that is not possible (another user than root) it runs them as they
// are. prepare, when not nil, is called outside with the folder whose content
// will be that of /services.
func Main(m *testing.M, prepare func(services string) error) int {
	// A fuzzing engine talks to its workers over descriptors that they inherit.
	fuzzing := slices.ContainsFunc(os.Args, func(a string) bool {
		return strings.HasPrefix(a, "-test.fuzz") && !strings.HasPrefix(a, "-test.fuzzcachedir")
	})
	dir := os.Getenv(env)
	if dir == "" && (os.Geteuid() != 0 || fuzzing) {
		return m.Run()
	}
	if dir == "" {
		code, err := outside(prepare)
		if err != nil {
			fmt.Fprintln(os.Stderr, "stage:", err)
			return 1
		}
		return code
	}
	if err := enter(dir); err != nil {
		fmt.Fprintln(os.Stderr, "stage:", err)
		return 1
	}
	inside = true
	return m.Run()
}

// Need is for tests that only a stage can carry.
func Need(t testing.TB) {
	t.Helper()
	if inside {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("this test needs root")
	}
	t.Skip("this test needs root")
}

func outside(prepare func(string) error) (code int, err error) {
	dir, err := os.MkdirTemp("", "stage")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	services := filepath.Join(dir, "services")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(services, 0o755), os.Mkdir(filepath.Join(dir, "root"), 0o755)); err != nil {
		return 0, err
	}
	if prepare != nil {
		if err := prepare(services); err != nil {
			return 0, err
		}
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), env+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Pdeathsig:  unix.SIGKILL,
	}
	var ended *exec.ExitError
	if err := cmd.Run(); errors.As(err, &ended) {
		// As PID 1 it can also be ended by reboot(2).
		return max(1, ended.ExitCode()), nil
	} else if err != nil {
		return 0, err
	}
	return 0, nil
}

// enter makes the root folder and changes into it.
func enter(dir string) error {
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	// What is mounted here must not be seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	top, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, e := range top {
		from, to := "/"+e.Name(), filepath.Join(root, e.Name())
		switch {
		case slices.Contains(fresh, e.Name()) || e.Name() == "proc":
		case e.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(from)
			if err != nil {
				return err
			}
			if err := os.Symlink(target, to); err != nil {
				return err
			}
		case e.IsDir():
			if err := os.Mkdir(to, 0o755); err != nil {
				return err
			}
			if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				return fmt.Errorf("bind %s: %w", from, err)
			}
		}
	}
	for _, name := range append([]string{"proc"}, fresh...) {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(filepath.Join(dir, "services"), filepath.Join(root, "services"), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind services: %w", err)
	}
	if err := unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := os.Chdir(cwd); err != nil {
		return err
	}
	return loopback()
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}

// Build compiles packages for the stage, without cgo: a confined program has no
// dynamic loader. Each is named by its folder.
func Build(dir string, packages ...string) error {
	for _, p := range packages {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, filepath.Base(p)), p)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", p, err, out)
		}
	}
	return nil
}

// Command guest is an init for tests of what the appliance's kernel does. The
// kernel's command line says what, and it powers the machine off afterwards:
//
//	GUEST=sum            mount slot A's root and the EFI system partition, and
//	                     print a checksum of every file as the kernel reads it
//	GUEST=test RUN=EXPR  run the test program /confine.test
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this runs as the init of a test machine")
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Println("guest: error", err)
	}
	fmt.Println("guest: end")
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"tmpfs", "/tmp"}, {"tmpfs", "/stage"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	switch what := os.Getenv("GUEST"); what {
	case "sum":
		return errors.Join(sum("root", "/dev/sda2", "squashfs"), sum("esp", "/dev/sda1", "vfat"))
	case "test":
		return test(os.Getenv("RUN"))
	default:
		return fmt.Errorf("GUEST=%q: want sum or test", what)
	}
}

// test runs the tests on the stage that package stage makes.
func test(expr string) error {
	if err := errors.Join(os.Mkdir("/stage/root", 0o755), os.Symlink("/programs", "/stage/services"), os.Chmod("/tmp", 0o777)); err != nil {
		return err
	}
	cmd := exec.Command("/confine.test", "-test.v", "-test.run", expr)
	cmd.Env = append(os.Environ(), "PARLEY_STAGE=/stage", "CI=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	// A process group of its own would be that of no terminal; it needs none.
	return cmd.Run()
}

func sum(name, device, kind string) error {
	const at = "/mnt"
	if err := unix.Mount(device, at, kind, unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	defer unix.Unmount(at, 0)
	return filepath.WalkDir(at, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == at {
			return err
		}
		rel, err := filepath.Rel(at, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := "dir"
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what = "link:" + target
		case d.Type().IsRegular():
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			h := sha256.New()
			if _, err := io.Copy(h, f); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			what = fmt.Sprintf("%o:%x", info.Mode().Perm(), h.Sum(nil))
		}
		fmt.Printf("sum: %s %s/%s\n", what, name, rel)
		return nil
	})
}

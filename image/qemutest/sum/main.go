// Command sum is an init for tests: it mounts slot A's root and the EFI system
// partition, prints a checksum of every file as the kernel reads it, and powers
// the machine off.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "sum: this runs as the init of a test machine")
		os.Exit(2)
	}
	if err := unix.Mount("devtmpfs", "/dev", "devtmpfs", 0, ""); err != nil && err != unix.EBUSY {
		fmt.Println("sum: error", err)
	}
	for _, v := range []struct{ name, device, kind string }{
		{"root", "/dev/sda2", "squashfs"}, {"esp", "/dev/sda1", "vfat"},
	} {
		if err := show(v.name, v.device, v.kind); err != nil {
			fmt.Println("sum: error", err)
		}
	}
	fmt.Println("sum: end")
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func show(name, device, kind string) error {
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

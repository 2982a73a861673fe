package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Cgroups is where the kernel's control groups (version 2) are mounted.
const Cgroups = "/sys/fs/cgroup"

// ShareCPU has the groups below root share the processors. PID 1 stays in the
// root group, where each of its threads counts as much as a whole service: one
// that spins with all the threads it may have starves neither PID 1, which feeds
// the watchdog, nor the others.
func ShareCPU(root string) error {
	if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+cpu"), 0); err != nil {
		return fmt.Errorf("control groups: %w", err)
	}
	return nil
}

// group opens the service's control group, which it makes.
func (s *Starter) group(name string) (fd int, err error) {
	dir := filepath.Join(s.Cgroups, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return -1, fmt.Errorf("control group: %w", err)
	}
	fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("control group %s: %w", dir, err)
	}
	return fd, nil
}

package kernel

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Private returns how much memory a process has in RAM for itself, in bytes. Pages
// of files are not counted: all services are one program's, whose pages they share
// and the kernel can read again. proc is where procfs is mounted.
func Private(proc string, pid int) (int64, error) {
	path := filepath.Join(proc, strconv.Itoa(pid), "statm")
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	f := bytes.Fields(b) // proc_pid_statm(5): size, resident, shared, … in pages
	if len(f) < 3 {
		return 0, fmt.Errorf("%s: %q has no third number", path, b)
	}
	resident, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: resident: %w", path, err)
	}
	shared, err := strconv.ParseInt(string(f[2]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: shared: %w", path, err)
	}
	// The kernel counts each by itself, and not at one instant.
	return max(0, resident-shared) * int64(os.Getpagesize()), nil
}

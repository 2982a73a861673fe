package kernel

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Resident returns how much memory of a process is in RAM, in bytes, pages that
// it shares with others counted in. proc is where procfs is mounted.
func Resident(proc string, pid int) (int64, error) {
	path := filepath.Join(proc, strconv.Itoa(pid), "statm")
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	f := bytes.Fields(b) // proc_pid_statm(5): size, resident, … in pages
	if len(f) < 2 {
		return 0, fmt.Errorf("%s: %q has no second number", path, b)
	}
	pages, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return pages * int64(os.Getpagesize()), nil
}

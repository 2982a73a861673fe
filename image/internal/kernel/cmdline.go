// Package kernel is what PID 1 says to the kernel at boot and hears from it: its
// command line, early mounts, sysctls, log, clock and console.
package kernel

import (
	"os"
	"strings"
)

// Cmdline is the kernel's command line.
type Cmdline string

// ReadCmdline reads /proc/cmdline.
func ReadCmdline() (Cmdline, error) {
	b, err := os.ReadFile("/proc/cmdline")
	return Cmdline(strings.TrimSpace(string(b))), err
}

// Get returns the value of the last key=value, "" without one.
func (c Cmdline) Get(key string) string {
	v := ""
	for _, f := range strings.Fields(string(c)) {
		if k, val, ok := strings.Cut(f, "="); ok && k == key {
			v = val
		}
	}
	return v
}

// Package kernel is what PID 1 says to the kernel at boot and hears from it: its
// command line, early mounts, sysctls, log, clock and console.
package kernel

import (
	"fmt"
	"os"
	"strings"
	"time"
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

// FaultKey is the parameter of a recovery drill: parley.fault=panic-after:10s
// makes PID 1 panic that long after its start. It can only be set by whoever
// holds the virtual machine's disk or boot menu.
const FaultKey = "parley.fault"

// Fault returns after what time PID 1 shall panic; 0: not at all.
func (c Cmdline) Fault() (time.Duration, error) {
	v := c.Get(FaultKey)
	if v == "" {
		return 0, nil
	}
	after, ok := strings.CutPrefix(v, "panic-after:")
	d, err := time.ParseDuration(after)
	if !ok || err != nil || d <= 0 || d > time.Hour {
		return 0, fmt.Errorf("%s=%q: want panic-after: and a time up to 1h", FaultKey, v)
	}
	return d, nil
}

package kernel

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Version is what stands in layout.VersionPath.
type Version struct {
	String     string
	CommitTime time.Time // zero when unknown
}

// ParseVersion reads lines of key=value: version and commit-time (RFC 3339).
// Other keys are left for releases that know them.
func ParseVersion(b []byte) (Version, error) {
	var v Version
	for line := range strings.Lines(string(b)) {
		key, val, ok := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case !ok:
			return v, fmt.Errorf("line %q: want key=value", line)
		case key == "version":
			v.String = val
		case key == "commit-time":
			t, err := time.Parse(time.RFC3339, val)
			if err != nil {
				return v, fmt.Errorf("commit-time: %w", err)
			}
			v.CommitTime = t
		}
	}
	if v.String == "" {
		return v, fmt.Errorf("no line version=…")
	}
	return v, nil
}

// Uptime returns the time since the kernel started, that in suspension included.
func Uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// Release returns the kernel's release.
func Release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

package config

import (
	"fmt"
	"strings"
)

// capabilities are Linux's (capabilities(7), Linux 7.1's capability.h) without
// CAP_. The value says why a service never gets it; "" is one that it may.
var capabilities = map[string]string{
	"AUDIT_CONTROL":      "",
	"AUDIT_READ":         "",
	"AUDIT_WRITE":        "",
	"BLOCK_SUSPEND":      "",
	"BPF":                "it reads the kernel's memory",
	"CHECKPOINT_RESTORE": "",
	"CHOWN":              "it takes any file",
	"DAC_OVERRIDE":       "it passes over every file's permissions",
	"DAC_READ_SEARCH":    "it reads every file, other services' secrets too",
	"FOWNER":             "it takes any file",
	"FSETID":             "",
	"IPC_LOCK":           "",
	"IPC_OWNER":          "",
	"KILL":               "starting and stopping is PID 1's",
	"LEASE":              "",
	"LINUX_IMMUTABLE":    "",
	"MAC_ADMIN":          "it changes mandatory access control",
	"MAC_OVERRIDE":       "it passes over mandatory access control",
	"MKNOD":              "it makes a device of the disk",
	"NET_ADMIN":          "",
	"NET_BIND_SERVICE":   "",
	"NET_BROADCAST":      "",
	"NET_RAW":            "",
	"PERFMON":            "it watches other processes",
	"SETFCAP":            "it gives capabilities to files",
	"SETGID":             "it becomes any group",
	"SETPCAP":            "it changes what the process is bounded to",
	"SETUID":             "it becomes any user",
	"SYSLOG":             "",
	"SYS_ADMIN":          "it is as good as root",
	"SYS_BOOT":           "reboot is PID 1's",
	"SYS_CHROOT":         "",
	"SYS_MODULE":         "it loads code into the kernel",
	"SYS_NICE":           "",
	"SYS_PACCT":          "",
	"SYS_PTRACE":         "it reads and changes other processes",
	"SYS_RAWIO":          "it writes the machine's memory and ports",
	"SYS_RESOURCE":       "",
	"SYS_TIME":           "",
	"SYS_TTY_CONFIG":     "",
	"WAKE_ALARM":         "",
}

func (c *checker) capabilities(p string, list []string) {
	seen := unique[string]{}
	for i, name := range list {
		at := item(p, i)
		reason, known := capabilities[name]
		switch {
		case !known:
			hint := ""
			if short := strings.TrimPrefix(strings.ToUpper(name), "CAP_"); short != name {
				if _, ok := capabilities[short]; ok {
					hint = fmt.Sprintf(", did you mean %q?", short)
				}
			}
			c.fail(at, "%s: unknown capability%s", quote(name), hint)
		case reason != "":
			c.fail(at, "%s: no service gets it: %s", quote(name), reason)
		}
		take(c, seen, at, name)
	}
}

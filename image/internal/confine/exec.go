package confine

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Securebits of linux/securebits.h: root has no capabilities by being root, and
// neither that nor how capabilities follow a change of user can be changed back.
const securebits = 1<<0 | 1<<1 | 1<<3 // NOROOT, NOROOT_LOCKED, NO_SETUID_FIXUP_LOCKED

// Exec confines the process as root and becomes the program. It returns only an
// error, which names the step.
//
// Credentials, no-new-privileges and the Landlock domain belong to a thread, and
// execve takes those of the thread that calls it. So Exec locks its thread and
// makes every change with a raw system call on it; the other threads end with
// execve.
func Exec(s *Spec) error {
	runtime.LockOSThread()
	caps, err := capabilities(s.Caps)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(append([]string{filepath.Base(s.Path)}, s.Args...))
	if err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	envv, err := syscall.SlicePtrFromStrings(s.Env)
	if err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	path, err := unix.BytePtrFromString(s.Path)
	if err != nil {
		return fmt.Errorf("path %q: %w", s.Path, err)
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(s.OOMScoreAdj)), 0); err != nil {
		return fmt.Errorf("oom_score_adj %d: %w", s.OOMScoreAdj, err)
	}
	if err := limits(s); err != nil {
		return err
	}
	unix.Umask(int(s.Umask))
	// PID 1's descriptors are close-on-exec; one that was forgotten is too from
	// here on.
	if err := unix.CloseRange(LivenessFD+1, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	// PID 1 ignores no signal and blocks none, and execve resets handlers, so
	// there is nothing to undo about signals.
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir /: %w", err)
	}
	// The paths are opened while the process can still reach them all.
	rules, err := ruleset(s)
	if err != nil {
		return err
	}
	if err := credentials(s, caps); err != nil {
		return err
	}
	if err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(rules), 0, 0); errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	unix.CloseOnExec(rules)
	if err := filter(calls); err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])))
	return fmt.Errorf("execve %s: %w", s.Path, errno)
}

func limits(s *Spec) error {
	for _, l := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"NOFILE", unix.RLIMIT_NOFILE, s.Files},
		{"NPROC", unix.RLIMIT_NPROC, s.Processes},
		{"CORE", unix.RLIMIT_CORE, 0},
		{"MEMLOCK", unix.RLIMIT_MEMLOCK, 64 << 10},
	} {
		// x/sys and not syscall: the latter's value for NOFILE is put back by
		// its own exec.
		if err := unix.Prlimit(0, l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}, nil); err != nil {
			return fmt.Errorf("setrlimit(%s, %d): %w", l.name, l.value, err)
		}
	}
	return nil
}

// credentials gives up everything but caps. The order matters: the bounding set
// and the securebits need CAP_SETPCAP, which goes with the user; ambient
// capabilities need the permitted and inheritable ones.
func credentials(s *Spec, caps uint64) error {
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(last[:max(0, len(last)-1)]))
	if err != nil || n > 63 {
		return fmt.Errorf("cap_last_cap %q: want a number up to 63", last)
	}
	for c := 0; c <= n; c++ {
		if caps&(1<<c) != 0 {
			continue
		}
		if err := prctl(unix.PR_CAPBSET_DROP, uintptr(c)); err != nil {
			return fmt.Errorf("bounding set: drop %d: %w", c, err)
		}
	}
	if err := prctl(unix.PR_SET_SECUREBITS, securebits); err != nil {
		return fmt.Errorf("securebits %#x: %w", securebits, err)
	}
	if err := prctl(unix.PR_SET_KEEPCAPS, 1); err != nil {
		return fmt.Errorf("keepcaps: %w", err)
	}
	var groups unsafe.Pointer
	if len(s.Groups) > 0 {
		groups = unsafe.Pointer(&s.Groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(s.Groups)), uintptr(groups), 0); errno != 0 {
		return fmt.Errorf("setgroups(%v): %w", s.Groups, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(s.GID), uintptr(s.GID), uintptr(s.GID)); errno != 0 {
		return fmt.Errorf("setresgid(%d): %w", s.GID, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(s.UID), uintptr(s.UID), uintptr(s.UID)); errno != 0 {
		return fmt.Errorf("setresuid(%d): %w", s.UID, errno)
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		w := uint32(caps >> (32 * i))
		data[i] = unix.CapUserData{Effective: w, Permitted: w, Inheritable: w}
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		return fmt.Errorf("capset(%#x): %w", caps, errno)
	}
	for c := 0; c <= n; c++ {
		if caps&(1<<c) == 0 {
			continue
		}
		if err := prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c)); err != nil {
			return fmt.Errorf("ambient capability %d: %w", c, err)
		}
	}
	return nil
}

func prctl(args ...uintptr) error {
	var a [5]uintptr
	copy(a[:], args)
	if _, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, a[0], a[1], a[2], a[3], a[4], 0); errno != 0 {
		return errno
	}
	return nil
}

// capabilities returns the set as bits.
func capabilities(list []string) (uint64, error) {
	var set uint64
	for _, name := range list {
		bit := slices.Index(names, name)
		if bit < 0 {
			return 0, fmt.Errorf("capability %q is unknown", name)
		}
		set |= 1 << bit
	}
	return set, nil
}

// names are the capabilities of linux/capability.h in the order of their
// numbers. Which of them a service may have is for package config to say.
var names = strings.Fields(`
	CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER
	SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
	SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
	MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
	CHECKPOINT_RESTORE`)

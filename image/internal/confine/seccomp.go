package confine

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of amd64, the only machine that there is an appliance for.
const (
	auditArch = 0xc000003e // AUDIT_ARCH_X86_64
	x32Bit    = 1 << 30    // of a system call's number: the x32 ABI

	sysClone  = 56
	sysFork   = 57
	sysVfork  = 58
	sysClone3 = 435
)

// Offsets in struct seccomp_data of linux/seccomp.h.
const (
	dataNumber = 0
	dataArch   = 4
	dataArg0   = 16 // its low half
)

// noFork is a seccomp filter under which a process makes threads and no
// processes: a child would outlive the service that PID 1 kills, and keep its
// ports, its log pipe and /perm. clone3 hides its flags behind a pointer that a
// filter cannot follow; Go does not use it, and libraries that do fall back.
var noFork = func() []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		least = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		bits  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	// Jt and Jf count the instructions that are passed over.
	return []unix.SockFilter{
		{Code: load, K: dataArch},
		{Code: equal, K: auditArch, Jf: 9}, // → kill: other numbers mean other calls
		{Code: load, K: dataNumber},
		{Code: least, K: x32Bit, Jt: 7}, // → kill
		{Code: equal, K: sysClone3, Jt: 7},
		{Code: equal, K: sysFork, Jt: 7},
		{Code: equal, K: sysVfork, Jt: 6},
		{Code: equal, K: sysClone, Jf: 2}, // → allow
		{Code: load, K: dataArg0},
		{Code: bits, K: unix.CLONE_THREAD, Jf: 3}, // → no right
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	}
}()

// filter puts the calling thread, and what it executes, under the filter for
// good. It needs no_new_privs.
func filter(f []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	if _, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

package confine

import (
	"fmt"
	"syscall"
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

// refused are calls that no service needs and that have no other bound: memory
// that counts for nobody once it is not mapped (so that the kernel ends others
// when memory is short), and that of System V outlives its maker.
var refused = []uint32{
	29,  // shmget
	64,  // semget
	68,  // msgget
	240, // mq_open
	319, // memfd_create
}

// calls is a seccomp filter under which a process makes threads and no
// processes: a child would outlive the service that PID 1 kills, and keep its
// ports, its log pipe and /perm. clone3 hides its flags behind a pointer that a
// filter cannot follow; Go does not use it, and libraries that do fall back.
var calls = func() []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		least = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		bits  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	errno := func(e syscall.Errno) unix.SockFilter {
		return unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(e)}
	}
	kill := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS}
	// Jt and Jf count the instructions that are passed over.
	f := []unix.SockFilter{
		{Code: load, K: dataArch},
		{Code: equal, K: auditArch, Jt: 1},
		kill, // other numbers mean other calls
		{Code: load, K: dataNumber},
		{Code: least, K: x32Bit, Jf: 1},
		kill,
		{Code: equal, K: sysClone3, Jf: 1},
		errno(unix.ENOSYS),
	}
	for _, nr := range append([]uint32{sysFork, sysVfork}, refused...) {
		f = append(f, unix.SockFilter{Code: equal, K: nr, Jf: 1}, errno(unix.EPERM))
	}
	return append(f,
		unix.SockFilter{Code: equal, K: sysClone, Jf: 3},
		unix.SockFilter{Code: load, K: dataArg0},
		unix.SockFilter{Code: bits, K: unix.CLONE_THREAD, Jt: 1},
		errno(unix.EPERM),
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	)
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

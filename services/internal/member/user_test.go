package member

import (
	"runtime"
	"syscall"
	"testing"
)

// otherUser is nobody's on the machine.
const otherUser = 65533

// asOther runs f as another user, on a thread that ends with it.
func asOther(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		// The thread's alone: package syscall's Setuid is the process's. Root's
		// capabilities go with it, so it can open what it may.
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), otherUser, ^uintptr(0)); errno != 0 {
			t.Errorf("setresuid: %v", errno)
			return
		}
		f()
	}()
	<-done
}

// Command init is PID 1 of the appliance. It brings the machine up, keeps its
// services running, and takes it down; what it does is in the packages of
// image/internal, and this one ties them together:
//
//	boot.go      mounts, watchdog, gokrazy.Boot, /perm, role
//	run.go       supervisor, control socket, log, and what else runs
//	system.go    what the control socket's callers may ask for
//	shutdown.go  the orderly end, and the end after a panic
//
// It opens no network socket and parses nothing from outside the machine.
package main

import (
	"fmt"
	"os"
	"time"

	_ "github.com/parley-meet/parley/image/launch" // becomes a service, before main
)

func main() {
	started := time.Now()
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is PID 1 of an appliance, it cannot run as another process")
		os.Exit(2)
	}
	m := newMachine(started)
	m.guard(func() {
		m.boot()
		m.run()
	})()
}

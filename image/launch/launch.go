// Package launch is how PID 1's program becomes a service. PID 1 executes the
// program again under the name confine.LaunchName, as root and with a
// description of the service (package confine) on descriptor 4; that process
// gives up every privilege that is not in the description and executes the
// service's program. It is a process of its own because a process that Go code
// forked cannot run Go code before it executes something. It is not a program
// of its own because a second Go runtime would be a megabyte of the image, and
// PID 1's is in memory already.
//
// A program takes part by importing the package. All is done while packages are
// initialised, before main and before everything that imports net/http, as
// gokrazy does: the language initialises packages in the order of their paths
// where none needs another, this one needs little, and net/http needs packages
// under vendor/. So nothing of PID 1's begins in the process. A test holds that.
package launch

import (
	"fmt"
	"os"

	"github.com/parley-meet/parley/image/internal/confine"
)

func init() {
	// The kernel starts PID 1 under the name that its command line gives.
	if os.Getpid() == 1 || len(os.Args) == 0 || os.Args[0] != confine.LaunchName {
		return
	}
	err := run()
	fmt.Fprintf(os.Stderr, "launch: %v\n", err)
	os.Exit(confine.FailedCode)
}

// run returns only an error.
func run() error {
	f := os.NewFile(confine.SpecFD, "spec")
	spec, err := confine.Decode(f)
	f.Close()
	if err != nil {
		return err
	}
	return confine.Exec(spec)
}

// Command launch becomes a service: PID 1 starts it as root with a description
// of the service (package confine) on descriptor 4; it gives up every privilege
// that is not in the description and executes the service's program. It is a
// process of its own because a process that Go code forked cannot run Go code
// before it executes something.
package main

import (
	"fmt"
	"os"

	"github.com/parley-meet/parley/image/internal/confine"
)

func main() {
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

// Command appliance is every program that an appliance's services are, in one
// file: the first argument names the program, the others are its own.
//
//	appliance network
//	appliance console -mode web
//
// What they share, Go's runtime, TLS, HTTP and half of their packages, is in the
// image once; as four files they were 26 MB larger, 11 MB of them in the download.
// In memory it is one file as well, whose pages the processes share. They stay
// processes of their own, with a user, rights and limits each, and start one
// another as little as before.
//
// It costs that every program's packages are initialised in every process, a few
// milliseconds and 2 MB, so what takes long is for Main and not for a package's
// variables; and that a change of one program is a change of the file.
package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/parley-meet/parley/services/internal/program/console"
	"github.com/parley-meet/parley/services/internal/program/controller"
	"github.com/parley-meet/parley/services/internal/program/network"
	"github.com/parley-meet/parley/services/internal/program/router"
)

// programs run with their arguments and return the exit code.
var programs = map[string]func(args []string) int{
	"console":    console.Main,
	"controller": controller.Main,
	"network":    network.Main,
	"router":     router.Main,
}

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

func run(args []string, stderr io.Writer) int {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	program, ok := programs[name]
	if !ok {
		fmt.Fprintf(stderr, "appliance: program %q: want one of %s\n", name, strings.Join(slices.Sorted(maps.Keys(programs)), ", "))
		return 2
	}
	return program(args[1:])
}

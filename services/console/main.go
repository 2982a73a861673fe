// Command console is the administrators' console (package program/console)
// as a file of its own. The appliance's image has it inside command appliance.
package main

import (
	"os"

	"github.com/parley-meet/parley/services/internal/program/console"
)

func main() { os.Exit(console.Main(os.Args[1:])) }

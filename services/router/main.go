// Command router is mmr, the multimedia router (package program/router),
// as a file of its own. The appliance's image has it inside command appliance.
package main

import (
	"os"

	"github.com/parley-meet/parley/services/internal/program/router"
)

func main() { os.Exit(router.Main(os.Args[1:])) }

// Command controller is zctrl, the zone controller (package program/controller),
// as a file of its own. The appliance's image has it inside command appliance.
package main

import (
	"os"

	"github.com/parley-meet/parley/services/internal/program/controller"
)

func main() { os.Exit(controller.Main(os.Args[1:])) }

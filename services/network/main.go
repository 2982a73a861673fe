// Command network is the keeper of the network (package program/network)
// as a file of its own. The appliance's image has it inside command appliance.
package main

import (
	"os"

	"github.com/parley-meet/parley/services/internal/program/network"
)

func main() { os.Exit(network.Main(os.Args[1:])) }

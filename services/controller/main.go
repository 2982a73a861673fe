// Command controller is zctrl, the zone controller. It has no configuration to
// read yet: it says so on its health socket, and opens no port.
package main

import (
	"os"

	"github.com/parley-meet/parley/services/internal/health"
)

func main() { os.Exit(health.Idle("zctrl")) }

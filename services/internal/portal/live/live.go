// Package live is what the portal knows of appliances that are linked to it now:
// the links' server side, their state as all instances see it, its history, and
// what is wrong with it.
package live

import (
	"strconv"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
)

// Controller is a zone controller that runs: its last word is no older than
// link.SilentAfter.
type Controller struct {
	ID         string
	Zone       string
	PublicName string // that browsers use; "" is none
	Status     link.Status
	Contact    time.Time // of its last word, by the portal's clock
}

// Origins returns the https origins by which browsers reach the controller, the
// best first: the public name, or else the addresses.
func (c Controller) Origins() []string {
	port := ""
	if c.Status.HTTPS != 0 && c.Status.HTTPS != 443 {
		port = ":" + strconv.Itoa(int(c.Status.HTTPS))
	}
	if c.PublicName != "" {
		return []string{"https://" + c.PublicName + port}
	}
	var out []string
	for _, a := range c.Status.Addresses {
		host := a.String()
		if a.Is6() {
			host = "[" + host + "]"
		}
		out = append(out, "https://"+host+port)
	}
	return out
}

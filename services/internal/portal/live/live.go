// Package live is what the portal knows of appliances that are linked to it now:
// the links' server side, their state as all instances see it, its history, and
// what is wrong with it.
package live

import (
	"net/netip"
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

// Router is a multimedia router that runs, alone on its machine or within a zone
// controller.
type Router struct {
	ID           string       `json:"id"` // of the appliance
	Zone         string       `json:"zone"`
	Host         string       `json:"host"`
	Version      string       `json:"version"`
	InController bool         `json:"inController"`
	Addresses    []netip.Addr `json:"addresses"`
	External     []string     `json:"external"`              // addresses outside 1:1 NAT
	Ports        []uint16     `json:"ports"`                 // UDP ports that answer
	Unreachable  []string     `json:"unreachable,omitempty"` // ports that its own check did not reach
	Participants int          `json:"participants"`
	Limit        int          `json:"limit"` // participants; 0: unknown
	CPU          float64      `json:"cpu"`   // share, 0 to 1
	SendBits     int64        `json:"sendBits"`
	ReceiveBits  int64        `json:"receiveBits"`
	Contact      time.Time    `json:"contact"` // of its last word, by the portal's clock
}

// load is how full the router is, by people or by its processors.
func (r Router) load() float64 {
	people := 0.0
	if r.Limit > 0 {
		people = float64(r.Participants) / float64(r.Limit)
	}
	return max(people, r.CPU)
}

// Package firewall is what may reach the appliance. One table of flows is the
// source of both the rules that Linux enforces on the appliance itself
// (Linux.Apply, nftables) and the list that an administrator gives to whoever
// keeps the site's own firewall (Site).
//
// Outbound connections are not restricted on the appliance: what it opens is
// its own code's doing, and a site that wants to restrict it has Site's list.
package firewall

import (
	"slices"
)

// Directions of a flow, as the appliance sees it.
const (
	In  = "in"
	Out = "out"
)

// Protocols of a flow.
const (
	TCP  = "tcp"
	UDP  = "udp"
	ICMP = "icmp" // of both versions of IP
)

// Names of Config.Firewall.Allow: what an administrator can narrow.
const (
	Console = "console"
	HTTPS   = "https"
	Media   = "media"
	Ping    = "icmp"
)

// Names lists them.
var Names = []string{Console, HTTPS, Media, Ping}

// Port numbers.
const (
	PortConsole = 5480
	PortHTTPS   = 443
	PortHTTP    = 80 // challenges of ACME alone (RFC 8555, 8.3)
)

// mediaPorts carry STUN, TURN and media.
var mediaPorts = []uint16{3478, 3479, 8801}

// mailPorts are those at which mail is handed in (RFC 5321, RFC 8314).
var mailPorts = []uint16{25, 465, 587}

// Party is an end of a flow. Its words are "firewall.who."+Party.
type Party string

// The parties.
const (
	Administrators Party = "administrators"
	Anyone         Party = "anyone"
	Appliance      Party = "appliance"
	Clients        Party = "clients"
	Controller     Party = "controller"  // this appliance's zone controller
	Router         Party = "router"      // this appliance's multimedia router
	Controllers    Party = "controllers" // other appliances'
	Routers        Party = "routers"     // other appliances'
	Portal         Party = "portal"
	NameServers    Party = "name-servers"
	TimeServers    Party = "time-servers"
	DHCPServers    Party = "dhcp-servers"
	Proxy          Party = "proxy"
	People         Party = "people"       // of a portal: its people, and appliances
	MailServers    Party = "mail-servers" // of a portal
	Outside        Party = "outside"      // what a portal's settings name
)

// Roles of an appliance, as config.json spells them.
const (
	roleController = "controller"
	roleRouter     = "router"
	rolePortal     = "portal"
)

// flow is a line of the table.
type flow struct {
	name      string // of Names; "": not for the administrator to narrow
	direction string
	protocol  string
	ports     []uint16 // of the destination; none for ICMP, and where the configuration says
	from, to  Party
	purpose   string // "firewall.purpose."+purpose are its words
	roles     []string
}

var (
	everywhere   = []string{roleController, roleRouter, rolePortal}
	onRouter     = []string{roleController, roleRouter}
	onPortal     = []string{rolePortal}
	onController = []string{roleController}
)

// table is every flow that the appliance knows. Each controller appliance has a
// router of its own, so that what is a router's is a controller's too.
var table = []flow{
	{Console, In, TCP, []uint16{PortConsole}, Administrators, Appliance, "console", everywhere},
	{HTTPS, In, TCP, []uint16{PortHTTPS}, Clients, Controller, "meeting-controller", onController},
	{HTTPS, In, TCP, []uint16{PortHTTPS}, Clients, Router, "meeting-router", onRouter},
	{HTTPS, In, TCP, []uint16{PortHTTPS}, Routers, Controller, "router-controller", onController},
	{HTTPS, In, TCP, []uint16{PortHTTPS}, Routers, Router, "router-router", onRouter},
	{HTTPS, In, TCP, []uint16{PortHTTP}, Anyone, Controller, "certificate", onController},
	{Media, In, UDP, mediaPorts, Clients, Router, "media", onRouter},
	{Ping, In, ICMP, nil, Anyone, Appliance, "ping", everywhere},
	{"", Out, TCP, []uint16{PortHTTPS}, Router, Controllers, "router-controller", onRouter},
	{"", Out, TCP, []uint16{PortHTTPS}, Router, Routers, "router-router", onRouter},
	{"", Out, TCP, []uint16{PortHTTPS}, Appliance, Portal, "portal", onRouter},
	{HTTPS, In, TCP, []uint16{PortHTTPS}, People, Appliance, "people", onPortal},
	{"", Out, TCP, mailPorts, Appliance, MailServers, "mail", onPortal},
	{"", Out, TCP, []uint16{PortHTTPS}, Appliance, Outside, "outside", onPortal},
	{"", Out, TCP, nil, Appliance, Proxy, "proxy", onRouter},
	{"", Out, UDP, []uint16{53}, Appliance, NameServers, "dns", everywhere},
	{"", Out, TCP, []uint16{53}, Appliance, NameServers, "dns", everywhere},
	{"", Out, UDP, []uint16{123}, Appliance, TimeServers, "ntp", everywhere},
	{"", Out, UDP, []uint16{67}, Appliance, DHCPServers, "dhcp", everywhere},
	{"", In, UDP, []uint16{68}, DHCPServers, Appliance, "dhcp", everywhere},
	{"", Out, UDP, []uint16{547}, Appliance, DHCPServers, "dhcpv6", everywhere},
	{"", In, UDP, []uint16{546}, DHCPServers, Appliance, "dhcpv6", everywhere},
	{"", In, ICMP, nil, Anyone, Appliance, "icmp-errors", everywhere},
}

// listens returns the protocol and the ports of the name in the role, each once;
// "" is all roles.
func listens(name, role string) (protocol string, ports []uint16) {
	for _, f := range table {
		if f.name != name || f.direction != In || role != "" && !slices.Contains(f.roles, role) {
			continue
		}
		protocol = f.protocol
		for _, p := range f.ports {
			if !slices.Contains(ports, p) {
				ports = append(ports, p)
			}
		}
	}
	return protocol, ports
}

package netconfig

import (
	"net/netip"
)

// ConfigVersion is the version of network.json that this package knows.
const ConfigVersion = 1

// ConfigFile is the name of the saved configuration in PermDir.
const ConfigFile = "network.json"

// Modes of an address.
const (
	ModeStatic = "static" // beside ModeDHCP
	ModeAuto   = "auto"   // IPv6: router advertisements, and DHCPv6 where they say so
	ModeOff    = "off"    // IPv6
)

// Config is what an administrator wants of the appliance's network: the content
// of network.json, and of the API. Its JSON holds addresses as strings.
type Config struct {
	Version  int          `json:"version"`
	Hostname string       `json:"hostname"`       // "": that of the image
	Eth0     Master       `json:"eth0"`           // "Eth0 Info (Master)"
	IPv6     IPv6         `json:"ipv6"`           // of eth0
	Slave    netip.Prefix `json:"slave,omitzero"` // "Eth0:0 Info (Slave)"; none: one address serves everything
	Routes   []Route      `json:"routes"`         // beside the default route
	DNS      DNS          `json:"dns"`
	NTP      NTP          `json:"ntp"`
	Proxy    Proxy        `json:"proxy"`
	Firewall Firewall     `json:"firewall"`
}

// Master is the IPv4 address of eth0.
type Master struct {
	Mode    string       `json:"mode"`             // ModeDHCP or ModeStatic
	Address netip.Prefix `json:"address,omitzero"` // ModeStatic
	Gateway netip.Addr   `json:"gateway,omitzero"` // ModeStatic; none: no default route
	MTU     int          `json:"mtu"`              // bytes; 0: DHCP's or the link's
}

// IPv6 is the IPv6 address of eth0.
type IPv6 struct {
	Mode    string       `json:"mode"`             // ModeAuto, ModeStatic or ModeOff
	Address netip.Prefix `json:"address,omitzero"` // ModeStatic
	Gateway netip.Addr   `json:"gateway,omitzero"` // ModeStatic
}

// DNS is the resolver. Where a list is empty DHCP's counts.
type DNS struct {
	Servers []netip.Addr `json:"servers"`
	Search  []string     `json:"search"`
}

// NTP is where the time comes from.
type NTP struct {
	Servers []string `json:"servers"` // names or addresses; empty: DHCP's
	Off     bool     `json:"off"`     // the hypervisor keeps the clock, or an administrator sets it
}

// Proxy is the site's proxy for connections outwards (HTTP CONNECT).
type Proxy struct {
	Host string `json:"host"` // name or address; "": none
	Port int    `json:"port"`
	User string `json:"user"`
	// Password is kept in network.json and never given out: nil in an answer; in
	// a request nil keeps the one that is saved.
	Password *string `json:"password,omitempty"`
	// PasswordSet says in an answer that there is one.
	PasswordSet bool     `json:"passwordSet"`
	Except      []string `json:"except"` // domains, addresses and networks that are reached without it
}

// Firewall narrows who may connect. A port that is not named is open to all.
type Firewall struct {
	// Allow holds for a port of the table (its Name, "console", "https", "media",
	// "icmp") the only networks that may connect.
	Allow map[string][]netip.Prefix `json:"allow"`
}

// DefaultConfig is in force until an administrator saves another.
func DefaultConfig() Config {
	return Config{
		Version:  ConfigVersion,
		Eth0:     Master{Mode: ModeDHCP},
		IPv6:     IPv6{Mode: ModeAuto},
		Routes:   []Route{},
		DNS:      DNS{Servers: []netip.Addr{}, Search: []string{}},
		NTP:      NTP{Servers: []string{}},
		Proxy:    Proxy{Except: []string{}},
		Firewall: Firewall{Allow: map[string][]netip.Prefix{}},
	}
}

// Input is a Config as a person gives it: the same JSON, with text that may be
// no address. Config checks it. A line of a list may hold blanks around it;
// empty lines do not count.
type Input struct {
	Hostname string      `json:"hostname"`
	Eth0     MasterInput `json:"eth0"`
	IPv6     IPv6Input   `json:"ipv6"`
	Slave    string      `json:"slave"` // ADDRESS/LENGTH, or ""
	Routes   []struct {
		Destination string `json:"destination"`
		Gateway     string `json:"gateway"`
	} `json:"routes"`
	DNS struct {
		Servers []string `json:"servers"`
		Search  []string `json:"search"`
	} `json:"dns"`
	NTP struct {
		Servers []string `json:"servers"`
		Off     bool     `json:"off"`
	} `json:"ntp"`
	Proxy struct {
		Host     string   `json:"host"`
		Port     string   `json:"port"` // "" with no host
		User     string   `json:"user"`
		Password *string  `json:"password,omitempty"` // nil: as it is
		Except   []string `json:"except"`
	} `json:"proxy"`
	Firewall struct {
		Allow map[string][]string `json:"allow"`
	} `json:"firewall"`
}

// MasterInput is a Master as text.
type MasterInput struct {
	Mode    string `json:"mode"`
	Address string `json:"address"` // ADDRESS/LENGTH, or ADDRESS with Netmask
	Netmask string `json:"netmask"` // "255.255.255.0", when Address has no length
	Gateway string `json:"gateway"`
	MTU     string `json:"mtu"` // "" or "0": automatic
}

// IPv6Input is an IPv6 as text.
type IPv6Input struct {
	Mode    string `json:"mode"`
	Address string `json:"address"`
	Gateway string `json:"gateway"`
}

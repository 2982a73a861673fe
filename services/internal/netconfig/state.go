package netconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// StateVersion is the version of the state file that this package knows.
const StateVersion = 2

// MaxStateSize is the largest state file in bytes that is read.
const MaxStateSize = 64 << 10

// ModeDHCP says that a server gives the address.
const ModeDHCP = "dhcp"

// Link is what the interface is like.
type Link string

// States of a link.
const (
	LinkMissing   Link = "missing"    // no such interface
	LinkNoCarrier Link = "no carrier" // cable pulled, or not yet negotiated
	LinkUp        Link = "up"
)

// Where the name servers of a State come from.
const (
	FromConfig = "config"
	FromDHCP   = "dhcp"
	FromDHCP6  = "dhcp6"
	FromRouter = "router" // router advertisements
)

// State is what the network service publishes of one interface: what is in
// force, not what is wished.
type State struct {
	Version         int            `json:"version"`
	Interface       string         `json:"interface"`
	HardwareAddress string         `json:"hardwareAddress,omitempty"`
	Link            Link           `json:"link"`
	Mode            string         `json:"mode"`              // of the master: ModeDHCP or ModeStatic
	MTU             int            `json:"mtu,omitempty"`     // bytes, in force
	LinkMTU         int            `json:"linkMTU,omitempty"` // bytes, without DHCP's and the configuration's
	Addresses       []netip.Prefix `json:"addresses"`         // IPv4 of the master: one, or none
	Slave           netip.Prefix   `json:"slave,omitzero"`
	Gateway         netip.Addr     `json:"gateway,omitzero"`
	Routes          []Route        `json:"routes,omitempty"` // of both families, default routes of IPv4 included
	IPv6Mode        string         `json:"ipv6Mode,omitempty"`
	IPv6            []netip.Prefix `json:"ipv6,omitempty"` // without link-local ones
	Gateway6        netip.Addr     `json:"gateway6,omitzero"`
	DNS             []netip.Addr   `json:"dns,omitempty"`
	DNSSource       string         `json:"dnsSource,omitempty"`
	Search          []string       `json:"search,omitempty"`
	NTP             []netip.Addr   `json:"ntp,omitempty"`      // that DHCP and DHCPv6 name
	Hostname        string         `json:"hostname,omitempty"` // that the server proposes
	Domain          string         `json:"domain,omitempty"`   // that the server names
	Lease           *Lease         `json:"lease,omitempty"`
	Lease6          *Lease         `json:"lease6,omitempty"`
	Duplicates      []Duplicate    `json:"duplicates,omitempty"`
	Problem         string         `json:"problem,omitempty"` // why a configuration is not in force
}

// Duplicate is an own address that another machine has.
type Duplicate struct {
	Address         netip.Addr `json:"address"`
	HardwareAddress string     `json:"hardwareAddress,omitempty"` // of the other; IPv6 does not tell
}

// DuplicateError is that other machines have own addresses.
type DuplicateError []Duplicate

func (e DuplicateError) Error() string {
	var texts []string
	for _, d := range e {
		text := d.Address.String() + " is in use by another machine"
		if d.HardwareAddress != "" {
			text += ", " + d.HardwareAddress
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

// Lease is the times of a DHCP lease, all UTC; zero times are never.
type Lease struct {
	Server   netip.Addr `json:"server"`
	Acquired time.Time  `json:"acquired"`
	Renew    time.Time  `json:"renew,omitzero"`
	Rebind   time.Time  `json:"rebind,omitzero"`
	Expires  time.Time  `json:"expires,omitzero"`
}

// Encode returns the state file.
func (s State) Encode() ([]byte, error) {
	s.Version = StateVersion
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// DecodeState reads a state file. An unknown version or field is an error.
func DecodeState(b []byte) (State, error) {
	var s State
	if err := DecodeVersion(b, StateVersion, MaxStateSize, &s); err != nil {
		return State{}, fmt.Errorf("network state: %w", err)
	}
	return s, nil
}

// DecodeVersion decodes the JSON object b of at most limit bytes, whose field
// version must be want, into v. An unknown field is an error.
func DecodeVersion(b []byte, want, limit int, v any) error {
	if len(b) > limit {
		return fmt.Errorf("%d bytes, want at most %d", len(b), limit)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return err
	}
	if head.Version != want {
		return fmt.Errorf("version %d, want %d", head.Version, want)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// Package mmr is the multimedia router as a process: its sockets, its HTTPS server
// and what it is configured with. The meetings are package hall's.
//
//	UDP ADDRESS:8801, 3478   media; also answers STUN
//	TCP ADDRESS:443          /whip, /whep, /signal (WebSocket), /healthz; ICE-TCP; TURN
//
// On the TCP port the first byte tells: 0x16 is TLS, anything else is a packet's
// length and so ICE-TCP (RFC 4571). Inside TLS it does again: 0 to 3 is STUN, and so
// TURN, anything else is HTTP.
//
// An Appliance is the router of a zone:
//
//	member.Zone ──▶ credentials, tickets' keys, settings ──▶ ports, candidates
//	zone bus    ◀── announcements; what is kept for another router
//	            ◀─▶ pages' frames, carried by controllers (package carrier)
//	portal      ◀── meeting.started, meeting.participants, meeting.ended
//
// It has 443 of its own address, or none where it shares the controller's: then the
// controller hands over connections of ICE-TCP, and of TURN by its server name, by
// their file descriptors. Requests of /whip and /whep come over the zone bus from
// controllers, which have placed their meetings; its own 443 has them for meetings
// that run here. What it measures is
// on a unix socket: GET /metrics (Prometheus), GET /meetings (JSON).
//
// Nobody more is let in beyond the limit of participants, or while the processors
// have no time left; who is inside does not notice. When the process ends, or the
// appliance leaves its zone, its people are told to join again.
//
// A Server stands alone, with fixed addresses and keys from a file: for trials and
// benchmarks.
package mmr

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Config is what a router is started with.
type Config struct {
	// Media are the UDP addresses, each one of the machine's own.
	Media []netip.AddrPort `json:"media"`
	// HTTPS is the TCP address.
	HTTPS netip.AddrPort `json:"https"`
	// External are the addresses and ports under which clients reach Media and HTTPS
	// from outside, in that order; none: as they are.
	External []netip.AddrPort `json:"external,omitempty"`
	// Name is the host name that the certificate has, for TURN; "": the address.
	Name        string `json:"name,omitempty"`
	Certificate string `json:"certificate"`     // file, PEM, leaf first
	Key         string `json:"key"`             // file, PEM
	Zone        string `json:"zone"`            // id
	Issuer      string `json:"issuer"`          // of tickets
	Keys        string `json:"keys"`            // file, JWKS (RFC 7517)
	Limit       int    `json:"limit,omitempty"` // participants; 0: 200
	Debug       string `json:"debug,omitempty"` // loopback address of /profile, /heap and /stats; "": none
}

const maxLimit = connector.MaxLimit

// Read reads a configuration. Errors name the field.
func Read(file string) (Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Config{}, err
	}
	var c Config
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

func (c *Config) check() error {
	var errs []error
	need := func(ok bool, field, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %s", field, what))
		}
	}
	need(len(c.Media) > 0, "media", "at least one address and port of UDP, as 192.0.2.1:8801")
	for _, a := range c.Media {
		need(a.IsValid() && !a.Addr().IsUnspecified(), "media", fmt.Sprintf("%v is no address of the machine: answers must leave from where the request came to", a))
	}
	need(c.HTTPS.IsValid(), "https", "an address and port of TCP, as 192.0.2.1:443")
	need(len(c.External) == 0 || len(c.External) == len(c.Media)+1, "external", fmt.Sprintf("%d addresses: one for each of media, and one for https", len(c.Media)+1))
	need(c.Certificate != "" && c.Key != "", "certificate, key", "files in PEM")
	need(c.Zone != "" && c.Issuer != "" && c.Keys != "", "zone, issuer, keys", "whose tickets are taken")
	need(c.Limit >= 0 && c.Limit <= maxLimit, "limit", fmt.Sprintf("0 to %d participants", maxLimit))
	if c.Debug != "" {
		a, err := netip.ParseAddrPort(c.Debug)
		need(err == nil && a.Addr().IsLoopback(), "debug", "an address of the loopback")
	}
	return errors.Join(errs...)
}

// files reads those that the configuration names.
func (c *Config) files() (tls.Certificate, ticket.Set, error) {
	cert, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return cert, nil, fmt.Errorf("certificate: %w", err)
	}
	b, err := os.ReadFile(c.Keys)
	if err != nil {
		return cert, nil, fmt.Errorf("keys: %w", err)
	}
	set, err := ticket.ParseSet(b)
	return cert, set, err
}

// web is how clients reach the TCP port.
func (c *Config) web() netip.AddrPort {
	if len(c.External) > 0 {
		return c.External[len(c.Media)]
	}
	return c.HTTPS
}

// candidates are how clients reach the router.
func (c *Config) candidates() []sdp.Candidate {
	var list []sdp.Candidate
	add := func(a netip.AddrPort, tcp bool) {
		list = append(list, sdp.Candidate{TCP: tcp, Addr: a.Addr().Unmap(), Port: a.Port(), Kind: "host"})
	}
	for i, a := range c.Media {
		if len(c.External) > 0 {
			a = c.External[i]
		}
		add(a, false)
	}
	add(c.web(), true)
	return list
}

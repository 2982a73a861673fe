// Package netclient is the contract of the network service's socket: what a
// console may ask of it, and a client.
//
// The socket is a unix stream socket (Socket) that group console may use. A
// connection carries one Request, a line of JSON of at most MaxLine bytes, and
// one Response, a line too. An error that concerns fields has Faults.
package netclient

import (
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Socket is where the network service listens.
const Socket = netconfig.RunDir + "/network.sock"

// MaxLine is the longest line in bytes in either direction.
const MaxLine = 256 << 10

// Hold is how long a change waits to be confirmed before the old state returns.
const Hold = 90 * time.Second

// Op names what is asked.
type Op string

// The operations.
const (
	OpStatus  Op = "status"
	OpSet     Op = "set"     // Config; with Hold it must be confirmed
	OpConfirm Op = "confirm" // the change that is pending is saved
	OpRevert  Op = "revert"  // the change that is pending is undone
	OpSync    Op = "sync"    // ask the time servers now
)

// Request is what a caller asks.
type Request struct {
	Op     Op                `json:"op"`
	Config *netconfig.Config `json:"config,omitempty"`
	Hold   bool              `json:"hold,omitempty"` // set: wait for a confirmation
	By     string            `json:"by,omitempty"`   // who asks, for people: "anna from 10.0.0.7"
	ID     string            `json:"id,omitempty"`   // confirm, revert: of the Pending that is meant
}

// Response is the answer.
type Response struct {
	Error  string     `json:"error,omitempty"`
	Code   Code       `json:"code,omitempty"` // of Error
	Faults fault.List `json:"faults,omitempty"`
	Status *Status    `json:"status,omitempty"` // after what was asked
}

// Code classes an error for programs.
type Code string

// The codes.
const (
	CodeInvalid  Code = "invalid"     // the request itself, or values (Faults)
	CodeReadOnly Code = "read-only"   // it could not be saved, so it was not done
	CodeState    Code = "wrong-state" // no such change is pending
	CodeFailed   Code = "failed"      // it could not be applied, and was undone
	CodeBusy     Code = "busy"        // too many ask at once
)

// Status is the network as the service sees it.
type Status struct {
	Config   netconfig.Config `json:"config"` // saved; the proxy's password is left out
	Pending  *Pending         `json:"pending,omitempty"`
	Reverted *Reverted        `json:"reverted,omitempty"` // the last change that was undone, since boot or by it
	State    netconfig.State  `json:"state"`              // in force
	Clock    Clock            `json:"clock"`
	Firewall Firewall         `json:"firewall"`
}

// Pending is a change that is in force and not yet confirmed.
type Pending struct {
	ID       string           `json:"id"`
	Config   netconfig.Config `json:"config"`
	By       string           `json:"by"`
	Since    time.Time        `json:"since"` // it is in force since
	Deadline time.Time        `json:"deadline"`
}

// Why a change was undone.
const (
	RevertedTimeout  = "timeout"  // nobody confirmed it
	RevertedRestart  = "restart"  // the machine or the service restarted before
	RevertedOperator = "operator" // somebody asked for it
	RevertedFailed   = "failed"   // it could not be applied
)

// Reverted tells of a change that was undone.
type Reverted struct {
	At  time.Time `json:"at"`
	Why string    `json:"why"`
	By  string    `json:"by"` // who had made the change
}

// Clock is how the time is kept.
type Clock struct {
	Off     bool          `json:"off"`
	Synced  bool          `json:"synced"`
	Server  string        `json:"server,omitempty"` // that is followed
	Offset  time.Duration `json:"offset"`           // of the own clock at the last answer, ns, without what a step took away; positive: it is behind
	Last    time.Time     `json:"last,omitzero"`    // answer
	Servers []string      `json:"servers"`          // that are asked
	Problem string        `json:"problem,omitempty"`
}

// Firewall is the host firewall.
type Firewall struct {
	Active  bool   `json:"active"`
	Problem string `json:"problem,omitempty"` // why not
	Dropped int64  `json:"dropped"`           // packets since the rules were set
}

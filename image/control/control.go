// Package control is the contract of PID 1's control socket: what a console
// may ask, and a client. It uses the standard library alone.
//
// The socket is a unix stream socket (layout.ControlSocket). PID 1 reads the
// caller's user from the kernel (SO_PEERCRED) and grants what config.json says
// for that user. A connection carries one Request, one line of JSON of at most
// MaxLine bytes, and its answer: lines of JSON, one Response each. A Response
// with Error ends the answer; so does the end of the stream.
package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// MaxLine is the longest line in bytes in either direction, its newline
// included. A Status with its events fits.
const MaxLine = 256 << 10

// Op names what is asked.
type Op string

// The operations. Which right each needs stands in config.json's schema (package
// config).
const (
	OpStatus   Op = "status"
	OpLogs     Op = "logs"
	OpStart    Op = "start"
	OpStop     Op = "stop"
	OpRestart  Op = "restart"
	OpReboot   Op = "reboot"
	OpPowerOff Op = "poweroff"
	OpRepair   Op = "repair"   // /perm, see Repair
	OpRole     Op = "role"     // set the appliance's role; takes effect at the next boot
	OpReset    Op = "reset"    // wipe /perm and restart: the appliance is as when it was new
	OpIdentity Op = "identity" // answer whether this machine is a copy, see Identity
	OpClock    Op = "clock"    // step or slew the clock, see Clock
	OpHostname Op = "hostname" // set the host name, until the next boot
)

// Request is what a caller asks.
type Request struct {
	Op       Op       `json:"op"`
	Service  string   `json:"service,omitempty"` // start, stop, restart, logs ("" is all)
	Lines    int      `json:"lines,omitempty"`   // logs: how many past lines, newest; 0 is all that are kept
	Follow   bool     `json:"follow,omitempty"`  // logs: go on with new lines
	Repair   Repair   `json:"repair,omitempty"`
	Role     string   `json:"role,omitempty"`
	Identity Identity `json:"identity,omitempty"`
	Clock    *Clock   `json:"clock,omitempty"`
	Hostname string   `json:"hostname,omitempty"` // hostname
}

// Clock is a change of the machine's clock. PID 1 refuses what is before its
// time floor (image build, last saved time).
type Clock struct {
	// Offset is what the clock is to be moved by; positive is forward.
	Offset time.Duration `json:"offset"` // ns
	// Step moves it at once; otherwise it is slewed, at most by 500 ms.
	Step bool `json:"step,omitempty"`
	// Save writes the clock into the RTC too.
	Save bool `json:"save,omitempty"`
}

// Identity answers whether this machine is a copy.
type Identity string

// The answers.
const (
	// IdentitySame: it is the machine that it was (moved, reverted, given another
	// virtual machine around its disk). Nothing changes but what is remembered.
	IdentitySame Identity = "same"
	// IdentityCopy: it is a copy, and the other one lives on. Keys and tokens
	// that must be unique are removed; addresses and accounts stay.
	IdentityCopy Identity = "copy"
)

// Machine is the hypervisor's word for which machine this is.
type Machine struct {
	// Changed says that it is another one than this disk was used with last, or
	// an earlier state of it: an administrator is to say what it is.
	Changed bool      `json:"changed,omitempty"`
	Why     string    `json:"why,omitempty"` // "uuid": another machine; "generation": a snapshot or copy of it
	Was     string    `json:"was,omitempty"` // UUID
	Now     string    `json:"now,omitempty"` // UUID
	Since   time.Time `json:"since,omitzero"`
}

// Repair is a step of the /perm ladder.
type Repair string

// The steps. Each is refused where it would lose something that a gentler one
// would keep, unless it is asked for again with the confirm suffix that the
// refusal names.
const (
	RepairRetry  Repair = "retry"  // try to mount read-write again
	RepairFormat Repair = "format" // make a new, empty file system: what was there is lost
)

// Response is one line of an answer.
type Response struct {
	Error  *Error  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"`
	Log    *Log    `json:"log,omitempty"`
	Done   bool    `json:"done,omitempty"` // an operation was carried out
}

// Code classes an error for programs.
type Code string

// The codes.
const (
	CodeDenied  Code = "denied"
	CodeInvalid Code = "invalid"
	CodeUnknown Code = "unknown-service"
	CodeState   Code = "wrong-state"
	CodeFailed  Code = "failed"
)

// Error is a refusal; it says what to do where it can.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// State is a service's state.
//
//	stopped ──start──▶ starting ──ready──▶ ready ◀──▶ unhealthy
//	   ▲                   │ exit            │ exit
//	   │ stop              ▼                 ▼
//	stopping ◀─────────  waiting (backoff) ──▶ starting
type State string

// The states.
const (
	StateStopped   State = "stopped"   // by an operator
	StateStarting  State = "starting"  // runs, not ready yet
	StateReady     State = "ready"     // runs and answers
	StateUnhealthy State = "unhealthy" // runs, but says why it cannot work, or does not answer
	StateWaiting   State = "waiting"   // exited, will be started at NextStart
	StateStopping  State = "stopping"
)

// Exit is how a process ended.
type Exit struct {
	At     time.Time `json:"at"`
	Code   int       `json:"code"`             // exit status; -1 by signal or never started
	Signal string    `json:"signal,omitempty"` // "killed"
	Reason string    `json:"reason"`           // one line for people
}

// Event is one line of a service's history.
type Event struct {
	At    time.Time `json:"at"`
	State State     `json:"state"`
	Text  string    `json:"text"`
}

// Service is a service as it stands.
type Service struct {
	Name      string        `json:"name"`
	Title     string        `json:"title"` // "zone controller"
	State     State         `json:"state"`
	Since     time.Time     `json:"since"` // of State
	PID       int           `json:"pid,omitempty"`
	Memory    int64         `json:"memory,omitempty"` // of the process alone in RAM, bytes
	Detail    string        `json:"detail,omitempty"` // the service's own words
	Essential bool          `json:"essential,omitempty"`
	Restarts  int           `json:"restarts"` // since boot, not counting those asked for
	CrashLoop bool          `json:"crashLoop,omitempty"`
	NextStart time.Time     `json:"nextStart,omitzero"`
	ReadyIn   time.Duration `json:"readyIn,omitempty"` // last start to ready, ns
	LastExit  *Exit         `json:"lastExit,omitempty"`
	Events    []Event       `json:"events,omitempty"` // oldest first
}

// PermState is how /perm is mounted.
type PermState string

// The rungs of the ladder.
const (
	PermReadWrite PermState = "read-write"
	PermReadOnly  PermState = "read-only" // salvage: what can be read is there, nothing is kept
	PermMissing   PermState = "missing"   // a RAM disk stands in; nothing is kept
)

// Perm is the persistent partition as it stands.
type Perm struct {
	State   PermState `json:"state"`
	Message string    `json:"message,omitempty"` // why it is not read-write, and what to do
	Size    int64     `json:"size,omitempty"`    // bytes
	Free    int64     `json:"free,omitempty"`    // bytes
}

// Status is the appliance as PID 1 sees it.
type Status struct {
	Version  string        `json:"version"`
	Kernel   string        `json:"kernel"`
	Hostname string        `json:"hostname"`
	Role     string        `json:"role"`
	NextRole string        `json:"nextRole,omitempty"` // from the next boot on, when it is another
	Slot     string        `json:"slot"`
	Firmware string        `json:"firmware"` // "bios" or "uefi"
	Booted   time.Time     `json:"booted"`
	BootTime time.Duration `json:"bootTime,omitempty"` // PID 1's start to every service ready, ns; 0 until then
	LastBoot string        `json:"lastBoot,omitempty"` // how the boot before this one ended, when not in order
	Watchdog string        `json:"watchdog"`           // "i6300ESB timer", or "none"
	Machine  Machine       `json:"machine"`
	Recovery bool          `json:"recovery"`       // config.json lets the console's holder reset the password
	Baud     int           `json:"baud,omitempty"` // of the serial line
	Perm     Perm          `json:"perm"`
	Services []Service     `json:"services"`
}

// Degraded reports whether an operator must act.
func (s *Status) Degraded() bool { return s.Perm.State != PermReadWrite }

// Log is one line that a service (or "init", "kernel") wrote.
type Log struct {
	Seq     uint64    `json:"seq"`
	At      time.Time `json:"at"`
	Service string    `json:"service"`
	Text    string    `json:"text"`
}

// Client asks PID 1.
type Client struct {
	Path string // of the socket
}

// Status returns the appliance's state.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var st *Status
	err := c.do(ctx, Request{Op: OpStatus}, func(r Response) error {
		st = r.Status
		return nil
	})
	if err != nil {
		return nil, err
	}
	if st == nil {
		return nil, errors.New("status: the answer was empty")
	}
	return st, nil
}

// Do asks for an operation and waits until it is carried out. For start and
// restart that is when the service is ready, for stop when it is gone.
func (c *Client) Do(ctx context.Context, req Request) error {
	done := false
	err := c.do(ctx, req, func(r Response) error {
		done = done || r.Done
		return nil
	})
	if err == nil && !done {
		err = fmt.Errorf("%s: the connection ended before it was done", req.Op)
	}
	return err
}

// Logs calls line for each line that req (Op is filled in) selects.
func (c *Client) Logs(ctx context.Context, req Request, line func(Log) error) error {
	req.Op = OpLogs
	return c.do(ctx, req, func(r Response) error {
		if r.Log == nil {
			return nil
		}
		return line(*r.Log)
	})
}

// do sends the request and calls each for every line of the answer that is no
// refusal. Where the connection breaks because ctx ended, it returns ctx's error.
func (c *Client) do(ctx context.Context, req Request, each func(Response) error) error {
	broken := func(err error) error {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("%s: %w", req.Op, err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Path)
	if err != nil {
		return broken(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	// PID 1 may refuse before it reads (too many connections), so that writing
	// fails: what it said is still there to be read.
	werr := json.NewEncoder(conn).Encode(req)
	sc := bufio.NewScanner(conn)
	sc.Buffer(make([]byte, 4096), MaxLine)
	for sc.Scan() {
		var r Response
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			return fmt.Errorf("%s: answer %.200q: %w", req.Op, sc.Bytes(), err)
		}
		if r.Error != nil {
			return r.Error
		}
		if err := each(r); err != nil {
			return err
		}
	}
	if werr != nil {
		return broken(werr)
	}
	switch err := sc.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("%s: a line of the answer is longer than %d bytes", req.Op, MaxLine)
	case err != nil:
		return broken(err)
	}
	return nil
}

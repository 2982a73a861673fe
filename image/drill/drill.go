// Package drill breaks the running appliance on purpose, so that whoever runs it
// can see it heal. A drill is asked for on the kernel's command line, which only
// the holder of the virtual machine's disk can change:
//
//	parley.drill=panic@10s          PID 1 panics 10 s after its start
//	parley.drill=hang@10s           PID 1 stops doing anything
//	parley.drill=stop:zctrl@10s     the service is stopped (SIGSTOP): it hangs
//	parley.drill=kill:zctrl:100@5s  the service is killed (SIGKILL) 100 times
//	parley.drill=kill:all:100@5s    every service is, one after the other
//
// What came of it is said on the consoles and in PID 1's log.
package drill

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Key is the parameter's name.
const Key = "parley.drill"

// Kind is what is broken.
type Kind string

// The kinds.
const (
	Panic Kind = "panic"
	Hang  Kind = "hang"
	Stop  Kind = "stop"
	Kill  Kind = "kill"
)

// All stands for every service in a drill of the kind Kill.
const All = "all"

// Bounds of a drill.
const (
	MaxRounds = 10000
	MaxAfter  = time.Hour
)

// Drill is what was asked for.
type Drill struct {
	Kind    Kind
	Service string        // Stop and Kill
	Rounds  int           // Kill
	After   time.Duration // from PID 1's start
}

var form = regexp.MustCompile(`^(?:(panic|hang)|(stop):([a-z][a-z0-9-]*)|(kill):([a-z][a-z0-9-]*):([0-9]{1,5}))@(.+)$`)

// Parse reads the parameter's value; "" is no drill.
func Parse(s string) (*Drill, error) {
	if s == "" {
		return nil, nil
	}
	m := form.FindStringSubmatch(s)
	if m == nil {
		return nil, fmt.Errorf("%s=%.100q: want panic@TIME, hang@TIME, stop:SERVICE@TIME or kill:SERVICE:ROUNDS@TIME", Key, s)
	}
	d := &Drill{Kind: Kind(m[1] + m[2] + m[4]), Service: m[3] + m[5]}
	if d.Kind == Kill {
		n, err := strconv.Atoi(m[6])
		if err != nil || n < 1 || n > MaxRounds {
			return nil, fmt.Errorf("%s=%.100q: %s rounds, want 1 to %d", Key, s, m[6], MaxRounds)
		}
		d.Rounds = n
	}
	after, err := time.ParseDuration(m[7])
	if err != nil || after <= 0 || after > MaxAfter {
		return nil, fmt.Errorf("%s=%.100q: time %.40q, want more than 0 and at most %v", Key, s, m[7], MaxAfter)
	}
	d.After = after
	return d, nil
}

package network

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Times between attempts to have the machine renamed.
const (
	nameRetryMin = time.Second
	nameRetryMax = time.Minute
)

// naming has PID 1 give the machine its name: the configured one, or else the
// image's. What a DHCP server proposes is shown, and not taken: an appliance
// must not be called something else because it is plugged in elsewhere.
type naming struct {
	init  *control.Client
	image string
	log   *slog.Logger
	next  chan string // the newest wish
}

// newNaming finds out the image's name. The first process of a boot still finds
// it in force and notes it in the file.
func newNaming(init *control.Client, file string, log *slog.Logger) *naming {
	n := &naming{init: init, log: log, next: make(chan string, 1)}
	if b, err := os.ReadFile(file); err == nil && netconfig.CheckName(string(b)) == nil {
		n.image = string(b)
		return n
	}
	name, err := os.Hostname()
	if err == nil {
		n.image = name
		err = os.WriteFile(file, []byte(name), 0o644)
	}
	if err != nil {
		log.Error("name of the image", "err", err)
	}
	return n
}

// Set has the machine called name, or what the image says. It does not wait.
func (n *naming) Set(name string) {
	select {
	case <-n.next: // the wish before this one is void
	default:
	}
	n.next <- cmp.Or(name, n.image)
}

// Run carries wishes out until ctx ends.
func (n *naming) Run(ctx context.Context) error {
	retry := time.NewTimer(0)
	retry.Stop()
	want, wait := "", nameRetryMin
	for {
		select {
		case <-ctx.Done():
			retry.Stop()
			return nil
		case want = <-n.next:
			wait = nameRetryMin
		case <-retry.C:
		}
		retry.Stop()
		have, err := os.Hostname()
		if err == nil && have == want || want == "" {
			continue
		}
		if err := n.init.Do(ctx, control.Request{Op: control.OpHostname, Hostname: want}); err != nil {
			if wait == nameRetryMin && ctx.Err() == nil {
				n.log.Warn("machine is not renamed yet", "name", want, "err", err)
			}
			retry.Reset(wait)
			wait = min(2*wait, nameRetryMax)
			continue
		}
		n.log.Info("machine is renamed", "from", have, "name", want)
	}
}

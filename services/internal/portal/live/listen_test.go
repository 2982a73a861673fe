package live

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// slow is a directory that takes a while for each configuration.
type slow struct {
	mu  sync.Mutex
	off map[string]bool // appliances
	n   int
}

func (d *slow) Identify(context.Context, *x509.Certificate) (Identity, error) {
	return Identity{}, ErrForeign
}
func (d *slow) Check(context.Context, string) error { return nil }
func (d *slow) Renew(context.Context, string, string, link.Renew) (link.Renewed, error) {
	return link.Renewed{}, nil
}

func (d *slow) Config(_ context.Context, appliance string) (link.Config, error) {
	time.Sleep(10 * time.Millisecond)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	if d.off[appliance] {
		return link.Config{}, ErrDisabled
	}
	return link.Config{}, nil
}

// An account that changes its zone of many appliances all the time does not hold
// up what another one's change has to do.
func TestListenToMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &slow{off: map[string]bool{"other": true}}
		s := New(Config{Directory: d, Revoked: "revoked", Changed: "changed"})
		add := func(appliance, zone string) *conn {
			c := &conn{s: s, id: Identity{Appliance: appliance, Zone: zone}, out: make(chan message, queueSize), bye: make(chan link.Bye, 1)}
			s.conns[appliance] = c
			return c
		}
		for i := range 100 {
			add(fmt.Sprint(i), "loud")
		}
		other := add("other", "quiet")
		notes := make(chan store.Note, 256)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.listen(ctx, &store.Subscription{C: notes}) }()
		for range 200 {
			notes <- store.Note{Topic: "changed", Payload: "loud"}
		}
		begin := time.Now()
		notes <- store.Note{Topic: "changed", Payload: "quiet"}
		if b := <-other.bye; b.Why != link.WhyDisabled || time.Since(begin) > 3*time.Second {
			t.Errorf("%q after %v", b.Why, time.Since(begin))
		}
		time.Sleep(10 * time.Second)
		if d.n > 4*101 {
			t.Errorf("%d configurations for %d notes of one zone", d.n, 200)
		}
		stop()
		<-done
	})
}

package carrier_test

import (
	"fmt"
	"testing"

	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/bus/placement"
	"github.com/parley-meet/parley/services/internal/carrier"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/signal"
)

// rig is a controller and a router on a real bus, with TLS between them. The
// router sends each frame back.
func rig(t testing.TB) (c *carrier.Controller, router string) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c"), 2)
	x := z.Enrol(link.Router, "r")
	told := z.Told(x.Appliance, k)
	m := z.Router(x, z.View(x, &told))
	bustest.Up(t, m, 1)
	var r *carrier.Router
	r = carrier.NewRouter(carrier.RouterConfig{
		Bus: m.Conn, Meet: func(carrier.Meet) {}, Cut: func(signal.Link) {}, End: func(string, uint64) {},
		Receive: func(l signal.Link, b []byte) { r.Write(l, b, false) },
	})
	c = carrier.NewController(carrier.ControllerConfig{Bus: k.Conn})
	m.Conn.Subscribe(carrier.Topic, r.Hear)
	k.Conn.Subscribe(carrier.Topic, c.Hear)
	bustest.Running(t, r.Run)
	bustest.Running(t, c.Run)
	bustest.Eventually(t, "the router hears the controller", func() bool {
		_, err := c.Process(t.Context(), x.Appliance)
		return err == nil
	})
	if err := r.Keep("m1", 1, meeting.Kept{}); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the controller knows what is kept", func() bool { return c.Knows("m1") })
	return c, x.Appliance
}

// A long frame goes there and back over the real bus, whole.
func TestBus(t *testing.T) {
	c, router := rig(t)
	back := make(chan int, 1)
	l, err := c.Open("m1", placement.Place{Router: router, Epoch: 1}, func(b []byte, _ bool) { back <- len(b) })
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, signal.MaxFrame} {
		if err := l.Send(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if got := <-back; got != n {
			t.Errorf("%d bytes came back, want %d", got, n)
		}
	}
}

// BenchmarkFrames sends frames to a router and back over the real bus, with as much
// under way as the bus holds.
func BenchmarkFrames(b *testing.B) {
	for _, size := range []int{200, 20_000} {
		b.Run(fmt.Sprint(size, "B"), func(b *testing.B) {
			c, router := rig(b)
			under := min(256, 1<<20/size)
			back := make(chan struct{}, under)
			l, err := c.Open("m1", placement.Place{Router: router, Epoch: 1}, func([]byte, bool) { back <- struct{}{} })
			if err != nil {
				b.Fatal(err)
			}
			frame := make([]byte, size)
			for range under {
				back <- struct{}{}
			}
			b.SetBytes(int64(2 * size))
			b.ResetTimer()
			for range b.N {
				<-back
				if err := l.Send(frame); err != nil {
					b.Fatal(err)
				}
			}
			for range under {
				<-back
			}
			b.ReportMetric(2*float64(b.N)/b.Elapsed().Seconds(), "frames/s")
			if n := c.Counts(); n.Lost > 0 {
				b.Errorf("lost %d", n.Lost)
			}
		})
	}
}

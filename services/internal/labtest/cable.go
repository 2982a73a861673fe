package labtest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Weather is what a network does to packets, each way. It is what sch_netem does
// with the same figures; that is not in every kernel.
type Weather struct {
	Delay   time.Duration
	Loss    float64 // share
	Reorder float64 // share that is not delayed, and so overtakes others
	Seed    uint64
}

// Cable joins two hosts by interfaces tun0 with the addresses, and is in the test's
// process. Its figures are read by Cable's methods.
type Cable struct {
	weather               atomic.Pointer[Weather]
	carried, lost, passed atomic.Uint64
}

// NewCable lays one.
func NewCable(a, b *Host, at, bt netip.Prefix, w Weather) *Cable {
	a.t.Helper()
	c := &Cable{}
	c.weather.Store(&w)
	left, right := a.tun(at), b.tun(bt)
	var work sync.WaitGroup
	work.Go(func() { c.carry(left, right, w.Seed) })
	work.Go(func() { c.carry(right, left, w.Seed+1) })
	a.t.Cleanup(func() {
		left.Close()
		right.Close()
		work.Wait()
	})
	return c
}

// Change changes the weather but its seed.
func (c *Cable) Change(w Weather) { c.weather.Store(&w) }

// Counts are packets: carried, lost on purpose, and those that overtook.
func (c *Cable) Counts() (carried, lost, overtook uint64) {
	return c.carried.Load(), c.lost.Load(), c.passed.Load()
}

// late is a packet on its way.
type late struct {
	b  []byte
	at time.Time
}

// cableQueue bounds what is on the way in one direction, packets: a second of
// 100 Mbit/s. More is dropped.
const cableQueue = 10_000

func (c *Cable) carry(from, to *os.File, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 9))
	way := make(chan late, cableQueue)
	var sender sync.WaitGroup
	sender.Go(func() {
		for p := range way {
			time.Sleep(time.Until(p.at))
			to.Write(p.b) // a host that is gone takes nothing
		}
	})
	defer sender.Wait()
	defer close(way)
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		w := c.weather.Load()
		if r.Float64() < w.Loss {
			c.lost.Add(1)
			continue
		}
		c.carried.Add(1)
		p := append([]byte(nil), b[:n]...)
		if w.Delay == 0 || r.Float64() < w.Reorder {
			c.passed.Add(1)
			to.Write(p)
			continue
		}
		select {
		case way <- late{p, time.Now().Add(w.Delay)}:
		default:
			c.lost.Add(1)
		}
	}
}

// tun makes the interface tun0 with an address, set up.
func (h *Host) tun(a netip.Prefix) *os.File {
	h.t.Helper()
	var f *os.File
	h.Must(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("/dev/net/tun: %w", err)
		}
		r, err := unix.NewIfreq("tun0")
		if err != nil {
			return err
		}
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
			unix.Close(fd)
			return fmt.Errorf("tun0: %w", err)
		}
		f = os.NewFile(uintptr(fd), "tun0")
		if err := up("tun0"); err != nil {
			return err
		}
		return assign("tun0", []netip.Prefix{a})
	})
	return f
}

package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/parley-meet/parley/internal/localsocket"
)

// Bounds of connections to the socket.
const (
	maxPeers   = 8
	maxPerPeer = 4
	maxBoot    = 64 // characters
	// settle gathers changes of the state that come together.
	settle = 20 * time.Millisecond
)

// Serve tells processes of this machine what the appliance knows of its zone, and
// takes their events and usage, until ctx ends. It makes the socket for its owner
// and its folder's group; peers are the user ids that it answers beside the own
// one, for what it says are the appliance's keys. The connector's token is not
// told. An error is that the socket cannot be made.
func (m *Member) Serve(ctx context.Context, path string, peers ...uint32) error {
	l, err := localsocket.Listen(path, localsocket.KeepGroup)
	if err != nil {
		return fmt.Errorf("member: socket %s: %w", path, err)
	}
	bounds := &localsocket.Bounds{Total: maxPeers, PerUser: maxPerPeer}
	seen := &seen{last: map[string]uint64{}}
	localsocket.Serve(ctx, l, m.cfg.Log, func(c *net.UnixConn) {
		defer c.Close()
		who, err := localsocket.Peer(c)
		if err != nil {
			m.cfg.Log.Warn("zone socket", "error", err)
			return
		}
		if own := uint32(os.Getuid()); who.Uid != own && !slices.Contains(peers, who.Uid) {
			m.cfg.Log.Warn("zone socket: refused", "user", who.Uid, "process", who.Pid)
			return
		}
		if !bounds.Enter(who.Uid) {
			m.cfg.Log.Warn("zone socket: too many connections", "user", who.Uid, "process", who.Pid)
			return
		}
		defer bounds.Leave(who.Uid)
		if err := m.answer(ctx, c, seen); err != nil && ctx.Err() == nil {
			m.cfg.Log.Warn("zone socket: closed", "user", who.Uid, "process", who.Pid, "error", err)
		}
	})
	return nil
}

// answer is one connection.
func (m *Member) answer(ctx context.Context, c net.Conn, seen *seen) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Whatever ends first ends the connection, and with it the other one.
	defer context.AfterFunc(ctx, func() { c.Close() })()
	in := newLines(c, maxUp)
	if err := c.SetReadDeadline(time.Now().Add(helloLimit)); err != nil {
		return err
	}
	var first up
	if err := in.next(&first); err != nil {
		return err
	}
	if first.Hello == nil || first.Hello.Boot == "" || len(first.Hello.Boot) > maxBoot {
		return errors.New("it does not say who it is")
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	var writing sync.Mutex
	tell := func(d down) error {
		writing.Lock()
		defer writing.Unlock()
		return say(c, d)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer cancel()
		changed, stop := m.Watch()
		defer stop()
		for {
			s := m.State()
			s.Settings.Token = ""
			if err := tell(down{State: &s}); err != nil {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			select {
			case <-time.After(settle):
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		var u up
		if err := in.next(&u); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		switch {
		case u.Usage != nil:
			m.Report(*u.Usage)
		case u.Event != nil:
			e := *u.Event
			if seen.new(first.Hello.Boot, e.Number) {
				if err := m.event(e.Name, e.Data, e.At); errors.Is(err, ErrAway) {
					m.cfg.Log.Warn("an event is lost: the appliance is in no zone", "name", clip(e.Name))
				} else if err != nil {
					return err
				}
			}
			if err := tell(down{Taken: e.Number}); err != nil {
				return err
			}
		default:
			// A newer router may say more; what is not understood is passed over.
		}
	}
}

// seen knows which events were taken, by the start of the process that says them.
type seen struct {
	mu   sync.Mutex
	last map[string]uint64
	boot []string // of last, the oldest first
}

// new reports whether an event was not seen before, and notes it.
func (s *seen) new(boot string, number uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	had, ok := s.last[boot]
	if number <= had {
		return false
	}
	if !ok {
		if s.boot = append(s.boot, boot); len(s.boot) > 2*maxPeers {
			delete(s.last, s.boot[0])
			s.boot = s.boot[1:]
		}
	}
	s.last[boot] = number
	return true
}

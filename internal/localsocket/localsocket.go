// Package localsocket is the part of a server on a unix stream socket that does
// not depend on what is said there: the socket's file, the loop that accepts,
// who is at the other end, and how many connections one user may hold.
package localsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// KeepGroup leaves the socket to the group that its folder gives it.
const KeepGroup = -1

// Listen makes the socket, for its owner and the group to use. What stood at
// path, the socket of a process before, is removed.
func Listen(path string, group int) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if group != KeepGroup {
		err = os.Chown(path, -1, group)
	}
	if err := errors.Join(err, os.Chmod(path, 0o660)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Serve accepts until ctx ends, calls handle for each connection in a goroutine
// of its own, and returns when every call has. handle closes the connection.
func Serve(ctx context.Context, l *net.UnixListener, log *slog.Logger, handle func(*net.UnixConn)) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return
		}
		if err != nil {
			// Out of descriptors or memory: it passes, or the next try fails too.
			log.Error("socket", "path", l.Addr().String(), "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return
			}
		}
		wg.Go(func() { handle(c) })
	}
}

// Peer asks the kernel who is at the other end (SO_PEERCRED, unix(7)).
func Peer(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var err2 error
	if err := raw.Control(func(fd uintptr) {
		cred, err2 = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	if err2 != nil {
		return nil, fmt.Errorf("SO_PEERCRED: %w", err2)
	}
	return cred, nil
}

// Bounds is how many connections there may be. The zero value lets nobody in.
type Bounds struct {
	Total   int // at once
	PerUser int // of them, so that one user does not lock the others out

	mu    sync.Mutex
	conns map[uint32]int // by user
	now   int
}

// Enter counts a connection of the user in, if there is room. Leave must follow.
func (b *Bounds) Enter(uid uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now >= b.Total || b.conns[uid] >= b.PerUser {
		return false
	}
	if b.conns == nil {
		b.conns = make(map[uint32]int)
	}
	b.now++
	b.conns[uid]++
	return true
}

// Leave counts it out.
func (b *Bounds) Leave(uid uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now--
	if b.conns[uid]--; b.conns[uid] == 0 {
		delete(b.conns, uid)
	}
}

// Now returns how many there are.
func (b *Bounds) Now() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

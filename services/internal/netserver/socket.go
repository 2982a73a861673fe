package netserver

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netclient"
)

// Bounds of the socket: connections at once, of which one user has at most
// maxPerUser so that one console does not lock the other out, and how long a
// caller may take for his line and for reading the answer.
const (
	maxConns   = 32
	maxPerUser = 16
	readLimit  = 5 * time.Second
	writeLimit = 10 * time.Second
)

// refusal is an error with its class.
type refusal struct {
	code netclient.Code
	error
}

func (r *refusal) Unwrap() error { return r.error }

// Listen makes the socket. Its folder is setgid, so that it is the consoles'
// group's; the kernel lets nobody else connect.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Server answers on the socket.
type Server struct {
	Service *Service

	readLimit time.Duration // 0: the constant; shorter in tests

	mu    sync.Mutex
	conns map[uint32]int // by user
	total int
}

// Serve accepts until ctx ends, and returns when every answer has ended.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			// Out of descriptors or memory: it passes, or the next try fails too.
			s.Service.cfg.Log.Error("socket", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		wg.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now()) })()
			r := s.handle(ctx, c)
			if err := send(c, r); err != nil {
				s.Service.cfg.Log.Warn("answer was not taken", "err", err)
			}
		})
	}
}

// handle reads one request and carries it out. A caller that hangs up does not
// end what it asked for: a change of the address cuts it off.
func (s *Server) handle(ctx context.Context, c *net.UnixConn) netclient.Response {
	uid, err := user(c)
	if err != nil {
		return answer(nil, err)
	}
	if !s.enter(uid) {
		return answer(nil, &refusal{netclient.CodeBusy, errors.New("too many connections at once: try again")})
	}
	defer s.leave(uid)
	limit := cmp.Or(s.readLimit, readLimit)
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return answer(nil, err)
	}
	line, err := bufio.NewReaderSize(io.LimitReader(c, netclient.MaxLine+1), netclient.MaxLine+1).ReadSlice('\n')
	if err != nil { // half a wish is not carried out
		return answer(nil, &refusal{netclient.CodeInvalid, fmt.Errorf("want one line of at most %d bytes within %v", netclient.MaxLine, limit)})
	}
	req, err := netclient.ParseRequest(line)
	if err != nil {
		return answer(nil, &refusal{netclient.CodeInvalid, err})
	}
	if err := s.Service.do(ctx, req); err != nil {
		s.Service.cfg.Log.Warn("request is refused", "op", req.Op, "by", req.By, "uid", uid, "err", err)
		return answer(nil, err)
	}
	return answer(s.Service.Status(), nil)
}

// do carries a request out.
func (s *Service) do(ctx context.Context, req netclient.Request) error {
	switch req.Op {
	case netclient.OpSet:
		return s.set(ctx, req)
	case netclient.OpConfirm:
		return s.confirm(ctx, req.ID)
	case netclient.OpRevert:
		return s.revert(ctx, req.ID)
	case netclient.OpSync:
		ctx, cancel := context.WithTimeout(ctx, syncLimit)
		defer cancel()
		return s.cfg.Clock.Sync(ctx)
	}
	return nil // OpStatus
}

func answer(st *netclient.Status, err error) netclient.Response {
	if err == nil {
		return netclient.Response{Status: st}
	}
	r := netclient.Response{Error: err.Error(), Code: netclient.CodeFailed, Faults: fault.Of(err)}
	var ref *refusal
	switch {
	case errors.As(err, &ref):
		r.Code = ref.code
	case r.Faults != nil:
		r.Code = netclient.CodeInvalid
	}
	return r
}

func send(c *net.UnixConn, r netclient.Response) error {
	b, err := json.Marshal(r)
	if err == nil && len(b) >= netclient.MaxLine {
		err = fmt.Errorf("the answer has %d bytes, at most %d fit", len(b), netclient.MaxLine-1)
	}
	if err != nil {
		b, _ = json.Marshal(answer(nil, err))
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	_, err = c.Write(append(b, '\n'))
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil // he is gone: nobody to tell
	}
	return err
}

// user asks the kernel who is at the other end.
func user(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var err2 error
	if err := raw.Control(func(fd uintptr) {
		cred, err2 = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if err2 != nil {
		return 0, fmt.Errorf("SO_PEERCRED: %w", err2)
	}
	return cred.Uid, nil
}

func (s *Server) enter(uid uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= maxConns || s.conns[uid] >= maxPerUser {
		return false
	}
	if s.conns == nil {
		s.conns = make(map[uint32]int)
	}
	s.total++
	s.conns[uid]++
	return true
}

func (s *Server) leave(uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.conns[uid]--; s.conns[uid] == 0 {
		delete(s.conns, uid)
	}
}

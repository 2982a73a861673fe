package netserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/internal/localsocket"
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
	return localsocket.Listen(path, localsocket.KeepGroup)
}

// Server answers on the socket. Make it with NewServer.
type Server struct {
	service *Service
	bounds  localsocket.Bounds

	readLimit time.Duration // shorter in tests
}

// NewServer returns a server for the service.
func NewServer(s *Service) *Server {
	return &Server{service: s, bounds: localsocket.Bounds{Total: maxConns, PerUser: maxPerUser}, readLimit: readLimit}
}

// Serve accepts until ctx ends, and returns when every answer has ended.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	localsocket.Serve(ctx, l, s.service.cfg.Log, func(c *net.UnixConn) {
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now()) })()
		r := s.handle(ctx, c)
		if err := send(c, r); err != nil {
			s.service.cfg.Log.Warn("answer was not taken", "err", err)
		}
	})
	return nil
}

// handle reads one request and carries it out. A caller that hangs up does not
// end what it asked for: a change of the address cuts it off.
func (s *Server) handle(ctx context.Context, c *net.UnixConn) netclient.Response {
	who, err := localsocket.Peer(c)
	if err != nil {
		return answer(nil, err)
	}
	uid := who.Uid
	if !s.bounds.Enter(uid) {
		return answer(nil, &refusal{netclient.CodeBusy, errors.New("too many connections at once: try again")})
	}
	defer s.bounds.Leave(uid)
	if err := c.SetReadDeadline(time.Now().Add(s.readLimit)); err != nil {
		return answer(nil, err)
	}
	line, err := bufio.NewReaderSize(io.LimitReader(c, netclient.MaxLine+1), netclient.MaxLine+1).ReadSlice('\n')
	if err != nil { // half a wish is not carried out
		return answer(nil, &refusal{netclient.CodeInvalid, fmt.Errorf("want one line of at most %d bytes within %v", netclient.MaxLine, s.readLimit)})
	}
	req, err := netclient.ParseRequest(line)
	if err != nil {
		return answer(nil, &refusal{netclient.CodeInvalid, err})
	}
	if err := s.service.do(ctx, req); err != nil {
		s.service.cfg.Log.Warn("request is refused", "op", req.Op, "by", req.By, "uid", uid, "err", err)
		return answer(nil, err)
	}
	return answer(s.service.Status(), nil)
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

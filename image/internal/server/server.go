// Package server answers on PID 1's control socket (package control is the
// contract).
//
// Limits: maxConns connections at once, of which one user has at most maxPerUser
// so that one console cannot lock the other out; the request must arrive within
// readLimit; each line of the answer must be taken within writeLimit; a request
// is strict JSON of at most maxRequest bytes.
package server

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/ring"
	"github.com/parley-meet/parley/internal/localsocket"
)

const (
	maxConns   = 48
	maxPerUser = 16
	maxRequest = 4 << 10
	readLimit  = 5 * time.Second
	writeLimit = 10 * time.Second
)

// System is what the socket's callers get at.
type System interface {
	Status() *control.Status
	// Do carries out an operation other than status and logs. Errors are
	// *control.Error, or the context's.
	Do(ctx context.Context, req control.Request) error
}

// Caller is who asks.
type Caller struct {
	UID  uint32
	PID  int32
	Name string // of the service, "root", or "" for a stranger
}

// Server serves.
type Server struct {
	System   System
	Ring     *ring.Ring
	Services []config.Service
	Log      *slog.Logger
	Guard    func(func()) func() // wraps the top of a goroutine; nil: not
	// Synced is called when a service with the right clock has moved the clock:
	// it follows time servers. nil: not.
	Synced func()

	readLimit, writeLimit time.Duration // 0: the constants; shorter in tests

	once   sync.Once
	bounds localsocket.Bounds
	denied denials
}

// Listen makes the socket: root's, and the group's to use. Which of the group
// may do what is decided for each caller.
func Listen(path string, group int) (*net.UnixListener, error) {
	return localsocket.Listen(path, group)
}

// Serve accepts until ctx ends, and returns when every answer has ended.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	localsocket.Serve(ctx, l, s.Log, func(c *net.UnixConn) {
		handle := func() { s.handle(ctx, c) }
		if s.Guard != nil {
			handle = s.Guard(handle)
		}
		handle()
	})
	return nil
}

func (s *Server) handle(ctx context.Context, c *net.UnixConn) {
	defer c.Close()
	who, err := s.caller(c)
	if err != nil {
		s.Log.Error("control socket", "error", err)
		return
	}
	w := &answer{conn: c, limit: cmp.Or(s.writeLimit, writeLimit)}
	if !s.enter(who.UID) {
		_ = w.fail(&control.Error{Code: control.CodeState, Message: "too many connections at once: try again"})
		return
	}
	defer s.leave(who.UID)
	if err := c.SetReadDeadline(time.Now().Add(cmp.Or(s.readLimit, readLimit))); err != nil {
		return
	}
	line, err := bufio.NewReaderSize(io.LimitReader(c, maxRequest+1), maxRequest+1).ReadSlice('\n')
	// A caller that ends before its line does may have been cut off: half a wish
	// is not carried out.
	if err != nil {
		_ = w.fail(refuse(control.CodeInvalid, "request: want one line of at most %d bytes within %v", maxRequest, readLimit))
		return
	}
	req, err := ParseRequest(line)
	if err != nil {
		_ = w.fail(refuse(control.CodeInvalid, "%v", err))
		return
	}
	// A caller that hangs up, be it for its direction alone, ends what it waits
	// for.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_ = c.SetReadDeadline(time.Time{})
	go func() {
		_, _ = io.Copy(io.Discard, c)
		cancel()
	}()
	if err := s.answer(ctx, w, who, req); err != nil {
		var refusal *control.Error
		if !errors.As(err, &refusal) {
			refusal = refuse(control.CodeFailed, "%s: %v", req.Op, err)
		}
		_ = w.fail(refusal) // the caller is gone: nobody to tell
	}
}

// answer carries out the request.
func (s *Server) answer(ctx context.Context, w *answer, who Caller, req control.Request) error {
	if err := s.allowed(who, req.Op); err != nil {
		if left, write := s.denied.count(who.UID, time.Now()); write {
			s.Log.Warn("control: denied", "op", req.Op, "caller", who.Name, "uid", who.UID, "pid", who.PID, "left-out-before", left)
		}
		return err
	}
	switch req.Op {
	case control.OpStatus:
		return w.status(s.System.Status())
	case control.OpLogs:
		return s.logs(ctx, w, req)
	}
	// The clock is adjusted for as long as the machine runs; who steps it says so.
	level := slog.LevelInfo
	if req.Op == control.OpClock {
		level = slog.LevelDebug
	}
	s.Log.Log(ctx, level, "control", "op", req.Op, "service", req.Service, "repair", string(req.Repair), "role", req.Role, "identity", string(req.Identity), "caller", who.Name, "pid", who.PID)
	if err := s.System.Do(ctx, req); err != nil {
		s.Log.Warn("control", "op", req.Op, "service", req.Service, "error", err)
		return err
	}
	if req.Op == control.OpClock && s.right(who) == config.ControlClock && s.Synced != nil {
		s.Synced()
	}
	return w.line(control.Response{Done: true})
}

func (s *Server) logs(ctx context.Context, w *answer, req control.Request) error {
	if !req.Follow {
		for _, l := range s.Ring.Lines(req.Service, req.Lines) {
			if err := w.line(control.Response{Log: &l}); err != nil {
				return err
			}
		}
		return nil
	}
	past, f := s.Ring.Follow(req.Service, req.Lines)
	defer f.Close()
	for _, l := range past {
		if err := w.line(control.Response{Log: &l}); err != nil {
			return err
		}
	}
	for {
		select {
		case l := <-f.C:
			if err := w.line(control.Response{Log: &l}); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// caller asks the kernel who is at the other end.
func (s *Server) caller(c *net.UnixConn) (Caller, error) {
	cred, err := localsocket.Peer(c)
	if err != nil {
		return Caller{}, err
	}
	who := Caller{UID: cred.Uid, PID: cred.Pid}
	if cred.Uid == 0 {
		who.Name = "root"
	}
	for i := range s.Services {
		if s.Services[i].User.ID == cred.Uid {
			who.Name = s.Services[i].Name
		}
	}
	return who, nil
}

// allowed checks the caller's right in config.json. Root has every right: it
// could take them anyway.
func (s *Server) allowed(who Caller, op control.Op) error {
	right := s.right(who)
	enough := []string{config.ControlOperate}
	switch op {
	case control.OpRepair:
	case control.OpHostname:
		// It comes from the network's saved state or its DHCP server, and would
		// be set anew by the next lease.
		enough = []string{config.ControlClock}
	case control.OpClock:
		enough = append(enough, config.ControlManage, config.ControlClock)
	case control.OpReboot, control.OpPowerOff, control.OpRole, control.OpReset, control.OpIdentity:
		enough = append(enough, config.ControlManage)
	case control.OpStart, control.OpStop, control.OpRestart:
		enough = append(enough, config.ControlManage, config.ControlServices)
	case control.OpStatus, control.OpLogs:
		enough = append(enough, config.ControlManage, config.ControlServices, config.ControlRead)
	}
	if who.UID == 0 || slices.Contains(enough, right) {
		return nil
	}
	return refuse(control.CodeDenied, "%s: user %d has no right to it", op, who.UID)
}

// right returns the caller's in config.json.
func (s *Server) right(who Caller) string {
	for i := range s.Services {
		if s.Services[i].User.ID == who.UID {
			return s.Services[i].Control
		}
	}
	return ""
}

func (s *Server) enter(uid uint32) bool {
	s.once.Do(func() { s.bounds.Total, s.bounds.PerUser = maxConns, maxPerUser })
	return s.bounds.Enter(uid)
}

func (s *Server) leave(uid uint32) { s.bounds.Leave(uid) }

// maxLines bounds Request.Lines.
const maxLines = 1 << 20

// ParseRequest reads a request strictly, and checks that it has the fields that
// its operation takes and no others.
func ParseRequest(line []byte) (control.Request, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	var r control.Request
	if err := dec.Decode(&r); err != nil {
		return control.Request{}, fmt.Errorf("request: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return control.Request{}, fmt.Errorf("request: more than one value")
	}
	var want control.Request
	switch r.Op {
	case control.OpStatus, control.OpReboot, control.OpPowerOff, control.OpReset:
	case control.OpLogs:
		want.Service, want.Lines, want.Follow = r.Service, r.Lines, r.Follow
		if r.Lines < 0 || r.Lines > maxLines {
			return control.Request{}, fmt.Errorf("request: lines %d: want 0 to %d", r.Lines, maxLines)
		}
	case control.OpStart, control.OpStop, control.OpRestart:
		if want.Service = r.Service; r.Service == "" {
			return control.Request{}, fmt.Errorf("request: %s of which service?", r.Op)
		}
	case control.OpRepair:
		if want.Repair = r.Repair; r.Repair == "" {
			return control.Request{}, fmt.Errorf("request: repair by which step?")
		}
	case control.OpRole:
		if want.Role = r.Role; r.Role == "" {
			return control.Request{}, fmt.Errorf("request: which role?")
		}
	case control.OpIdentity:
		if want.Identity = r.Identity; r.Identity != control.IdentitySame && r.Identity != control.IdentityCopy {
			return control.Request{}, fmt.Errorf("request: identity %.40q: want %q or %q", r.Identity, control.IdentitySame, control.IdentityCopy)
		}
	case control.OpClock:
		if want.Clock = r.Clock; r.Clock == nil {
			return control.Request{}, fmt.Errorf("request: clock by how much?")
		}
	case control.OpHostname:
		if want.Hostname = r.Hostname; r.Hostname == "" {
			return control.Request{}, fmt.Errorf("request: which hostname?")
		}
	default:
		return control.Request{}, fmt.Errorf("request: unknown operation %.40q", r.Op)
	}
	if want.Op = r.Op; want != r {
		return control.Request{}, fmt.Errorf("request: %s has fields that it does not take", r.Op)
	}
	return r, nil
}

func refuse(code control.Code, format string, args ...any) *control.Error {
	return &control.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// answer writes the lines of one answer.
type answer struct {
	conn  *net.UnixConn
	limit time.Duration // for each line
}

// status writes a status. When it does not fit into a line, the services' older
// events are left out: what services say can be long, and a console without a
// status could not even show that.
func (a *answer) status(st *control.Status) error {
	for {
		b, err := json.Marshal(control.Response{Status: st})
		if err != nil {
			return err
		}
		left := 0
		for i := range st.Services {
			left += len(st.Services[i].Events)
		}
		if len(b) < control.MaxLine || left == 0 {
			return a.line(control.Response{Status: st})
		}
		short := *st
		short.Services = slices.Clone(st.Services)
		for i := range short.Services {
			e := &short.Services[i].Events
			*e = (*e)[(len(*e)+1)/2:]
		}
		st = &short
	}
}

func (a *answer) line(r control.Response) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(b) >= control.MaxLine {
		return refuse(control.CodeFailed, "the answer has %d bytes, at most %d fit", len(b), control.MaxLine)
	}
	// A caller that does not read must not keep a goroutine for ever.
	if err := a.conn.SetWriteDeadline(time.Now().Add(a.limit)); err != nil {
		return err
	}
	_, err = a.conn.Write(append(b, '\n'))
	return err
}

func (a *answer) fail(e *control.Error) error { return a.line(control.Response{Error: e}) }

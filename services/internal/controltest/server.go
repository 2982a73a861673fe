// Package controltest is a PID 1 for tests: it serves the control socket's
// contract from memory and records what it was asked.
package controltest

import (
	"bufio"
	"encoding/json"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
)

// Server is a fake PID 1.
type Server struct {
	Path string // of its socket

	mu     sync.Mutex
	status control.Status
	asked  []control.Request
	refuse map[control.Op]*control.Error
	logs   []control.Log
	follow []chan control.Log
}

// New starts a server for the test's duration with two services, running.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{Path: filepath.Join(t.TempDir(), "init.sock"), refuse: map[control.Op]*control.Error{}}
	now := time.Now()
	s.status = control.Status{
		Version: "1.2.3", Kernel: "7.1.0", Hostname: "parley", Role: "controller", Slot: "a", Firmware: "bios",
		Booted: now.Add(-90 * time.Minute), BootTime: 420 * time.Millisecond, Watchdog: "i6300ESB timer",
		Perm: control.Perm{State: control.PermReadWrite, Size: 1200 << 20, Free: 900 << 20},
		Services: []control.Service{
			{Name: "network", Title: "network", State: control.StateReady, Since: now.Add(-90 * time.Minute), PID: 101, Essential: true, Detail: "eth0 10.0.2.15"},
			{Name: "console-serial", Title: "serial console", State: control.StateReady, Since: now.Add(-90 * time.Minute), PID: 102, Essential: true},
			{Name: "console-web", Title: "web console", State: control.StateReady, Since: now.Add(-90 * time.Minute), PID: 103, Essential: true},
			{Name: "zctrl", Title: "zone controller", State: control.StateReady, Since: now.Add(-90 * time.Minute), PID: 104, Detail: "not configured"},
			{Name: "mmr", Title: "multimedia router", State: control.StateReady, Since: now.Add(-4 * time.Minute), PID: 212, Restarts: 1, Detail: "not configured",
				LastExit: &control.Exit{At: now.Add(-4 * time.Minute), Code: -1, Signal: "killed", Reason: "killed by signal 9"}},
		},
	}
	for i, text := range []string{"started", "not configured: waiting for a token"} {
		s.logs = append(s.logs, control.Log{Seq: uint64(i + 1), At: now, Service: "zctrl", Text: text})
	}
	l, err := net.Listen("unix", s.Path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, f := range s.follow {
			close(f)
		}
		s.follow = nil
		s.mu.Unlock()
		wg.Wait()
	})
	return s
}

// Client returns a client of the server.
func (s *Server) Client() *control.Client { return &control.Client{Path: s.Path} }

// Change changes the status.
func (s *Server) Change(f func(*control.Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Services = slices.Clone(s.status.Services)
	f(&s.status)
}

// Refuse makes an operation fail; a nil err lets it pass again.
func (s *Server) Refuse(op control.Op, err *control.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse[op] = err
}

// Log adds a line to the log and sends it to whoever follows.
func (s *Server) Log(service, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := control.Log{Seq: uint64(len(s.logs) + 1), At: time.Now(), Service: service, Text: text}
	s.logs = append(s.logs, l)
	for _, f := range s.follow {
		select {
		case f <- l:
		default: // a reader that does not read misses lines
		}
	}
}

// Following returns how many callers follow the log.
func (s *Server) Following() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.follow)
}

// Asked returns the requests other than status and logs.
func (s *Server) Asked() []control.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *Server) serve(c net.Conn) {
	defer c.Close()
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		return
	}
	var req control.Request
	enc := json.NewEncoder(c)
	if err := json.Unmarshal(line, &req); err != nil {
		enc.Encode(control.Response{Error: &control.Error{Code: control.CodeInvalid, Message: err.Error()}})
		return
	}
	s.mu.Lock()
	if req.Op != control.OpStatus && req.Op != control.OpLogs {
		s.asked = append(s.asked, req)
	}
	refusal, st := s.refuse[req.Op], s.status
	s.mu.Unlock()
	known := req.Service == "" || slices.ContainsFunc(st.Services, func(v control.Service) bool { return v.Name == req.Service })
	switch {
	case refusal != nil:
		enc.Encode(control.Response{Error: refusal})
	case !known:
		enc.Encode(control.Response{Error: &control.Error{Code: control.CodeUnknown, Message: "no service of that name"}})
	case req.Op == control.OpStatus:
		enc.Encode(control.Response{Status: &st})
	case req.Op == control.OpLogs:
		s.serveLogs(c, enc, req)
	default:
		enc.Encode(control.Response{Done: true})
	}
}

func (s *Server) serveLogs(c net.Conn, enc *json.Encoder, req control.Request) {
	s.mu.Lock()
	var past []control.Log
	for _, l := range s.logs {
		if req.Service == "" || req.Service == l.Service {
			past = append(past, l)
		}
	}
	if req.Lines > 0 && len(past) > req.Lines {
		past = past[len(past)-req.Lines:]
	}
	news := make(chan control.Log, 64)
	if req.Follow {
		s.follow = append(s.follow, news)
	}
	s.mu.Unlock()
	for _, l := range past {
		enc.Encode(control.Response{Log: &l})
	}
	if !req.Follow {
		return
	}
	gone := make(chan struct{})
	go func() { // ends with the connection
		defer close(gone)
		c.Read(make([]byte, 1))
	}()
	for {
		select {
		case l, ok := <-news:
			if !ok {
				return
			}
			if req.Service == "" || req.Service == l.Service {
				enc.Encode(control.Response{Log: &l})
			}
		case <-gone:
			s.mu.Lock()
			s.follow = slices.DeleteFunc(s.follow, func(f chan control.Log) bool { return f == news })
			s.mu.Unlock()
			return
		}
	}
}

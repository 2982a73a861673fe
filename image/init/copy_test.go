package main

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/supervisor"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
)

// starter starts services that are ready at once and end when they are told to;
// last is called then.
type starter struct {
	mu      sync.Mutex
	started []string
	last    func(name string)
}

func (s *starter) Start(c *config.Service) (supervisor.Process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = append(s.started, c.Name)
	p := &service{name: c.Name, of: s, messages: make(chan liveness.Message, 1), exited: make(chan supervisor.Exit, 1)}
	p.messages <- liveness.Message{Ready: true}
	return p, nil
}

func (s *starter) times(name string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, started := range s.started {
		if started == name {
			n++
		}
	}
	return n
}

type service struct {
	name     string
	of       *starter
	messages chan liveness.Message
	exited   chan supervisor.Exit
	once     sync.Once
}

func (p *service) PID() int                          { return 1 }
func (p *service) Messages() <-chan liveness.Message { return p.messages }
func (p *service) Ping(uint64) error                 { return nil }
func (p *service) Exited() <-chan supervisor.Exit    { return p.exited }
func (p *service) Close()                            {}

func (p *service) Signal(sig syscall.Signal) error {
	if sig == syscall.SIGTERM {
		p.once.Do(func() {
			p.of.last(p.name)
			p.exited <- supervisor.Exit{}
		})
	}
	return nil
}

// After the answer "copy" the services that had something of what is unique start
// anew without it, even when they wrote it once more as they ended; one that was
// stopped stays so; and those that were held start.
func TestCopyRestarts(t *testing.T) {
	m := cloned(t)
	lease, key := layout.PermDir+"/network/lease.json", layout.PermDir+"/console-web/key.pem"
	s := &starter{last: func(name string) {
		for service, path := range map[string]string{"network": lease, "console-web": key} {
			if name == service {
				_ = os.WriteFile(path, []byte("again"), 0o600)
			}
		}
	}}
	list := []config.Service{{Name: "network"}, {Name: "console-web"}, {Name: "console-serial"}, {Name: "zctrl", Unique: true}, {Name: "mmr", Unique: true}}
	m.supervisor = supervisor.New(supervisor.Options{Services: list, Starter: s, Log: m.log, Jitter: rand.Float64, Held: m.held})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.supervisor.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	<-m.supervisor.AllReady()
	if got := m.supervisor.Held(); !slices.Equal(got, []string{"zctrl", "mmr"}) {
		t.Fatalf("held are %q", got)
	}
	if err := m.Do(ctx, control.Request{Op: control.OpStart, Service: "mmr"}); err == nil || !strings.Contains(err.Error(), "mmr is held: this machine may be a copy") {
		t.Errorf("start of a held one: %v", err)
	}
	if err := m.Do(ctx, control.Request{Op: control.OpIdentity, Identity: control.IdentityCopy}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); s.times("zctrl") == 0 || s.times("mmr") == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("started were %q", s.started)
		}
	}
	for name, want := range map[string]int{"network": 2, "console-web": 2, "console-serial": 1, "zctrl": 1, "mmr": 1} {
		if n := s.times(name); n != want {
			t.Errorf("%s was started %d times, want %d", name, n, want)
		}
	}
	for _, path := range []string{lease, key} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s: %v, want it gone", path, err)
		}
	}
}

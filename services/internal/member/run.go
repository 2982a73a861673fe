package member

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"time"

	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/zonecert"
)

// session is a link that is held.
type session struct {
	path    string // of its credentials
	client  *link.Client
	cancel  context.CancelFunc
	done    chan struct{}
	asked   string    // signing request that was sent, and on which connection
	askedOn time.Time // Connection.Since
	revoked bool
}

// loop is what Run works with, alone.
type loop struct {
	m        *Member
	known    bool // the settings have been read once
	fell     bool // it was looked for what there was before the start
	absent   bool // there is no file of them
	settings connector.Settings
	unread   *fault.Fault // why the settings cannot be read
	trouble  *fault.Fault // why there is no membership, though nothing waits for the portal
	join     enrolment
	link     *session
	request  request // for browsers
}

// Run keeps the membership until ctx ends; it returns nil then. An error is one
// that a restart alone may cure: the own folder is not there.
func (m *Member) Run(ctx context.Context) error {
	if info, err := os.Stat(m.cfg.Dir); err != nil || !info.IsDir() {
		return fmt.Errorf("member: own folder %s: %w", m.cfg.Dir, errors.Join(err, fs.ErrNotExist))
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{m: m, settings: connector.New()}
	defer m.tasks.Wait()
	defer l.stop() // what is shown stays: the router goes on while this process restarts
	defer cancel()
	tick := time.NewTicker(m.poll)
	defer tick.Stop()
	for {
		l.step(ctx, time.Now())
		select {
		case <-tick.C:
		case <-m.wake:
		case o := <-m.outcomes:
			l.outcome(o, time.Now())
		case <-ctx.Done():
			l.drain()
			return nil
		}
	}
}

// lastWords is how long a process that ends waits for its events to be taken: how
// meetings ended, that end with it.
const lastWords = 2 * time.Second

// drain waits for the portal to take the events, if it is there.
func (l *loop) drain() {
	if l.link == nil {
		return
	}
	c := l.link.client
	for end := time.Now().Add(l.m.patience); time.Now().Before(end) && c.Connection().Connected; time.Sleep(10 * time.Millisecond) {
		if waiting, _ := c.Waiting(); waiting == 0 {
			return
		}
	}
}

// step looks at everything once.
func (l *loop) step(ctx context.Context, now time.Time) {
	l.read()
	l.trouble = nil
	switch token := l.settings.Token; {
	case !l.known: // the settings are damaged, and were before the start
		l.fallBack()
	case token == "":
		l.leave()
		if l.m.cfg.Role == link.Controller {
			l.standalone(ctx, now)
		} else {
			l.trouble = &fault.Fault{Code: "member-no-token"}
		}
	default:
		l.enrol(ctx, token, now)
	}
	if l.link != nil {
		l.keep(ctx)
		l.browsers(ctx)
	}
	l.show()
}

// read reads the settings. Where they cannot be read, what was read before holds.
func (l *loop) read() {
	s, err := l.m.settings.Read()
	l.absent = errors.Is(err, fs.ErrNotExist)
	if l.absent {
		s, err = connector.New(), nil
	}
	if err != nil {
		if l.unread == nil {
			l.m.cfg.Log.Error("the connector's settings cannot be read", "error", err)
		}
		l.unread = &fault.Fault{Code: "member-settings", Args: []any{clip(err.Error())}}
		return
	}
	if !l.known || s.Token != l.settings.Token {
		l.join = enrolment{token: s.Token}
	}
	l.settings, l.known, l.unread = s, true, nil
}

// fallBack goes on, once, with what there was before the start, whatever token it
// was got by.
func (l *loop) fallBack() {
	if l.link != nil || l.fell {
		return
	}
	l.fell = true
	if c, path, ok := l.m.keep.last(); ok {
		l.begin(c, path)
	}
}

// leave ends the membership in a portal's zone. A token that was removed takes the
// keys with it: the machine may be a copy of another one.
func (l *loop) leave() {
	if l.link == nil && l.m.State().Standalone {
		return
	}
	l.hangUp()
	if !l.absent {
		l.m.keep.forget("")
	}
	l.request = request{}
}

// enrol has the appliance in the zone of a token, or tries.
func (l *loop) enrol(ctx context.Context, token string, now time.Time) {
	m := l.m
	m.mu.Lock()
	m.own = nil
	m.mu.Unlock()
	path := m.keep.path(token)
	if l.link != nil && l.link.path == path {
		return
	}
	if l.join.got == nil && !l.join.running && l.join.attempt == 0 {
		c, ok, err := m.keep.credentials(path)
		if err != nil {
			l.trouble = &fault.Fault{Code: "member-read", Args: []any{clip(err.Error())}}
			return
		}
		if ok {
			l.replace(c, path)
			return
		}
	}
	l.fallBack()
	if l.join.got != nil {
		l.save()
		return
	}
	if l.join.running || l.join.never || now.Before(l.join.next) {
		return
	}
	l.join.running = true
	if l.join.problem == nil {
		l.join.problem = &fault.Fault{Code: "member-enrolling"}
	}
	m.enrol(ctx, token)
}

// outcome takes the end of an attempt.
func (l *loop) outcome(o outcome, now time.Time) {
	log := l.m.cfg.Log
	if o.token != l.join.token {
		log.Warn("an enrolment came to its end after its token was replaced", "appliance", o.cred.Appliance, "error", o.err)
		return
	}
	l.join.running = false
	if o.err != nil {
		l.join.failed(o.err, now)
		log.Warn("not enrolled", "error", o.err, "code", l.join.problem.Code, "again", l.join.again(now))
		return
	}
	l.join.got = &o.cred
	l.save()
}

// save keeps new credentials, and goes on with them then: what a power cut could
// take away the portal would count in vain.
func (l *loop) save() {
	c, path := *l.join.got, l.m.keep.path(l.join.token)
	if err := c.Write(path); err != nil {
		if p := l.join.problem; p == nil || p.Code != "member-save" { // it is tried often
			l.m.cfg.Log.Error("the enrolment cannot be saved", "error", err)
		}
		l.join.problem = &fault.Fault{Code: "member-save", Args: []any{clip(err.Error())}}
		return
	}
	l.m.cfg.Log.Info("enrolled", "zone", c.Zone, "appliance", c.Appliance, "role", c.Role)
	l.replace(c, path)
}

// replace goes on with the credentials of the saved token.
func (l *loop) replace(c link.Credentials, path string) {
	if l.begin(c, path) {
		l.join = enrolment{token: l.join.token}
		l.m.keep.forget(path)
	}
}

// begin holds the link with credentials, instead of the one there was. It reports
// whether it can.
func (l *loop) begin(c link.Credentials, path string) bool {
	l.hangUp()
	m := l.m
	client, err := link.NewClient(link.ClientConfig{
		Credentials: c, Roots: m.roots(), Proxy: m.cfg.Proxy, Version: m.cfg.Version, Host: m.cfg.Host, Log: m.cfg.Log,
		Save: func(c link.Credentials) error {
			if err := c.Write(path); err != nil {
				return err
			}
			m.change(func(s *State) { s.Credentials = &c })
			return nil
		},
		Status: m.status,
		Config: func(cfg link.Config) {
			m.change(func(s *State) { s.Config = &cfg })
			m.mu.Lock()
			m.told = &told{c, cfg}
			m.mu.Unlock()
			kick(m.wake)
		},
	})
	if err != nil { // ReadCredentials and Enrol have looked at them
		m.cfg.Log.Error("the enrolment cannot be used", "error", err)
		l.trouble = &fault.Fault{Code: "member-read", Args: []any{clip(err.Error())}}
		return false
	}
	before := m.keep.told(c)
	m.change(func(s *State) { s.Credentials, s.Config, s.Standalone = &c, before, false })
	ctx, cancel := context.WithCancel(context.Background())
	l.link = &session{path: path, client: client, cancel: cancel, done: make(chan struct{})}
	m.mu.Lock()
	m.client, m.own = client, nil
	m.mu.Unlock()
	go func(s *session) {
		defer close(s.done)
		_ = client.Run(ctx) // nil
	}(l.link)
	return true
}

// stop ends the link.
func (l *loop) stop() {
	if l.link == nil {
		return
	}
	l.link.cancel()
	<-l.link.done
	l.link = nil
	l.m.mu.Lock()
	l.m.client, l.m.told = nil, nil
	l.m.mu.Unlock()
}

// hangUp ends the link, and what it showed.
func (l *loop) hangUp() {
	if l.link == nil {
		return
	}
	l.stop()
	l.m.change(func(s *State) { s.Credentials, s.Config, s.Browsers, s.Connection = nil, nil, nil, link.Connection{} })
}

// keep keeps what the portal told, and forgets it when the appliance was taken out
// of its zone: it lets nobody into a meeting then.
func (l *loop) keep(ctx context.Context) {
	m, conn := l.m, l.link.client.Connection()
	m.mu.Lock()
	t := m.told
	m.told = nil
	m.mu.Unlock()
	if t != nil {
		if err := m.keep.tell(ctx, t.cred, t.config); err != nil {
			m.cfg.Log.Error("what the portal tells is not kept: after a restart the appliance waits for it", "error", err)
		}
	}
	switch {
	case conn.Connected && l.link.revoked:
		// It was taken back. A new client is told all anew.
		if c, ok, err := m.keep.credentials(l.link.path); ok && err == nil {
			l.begin(c, l.link.path)
		}
	case !conn.Connected && conn.Why == link.WhyRevoked && !l.link.revoked:
		l.link.revoked = true
		m.cfg.Log.Warn("the appliance was taken out of its zone")
		m.keep.forgetTold()
		m.change(func(s *State) { s.Credentials, s.Config = nil, nil })
	}
}

// browsers asks for a certificate for the public name: once on each connection,
// for the portal may not have been able to before. It takes the same request as
// the same question.
func (l *loop) browsers(ctx context.Context) {
	m, cfg, conn := l.m, l.m.State().Config, l.link.client.Connection()
	if m.cfg.Role != link.Controller || cfg == nil || cfg.PublicName == "" {
		return
	}
	if l.request.Name != cfg.PublicName {
		r, err := m.keep.request(ctx, cfg.PublicName)
		if err != nil {
			m.cfg.Log.Error("no certificate for browsers is asked for", "name", cfg.PublicName, "error", err)
			return
		}
		l.request = r
	}
	if conn.Connected && (l.link.asked != l.request.Request || !l.link.askedOn.Equal(conn.Since)) {
		l.link.asked, l.link.askedOn = l.request.Request, conn.Since
		l.link.client.AskForBrowsers(l.request.Request)
	}
}

// standalone keeps the own zone.
func (l *loop) standalone(ctx context.Context, now time.Time) {
	m := l.m
	failed := func(err error) {
		m.cfg.Log.Error("the zone of this appliance", "error", err)
		l.trouble = &fault.Fault{Code: "member-own", Args: []any{clip(err.Error())}}
	}
	m.mu.Lock()
	own := m.own
	m.mu.Unlock()
	if own == nil || stale(own.root, zonecert.Rollover, now) {
		var err error
		if own, err = m.keep.begin(ctx, now); err != nil {
			failed(err)
			return
		}
		m.cfg.Log.Info("no token: the appliance is a zone of its own")
	}
	var st link.Status
	if m.cfg.Status != nil {
		st = m.cfg.Status()
	}
	if err := own.refresh(m.cfg.Host, l.settings, st.Addresses, now); err != nil {
		failed(err)
		return
	}
	m.mu.Lock()
	m.own = own
	m.mu.Unlock()
	if m.State().Config != own.config {
		cred := own.cred
		m.change(func(s *State) { s.Credentials, s.Config, s.Standalone = &cred, own.config, true })
	}
}

// show shows what step has found, where it is not shown yet.
func (l *loop) show() {
	m := l.m
	var next State
	var problem *fault.Fault
	if l.link != nil {
		next.Connection = l.link.client.Connection()
		problem = judgeLink(next.Connection)
	}
	for _, p := range []*fault.Fault{l.join.problem, l.trouble, l.unread} {
		if p != nil {
			problem = p
		}
	}
	now := m.State()
	browsers := shown(l.request, now.Config)
	next.Settings, next.Problem, next.Browsers = l.settings, problem, browsers
	next.Standalone = now.Standalone && l.known && l.settings.Token == "" && l.trouble == nil
	next.Credentials, next.Config = now.Credentials, now.Config
	if now.Standalone && !next.Standalone {
		next.Credentials, next.Config = nil, nil
	}
	if reflect.DeepEqual(now, next) {
		return
	}
	m.change(func(s *State) {
		s.Settings, s.Problem, s.Browsers, s.Connection = next.Settings, next.Problem, next.Browsers, next.Connection
		if s.Standalone && !next.Standalone {
			s.Standalone, s.Credentials, s.Config = false, nil, nil
		}
	})
}

// Package terminal is the console on the serial line and the screen: a login
// and an administrator's commands, for one who has nothing but a terminal.
//
// Each terminal has a session of its own, a goroutine that lives as long as
// the process:
//
//	open ──▶ banner, login ──password──▶ commands
//	 ▲          ▲                            │ logout, 15 minutes without a key
//	 │ error    └────────────────────────────┘
//	 └── 1 s to 10 s
//
// Whatever changes the appliance goes through an admin.Administrator, as it does
// from the web. A change of the network that is made here is saved at once:
// nobody is cut off by it. The first login does not force a new password, as the
// web's does: it suggests passwd, for whoever came to read an address.
//
// Nothing that arrives on a terminal, noise, NUL bytes, lines without end,
// takes more than a bounded piece of memory, and nothing is printed on one
// without its control characters made harmless. No process is ever started.
package terminal

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/nic"
	"github.com/parley-meet/parley/services/internal/portalctl"
	"github.com/parley-meet/parley/services/internal/throttle"
)

//go:embed words/*.json
var words embed.FS

// Appliance is what the console asks PID 1 itself; *control.Client is one.
type Appliance interface {
	Status(context.Context) (*control.Status, error)
	// Do carries out repairs: everything else goes through the Administrator.
	Do(context.Context, control.Request) error
}

// Config is what a Console works with.
type Config struct {
	Appliance   Appliance
	Admin       admin.Administrator
	Keeper      *credential.Keeper
	Interfaces  func() ([]nic.Interface, error)
	Fingerprint func() string // of the web console's certificate; "" when unknown
	Settings    string        // file of the chosen language
	// Recovered is a file in RAM that says that the password was reset since the
	// machine started.
	Recovered string
	WebPort   int
	// Portal asks the portal that runs here.
	Portal func(context.Context, portalctl.Request) (portalctl.Answer, error)
	Uptime func() time.Duration // of the machine; nil: the kernel's
	Log    *slog.Logger
}

// Times of a session.
const (
	idleLogout  = 15 * time.Minute
	idleLogin   = time.Minute      // for a half-typed name or password
	pollEvery   = time.Second      // the appliance's state
	hashAfter   = 10 * time.Second // at the latest
	statusLimit = 5 * time.Second
	// opLimit is longer than any service's deadline to become ready or to stop.
	opLimit = 45 * time.Second
	// hungAfter is longer than everything that a session does between two
	// heartbeats.
	hungAfter = 2 * time.Minute
)

// Console is the console of all terminals.
type Console struct {
	cfg      Config
	dict     look.Dictionary
	failures *throttle.Table
	started  time.Time
	hash     chan struct{} // somebody waits for the generated password's hash

	mu       sync.Mutex
	now      snapshot
	polled   chan struct{} // closed at the first snapshot
	news     map[string]chan struct{}
	beats    map[string]time.Time
	troubles map[string]string // terminals that cannot be opened
	menus    []string          // terminals on which the menu has opened by itself
	language look.Language
}

// snapshot is what the banner shows.
type snapshot struct {
	status      *control.Status
	err         error // of status
	interfaces  []nic.Interface
	fingerprint string
	password    string // generated, to be shown
	damaged     error  // the administrator's password cannot be read
	network     *netclient.Status
	notices     []string
	recovery    bool // the password can be reset now
}

// New returns a console. It starts nothing.
func New(cfg Config) *Console {
	if cfg.Uptime == nil {
		cfg.Uptime = uptime
	}
	c := &Console{
		cfg: cfg, dict: look.MustLoad(words, "words"), failures: throttle.NewTable(16), started: time.Now(),
		hash: make(chan struct{}, 1), polled: make(chan struct{}), language: look.English,
		news: map[string]chan struct{}{}, beats: map[string]time.Time{}, troubles: map[string]string{},
	}
	if l, err := readSettings(cfg.Settings); err == nil {
		c.language = l
	} else if !errors.Is(err, os.ErrNotExist) {
		cfg.Log.Warn("settings", "error", err)
	}
	return c
}

// Poll keeps the snapshot fresh, and the generated password's hash made, until
// ctx ends.
func (c *Console) Poll(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var sides sync.WaitGroup
	defer sides.Wait()
	sides.Go(func() { c.lookAside(ctx) })
	wanted := false
	var told string
	for {
		err := c.cfg.Keeper.Load()
		s := c.look(ctx)
		// Hashing would take the processor from services that are starting.
		if err == nil && (wanted || s.status != nil && s.status.BootTime > 0 || time.Since(c.started) > hashAfter) {
			err = c.cfg.Keeper.Publish(ctx, time.Now())
		}
		if err != nil && err.Error() != told && ctx.Err() == nil {
			told = err.Error()
			c.cfg.Log.Error("generated password", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.hash:
			wanted = true
		case <-tick.C:
		}
	}
}

func (c *Console) look(ctx context.Context) snapshot {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	s := snapshot{fingerprint: c.cfg.Fingerprint(), password: c.cfg.Keeper.Plain()}
	s.status, s.err = c.cfg.Appliance.Status(ctx)
	s.recovery = s.status != nil && s.status.Recovery && c.recoveryOpen()
	if list, err := c.cfg.Interfaces(); err == nil {
		s.interfaces = list
	}
	var damaged *credential.DamagedError
	if _, err := c.cfg.Keeper.Store.Current(); errors.As(err, &damaged) {
		s.damaged = damaged
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.network, s.notices = c.now.network, c.now.notices
	c.now = s
	select {
	case <-c.polled:
	default:
		close(c.polled)
	}
	for _, n := range c.news {
		select {
		case n <- struct{}{}:
		default: // it has not looked at the last one yet
		}
	}
	return s
}

// sideLimit is how long is waited for what is not PID 1's.
const sideLimit = 2 * time.Second

// lookAside keeps what the banner says of the network and the notices fresh. It
// is apart, so that the state of the appliance does not wait for the network
// service.
func (c *Console) lookAside(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		network, notices := ask(ctx, c.cfg.Admin.Network), ask(ctx, c.cfg.Admin.Notices)
		n, texts := <-network, <-notices
		c.mu.Lock()
		c.now.network, c.now.notices = n, texts
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask asks somebody for something that may stay away: then the answer is empty.
func ask[T any](ctx context.Context, f func(context.Context) (T, error)) <-chan T {
	ctx, cancel := context.WithTimeout(ctx, sideLimit)
	given, answer := make(chan T, 1), make(chan T, 1)
	go func() {
		v, _ := f(ctx)
		given <- v
	}()
	go func() {
		defer cancel()
		var v T
		select {
		case v = <-given:
		case <-ctx.Done():
		}
		answer <- v
	}()
	return answer
}

// passwordChanged has the next banner show no password that is void: the next
// look would come too late for whoever logs out at once.
func (c *Console) passwordChanged() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.password = c.cfg.Keeper.Plain()
}

func (c *Console) snapshot() snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Serve runs the terminal's sessions until ctx ends. A terminal that cannot be
// opened or breaks off is opened again.
func (c *Console) Serve(ctx context.Context, name string, open func(string) (Device, error)) error {
	news := make(chan struct{}, 1)
	c.mu.Lock()
	c.news[name] = news
	c.mu.Unlock()
	pause := time.Second
	for ctx.Err() == nil {
		c.beat(name)
		began := time.Now()
		dev, err := open(name)
		if err == nil {
			c.trouble(name, nil)
			err = newSession(c, name, dev, news).run(ctx)
		}
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > time.Minute {
			pause = time.Second
		}
		c.trouble(name, err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, 10*time.Second)
	}
	return nil
}

// trouble records, and logs once, that a terminal cannot be used.
func (c *Console) trouble(name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.troubles, name)
		return
	}
	if c.troubles[name] != err.Error() {
		c.cfg.Log.Warn("terminal", "name", name, "error", err)
	}
	c.troubles[name] = err.Error()
}

func (c *Console) beat(name string) {
	c.mu.Lock()
	c.beats[name] = time.Now()
	c.mu.Unlock()
}

// Check says which terminals are served. It is an error when a session has
// hung; a terminal that is not there is none, because a restart would not help.
func (c *Console) Check() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var good []string
	for _, name := range slices.Sorted(maps.Keys(c.beats)) {
		if d := time.Since(c.beats[name]); d > hungAfter {
			return "", fmt.Errorf("the session on %s has hung for %v", name, d.Round(time.Second))
		}
		if c.troubles[name] == "" {
			good = append(good, name)
		}
	}
	if len(good) == 0 {
		return "no terminal", nil
	}
	return "login on " + strings.Join(good, ", "), nil
}

func (c *Console) words() *look.Words {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dict[c.language]
}

// settings is what the file of that name holds.
type settings struct {
	Version  int           `json:"version"`
	Language look.Language `json:"language"`
}

func readSettings(path string) (look.Language, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var s settings
	if err := json.Unmarshal(b, &s); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	l, ok := look.ParseLanguage(string(s.Language))
	if s.Version != 1 || !ok {
		return "", fmt.Errorf("%s: version %d, language %.16q: want version 1 and one of %q", path, s.Version, s.Language, look.Languages)
	}
	return l, nil
}

// setLanguage changes every terminal's language. The error says that the choice
// will not outlive the process.
func (c *Console) setLanguage(l look.Language) error {
	c.mu.Lock()
	c.language = l
	c.mu.Unlock()
	b, err := json.Marshal(settings{Version: 1, Language: l})
	if err != nil {
		return err
	}
	return durable.WriteFile(c.cfg.Settings, append(b, '\n'), 0o640)
}

// SettingsPath is where the appliance's console keeps its settings.
var SettingsPath = filepath.Join(layout.PermDir, "console-serial", "settings.json")

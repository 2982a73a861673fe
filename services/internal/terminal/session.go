package terminal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/lineedit"
	"github.com/parley-meet/parley/services/internal/look"
)

// Why a line was not read.
var (
	errInterrupt = errors.New("interrupted")
	errEnd       = errors.New("end of input")
	errIdle      = errors.New("nothing was typed for too long")
	errLong      = errors.New("the line is too long")
)

// maxPending is how many bytes that were typed ahead are kept while a command
// runs; more are dropped.
const maxPending = 64 << 10

// session is one terminal while it is open.
type session struct {
	c    *Console
	name string
	dev  Device
	log  *slog.Logger
	ed   *lineedit.Editor
	out  bytes.Buffer // what the next flush sends

	in      chan []byte
	broken  error // why in was closed
	pending []byte
	news    <-chan struct{}

	shown     string // the banner on the screen
	candidate string // a banner seen once, to be shown when it lasts
	shownAt   time.Time
}

func newSession(c *Console, name string, dev Device, news <-chan struct{}) *session {
	s := &session{c: c, name: name, dev: dev, news: news, in: make(chan []byte), log: c.cfg.Log.With("terminal", name)}
	columns, _ := dev.Size()
	if columns == 0 {
		columns = 80
	}
	s.ed = lineedit.New(&s.out, columns)
	return s
}

// run serves the terminal until it breaks off or ctx ends.
func (s *session) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.read(ctx)
	}()
	defer func() { // Close ends the read, cancel the hand-over
		cancel()
		s.dev.Close()
		<-done
	}()
	for {
		if err := s.login(ctx); err != nil {
			return err
		}
		s.log.Info("administrator logged in")
		err := s.shell(ctx)
		s.log.Info("administrator logged out", "reason", reason(err))
		if err != nil && !errors.Is(err, errIdle) && !errors.Is(err, errEnd) {
			return err
		}
	}
}

func reason(err error) string {
	if err == nil {
		return "asked to"
	}
	return err.Error()
}

// read hands the terminal's bytes over until it breaks off.
func (s *session) read(ctx context.Context) {
	defer close(s.in)
	for {
		b := make([]byte, 512)
		n, err := s.dev.Read(b)
		if n > 0 {
			select {
			case s.in <- b[:n]:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			s.broken = err
			return
		}
	}
}

// flush sends what was printed.
func (s *session) flush() error {
	defer s.out.Reset()
	s.c.beat(s.name)
	if _, err := s.dev.Write(s.out.Bytes()); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func (s *session) printf(format string, args ...any) { fmt.Fprintf(&s.out, format, args...) }

func (s *session) words() *look.Words { return s.c.words() }

// say prints the text of a key on lines of its own.
func (s *session) say(key string, args ...any) {
	width, _ := s.size()
	for _, line := range strings.Split(s.words().T(key, args...), "\n") {
		s.printf("%s\n", hang(line, width-1, 0))
	}
}

func (s *session) size() (columns, lines int) {
	columns, lines = s.dev.Size()
	if columns < 20 {
		columns = 80
	}
	if lines < 10 {
		lines = 24
	}
	return columns, lines
}

// readLine reads a line. While nothing has been typed, and news is not nil, it
// is called for each new snapshot; when it reports that it printed something,
// after hiding the prompt, the prompt is shown again.
func (s *session) readLine(ctx context.Context, prompt string, hidden bool, idle time.Duration, news func() bool) (string, error) {
	s.ed.Start(prompt, hidden)
	timer := time.NewTimer(idle)
	defer timer.Stop()
	heart := time.NewTicker(5 * time.Second)
	defer heart.Stop()
	for {
		for len(s.pending) > 0 {
			b := s.pending[0]
			s.pending = s.pending[1:]
			switch s.ed.Feed(b) {
			case lineedit.Enter:
				return s.ed.Line(), s.flush()
			case lineedit.Interrupt:
				return "", errors.Join(errInterrupt, s.flush())
			case lineedit.EOF:
				return "", errors.Join(errEnd, s.flush())
			case lineedit.Overflow:
				return "", errors.Join(errLong, s.flush())
			}
		}
		if err := s.flush(); err != nil {
			return "", err
		}
		select {
		case chunk, ok := <-s.in:
			if !ok {
				return "", s.gone()
			}
			s.pending = chunk
			timer.Reset(idle)
		case <-s.news:
			if news != nil && s.ed.Empty() && news() {
				s.ed.Redraw()
			}
		case <-heart.C:
			s.c.beat(s.name)
		case <-timer.C:
			if news != nil && s.ed.Empty() {
				timer.Reset(idle)
				continue
			}
			s.printf("\n")
			return "", errors.Join(errIdle, s.flush())
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (s *session) gone() error { return fmt.Errorf("the terminal broke off: %w", s.broken) }

// soft reports whether the session goes on after the error.
func soft(err error) bool {
	return errors.Is(err, errInterrupt) || errors.Is(err, errEnd) || errors.Is(err, errIdle) || errors.Is(err, errLong)
}

// wait runs f and prints what it emits. Ctrl-C cancels f's context; so does q
// with quit set. Other input is kept for the next prompt, with quit dropped.
func (s *session) wait(ctx context.Context, quit bool, f func(ctx context.Context, emit func(string)) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan string)
	result := make(chan error, 1)
	go func() {
		result <- f(ctx, func(line string) {
			select {
			case lines <- line:
			case <-ctx.Done():
			}
		})
	}()
	heart := time.NewTicker(5 * time.Second)
	defer heart.Stop()
	if err := s.flush(); err != nil {
		cancel()
		<-result
		return err
	}
	stop := func(chunk []byte) bool {
		i := bytes.IndexByte(chunk, 'C'-'@')
		if quit && i < 0 {
			i = bytes.IndexAny(chunk, "qQ")
		}
		if i >= 0 {
			chunk = chunk[i+1:]
			s.pending = nil
		}
		if !quit && len(s.pending)+len(chunk) <= maxPending {
			s.pending = append(s.pending, chunk...)
		}
		return i >= 0
	}
	if stopped := stop(s.take()); stopped {
		cancel()
	}
	in := s.in
	for {
		select {
		case line := <-lines:
			s.printf("%s\n", line)
			if err := s.flush(); err != nil {
				cancel()
				<-result
				return err
			}
		case chunk, ok := <-in:
			if !ok {
				cancel()
				in = nil // the next prompt tells
				continue
			}
			if stop(chunk) {
				cancel()
			}
		case <-heart.C:
			s.c.beat(s.name)
		case err := <-result:
			return err
		}
	}
}

func (s *session) take() []byte {
	p := s.pending
	s.pending = nil
	return p
}

// pause waits and drops what is typed meanwhile.
func (s *session) pause(ctx context.Context, d time.Duration) error {
	if err := s.flush(); err != nil {
		return err
	}
	s.pending = nil
	timer := time.NewTimer(d)
	defer timer.Stop()
	heart := time.NewTicker(5 * time.Second)
	defer heart.Stop()
	for {
		select {
		case _, ok := <-s.in:
			if !ok {
				return s.gone()
			}
		case <-heart.C:
			s.c.beat(s.name)
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// login returns when the administrator has logged in.
func (s *session) login(ctx context.Context) error {
	s.ed.Reset()
	s.ed.Complete = nil
	select {
	case <-s.c.polled:
	case <-time.After(500 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	s.showBanner()
	for {
		name, err := s.readLine(ctx, s.host()+" login: ", false, idleLogin, s.bannerNews)
		s.ed.Reset() // names are not remembered: somebody may have typed a password
		if soft(err) {
			continue
		}
		if err != nil {
			return err
		}
		name = strings.TrimSpace(name)
		if name == "" {
			// Whoever comes to a quiet line presses Enter; noise does so often.
			if time.Since(s.shownAt) > 2*time.Second {
				s.showBanner()
			}
			continue
		}
		password, err := s.readLine(ctx, s.words().T("password"), true, idleLogin, nil)
		if soft(err) {
			continue
		}
		if err != nil {
			return err
		}
		ok, err := s.check(ctx, name, password)
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
	}
}

// check judges a login. A wrong password makes the next attempt on this
// terminal wait longer; a wrong name does not, because noise on the line must
// not keep the administrator out.
func (s *session) check(ctx context.Context, name, password string) (bool, error) {
	if name != credential.User {
		s.log.Info("login refused", "reason", "unknown name")
		if err := s.pause(ctx, 2*time.Second); err != nil {
			return false, err
		}
		s.say("login.incorrect")
		return false, nil
	}
	for { // a session that broke off may have left a wait
		d := s.c.failures.Wait(s.name, time.Now())
		if d == 0 {
			break
		}
		s.say("login.wait", s.words().Duration(d+time.Second))
		if err := s.pause(ctx, d); err != nil {
			return false, err
		}
	}
	var good bool
	var refused error
	err := s.wait(ctx, false, func(ctx context.Context, _ func(string)) error {
		good, refused = s.c.verify(ctx, password)
		return nil
	})
	if err != nil {
		return false, err
	}
	if refused != nil {
		s.log.Warn("login refused", "reason", refused)
		s.say("login.impossible", clean(refused.Error(), 200))
		return false, s.pause(ctx, time.Second)
	}
	if good {
		s.c.failures.Succeed(s.name)
		return true, nil
	}
	now := time.Now()
	s.c.failures.Fail(s.name, now)
	d := max(time.Second, s.c.failures.Wait(s.name, now))
	s.log.Warn("login refused", "reason", "wrong password", "wait", d)
	s.say("login.incorrect")
	if d > 2*time.Second {
		s.say("login.wait", s.words().Duration(d))
	}
	return false, s.pause(ctx, d)
}

// verify compares a password with the credential in force, which it waits for
// while the appliance is starting.
func (c *Console) verify(ctx context.Context, password string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	for {
		cred, err := c.cfg.Keeper.Login()
		if err == nil {
			return c.cfg.Keeper.Hasher.Verify(ctx, cred, password)
		}
		if !errors.Is(err, credential.ErrNone) {
			return false, err
		}
		select {
		case c.hash <- struct{}{}:
		default:
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return false, err
		}
	}
}

func (s *session) host() string {
	if st := s.c.snapshot().status; st != nil && st.Hostname != "" {
		return clean(st.Hostname, 30)
	}
	if h, err := os.Hostname(); err == nil && h != "" {
		return clean(h, 30)
	}
	return "parley"
}

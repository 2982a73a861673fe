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

	"github.com/parley-meet/parley/services/internal/admin"
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

	who    admin.Actor // who has logged in
	stamp  string      // of his account, at the login
	column bool        // the cursor is behind dots of progress

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
		s.log.Info("administrator logged in", "account", s.who.Name)
		err := s.shell(ctx)
		s.log.Info("administrator logged out", "account", s.who.Name, "reason", reason(err))
		s.note(ctx, s.who, "logout", reason(err), nil)
		s.who, s.stamp = admin.Actor{}, ""
		if err != nil && !errors.Is(err, errIdle) && !errors.Is(err, errEnd) && !errors.Is(err, errEnded) {
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

// size is what the terminal says of itself, or 80 columns and 24 lines.
func (s *session) size() (columns, lines int) {
	columns, lines = s.dev.Size()
	if columns < 20 || lines < 10 {
		columns, lines = s.ed.Size()
	}
	if columns < 20 || lines < 10 {
		columns, lines = 80, 24
	}
	return columns, lines
}

// readLine reads a line. While nothing has been typed, and news is not nil, it
// is called for each new snapshot; when it reports that it printed something,
// after hiding the prompt, the prompt is shown again.
func (s *session) readLine(ctx context.Context, prompt string, hidden bool, idle time.Duration, news func() bool) (string, error) {
	width, _ := s.size()
	head, prompt := splitPrompt(prompt, width/2)
	if head != "" {
		s.printf("%s\n", head)
	}
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

// progressEvery is how often a dot shows that something is still being done.
const progressEvery = 3 * time.Second

// graceTime is how long wait waits for f after its context has ended. Then it is
// left to itself: a session must not hang because something else does.
const graceTime = 3 * time.Second

// wait runs f and prints what it emits, and dots while that is nothing. Ctrl-C
// cancels f's context; so does q with quit set. Other input is kept for the next
// prompt, with quit dropped.
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
	dots := time.NewTicker(progressEvery)
	defer dots.Stop()
	var late <-chan time.Time
	ended := ctx.Done()
	defer s.endDots()
	if err := s.flush(); err != nil {
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
			s.endDots()
			s.printf("%s\n", line)
			if err := s.flush(); err != nil {
				return err
			}
			dots.Reset(progressEvery)
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
		case <-dots.C:
			if quit {
				continue // nothing may come for long, and that is in order
			}
			s.printf(".")
			s.column = true
			if err := s.flush(); err != nil {
				return err
			}
		case err := <-result:
			return err
		case <-ended:
			ended, late = nil, time.After(graceTime)
		case <-late:
			s.log.Warn("what was asked for does not end")
			return ctx.Err()
		}
	}
}

// endDots ends the line of dots.
func (s *session) endDots() {
	if s.column {
		s.printf("\n")
		s.column = false
	}
}

// within runs f, which asks somebody else for something, for at most so long.
func (s *session) within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.wait(ctx, false, func(ctx context.Context, _ func(string)) error { return f(ctx) })
}

// get is within for what has an answer.
func get[T any](s *session, ctx context.Context, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	answer := make(chan T, 1) // f may go on after its end, so it sets no variable of ours
	err := s.within(ctx, limit, func(ctx context.Context) error {
		v, err := f(ctx)
		answer <- v
		return err
	})
	var v T
	select {
	case v = <-answer:
	default:
	}
	return v, err
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

func (s *session) host() string {
	if st := s.c.snapshot().status; st != nil && st.Hostname != "" {
		return clean(st.Hostname, 30)
	}
	if h, err := os.Hostname(); err == nil && h != "" {
		return clean(h, 30)
	}
	return "parley"
}

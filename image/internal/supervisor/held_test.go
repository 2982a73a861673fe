package supervisor

import (
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
)

// A held service is not started, by nobody, until it is released; the others
// are, and a shutdown passes it by.
func TestHeld(t *testing.T) {
	opt := Options{Services: services("console", "mmr", "zctrl"), Held: func(s *config.Service) string {
		if s.Name == "console" {
			return ""
		}
		return "two of them"
	}}
	supervise(t, opt, always(script{ready: 300 * ms, end: never, term: 100 * ms}), func(b *bench) {
		b.pass(time.Second)
		select {
		case <-b.AllReady():
		default:
			t.Error("a held service keeps the others from being all")
		}
		b.want(control.StateReady, "console")
		for _, name := range []string{"mmr", "zctrl"} {
			if s := b.want(control.StateStopped, name); s.Detail != "held: two of them" || len(b.fakes.starts(name, b.began)) != 0 {
				t.Errorf("%+v", s)
			}
			for _, f := range []error{second(timed(b.Start, name)), second(timed(b.Restart, name))} {
				code(t, f, control.CodeState)
				if !strings.Contains(f.Error(), name+" is held: two of them") {
					t.Error(f)
				}
			}
			if _, err := timed(b.Stop, name); err != nil {
				t.Errorf("stop of one that is stopped: %v", err)
			}
		}
		if got := strings.Join(b.Held(), " "); got != "mmr zctrl" {
			t.Errorf("held are %q", got)
		}
		at := time.Now()
		if err := b.Release(b.Context()); err != nil || time.Since(at) != 300*ms {
			t.Errorf("%v after %v", err, time.Since(at))
		}
		for _, name := range []string{"mmr", "zctrl"} {
			if s := b.want(control.StateReady, name); s.Detail != "up" || s.Restarts != 0 {
				t.Errorf("%+v", s)
			}
		}
		if err := b.Release(b.Context()); err != nil || len(b.Held()) != 0 || len(b.fakes.starts("mmr", b.began)) != 1 {
			t.Errorf("a second release: %v", err)
		}
		if err := b.Restart(b.Context(), "mmr"); err != nil {
			t.Error(err)
		}
	})
}

func second(_ time.Duration, err error) error { return err }

func TestHeldShutdown(t *testing.T) {
	opt := Options{Services: services("mmr"), Held: func(*config.Service) string { return "why" }}
	supervise(t, opt, always(script{ready: ms, end: never, term: ms}), func(b *bench) {
		if err := b.Shutdown(b.Context()); err != nil {
			t.Error(err)
		}
		code(t, b.Start(b.Context(), "mmr"), control.CodeState)
		_ = b.Release(b.Context())
		if n := len(b.fakes.starts("mmr", b.began)); n != 0 {
			t.Errorf("started %d times after the shutdown", n)
		}
	})
}

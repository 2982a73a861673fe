package watchdog

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// fake is a watchdog that notes when it was fed.
type fake struct {
	mu   sync.Mutex
	last time.Time
	n    int
	err  error
}

func (f *fake) Feed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.last, f.n = time.Now(), f.n+1
	}
	return f.err
}
func (f *fake) Name() string { return "i6300ESB timer" }

func (f *fake) fed() (int, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n, time.Since(f.last)
}

func TestFeeder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := &fake{}
		var mu sync.Mutex
		var hung []string
		hang := func(names ...string) {
			mu.Lock()
			defer mu.Unlock()
			hung = names
		}
		var log strings.Builder
		f := &Feeder{Device: dev, Log: slog.New(slog.NewTextHandler(&log, nil)), Starving: func() []string {
			mu.Lock()
			defer mu.Unlock()
			return hung
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.Run(ctx)
		}()
		synctest.Wait()
		if n, _ := dev.fed(); n != 1 {
			t.Errorf("fed %d times, want once at once", n)
		}
		if s := f.Status(); s != "i6300ESB timer" {
			t.Errorf("status %q", s)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n, ago := dev.fed(); n != 1+int(time.Hour/FeedEvery) || ago != 0 {
			t.Errorf("fed %d times in an hour, last %v ago", n, ago)
		}
		hang("mmr", "zctrl")
		n, _ := dev.fed()
		time.Sleep(Timeout + time.Millisecond)
		synctest.Wait()
		if m, ago := dev.fed(); m != n || ago < Timeout {
			t.Errorf("fed although two hang, last %v ago: the machine is not reset", ago)
		}
		if s := f.Status(); s != "i6300ESB timer, not fed: mmr, zctrl hangs" {
			t.Errorf("status %q", s)
		}
		hang("mmr")
		time.Sleep(FeedEvery)
		hang()
		time.Sleep(FeedEvery)
		synctest.Wait()
		if m, ago := dev.fed(); m == n || ago > FeedEvery {
			t.Errorf("not fed again, last %v ago", ago)
		}
		if s := f.Status(); s != "i6300ESB timer" {
			t.Errorf("status %q", s)
		}
		// A device that fails is told once, and fed on.
		dev.mu.Lock()
		dev.err = errors.New("I/O error")
		dev.mu.Unlock()
		time.Sleep(time.Minute)
		dev.mu.Lock()
		dev.err = nil
		dev.mu.Unlock()
		time.Sleep(FeedEvery)
		synctest.Wait()
		if _, ago := dev.fed(); ago > FeedEvery {
			t.Error("not fed any more after an error")
		}
		cancel()
		<-done
		for text, want := range map[string]int{
			`msg="the watchdog is not fed" hung="mmr, zctrl" reset-after=30s`: 1, `msg="the watchdog is not fed" hung=mmr`: 1,
			`msg="the watchdog is fed again" hung=mmr`: 1, `error="I/O error"`: 1,
		} {
			if got := strings.Count(log.String(), text); got != want {
				t.Errorf("%d times %q, want %d, in\n%s", got, text, want, &log)
			}
		}
		n, _ = dev.fed()
		time.Sleep(time.Minute)
		if m, _ := dev.fed(); m != n {
			t.Error("fed after its end")
		}
	})
}

// A PID 1 that waits for a slow disk is in time.
func TestTimes(t *testing.T) {
	if FeedEvery*5 > Timeout {
		t.Errorf("fed every %v with a timeout of %v", FeedEvery, Timeout)
	}
}

func TestOpen(t *testing.T) {
	if d, err := Open(filepath.Join(t.TempDir(), "watchdog")); !errors.Is(err, fs.ErrNotExist) || d != nil {
		t.Errorf("%v, %v; want no device and that there is none", d, err)
	}
	// A device that refuses the timeout can be used all the same.
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(name)
	if d == nil || !errors.Is(err, unix.ENOTTY) || !strings.Contains(err.Error(), "set timeout 30s") {
		t.Fatalf("%v, %v", d, err)
	}
	if d.Name() != "watchdog" {
		t.Errorf("name %q", d.Name())
	}
	if err := d.Feed(); !errors.Is(err, unix.ENOTTY) {
		t.Error(err)
	}
	unix.Close(d.(*device).fd)
}

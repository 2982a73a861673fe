package timekeep

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/internal/durable"
)

// fake is a clock that can be set: the bubble's, and an offset.
type fake struct {
	offset, slewed       time.Duration
	follows              time.Duration
	rtc                  time.Time
	stepErr, slewErr, rt error
}

func (f *fake) Now() time.Time { return time.Now().Add(f.offset) } // Add moves both parts

func (f *fake) Step(by time.Duration) error {
	if f.stepErr == nil {
		f.offset += by
	}
	return f.stepErr
}

func (f *fake) Slew(by time.Duration) error {
	f.slewed = by
	return f.slewErr
}

func (f *fake) Follow(d time.Duration) error {
	f.follows = d
	return nil
}

func (f *fake) SaveRTC(t time.Time) error {
	if f.rt == nil {
		f.rtc = t
	}
	return f.rt
}

// The bubble's clock begins at the start of 2000.
func at(s string) time.Time {
	t, err := time.Parse(time.DateTime, s)
	if err != nil {
		panic(err)
	}
	return t
}

func newKeeper(t *testing.T, path string) (*Keeper, *fake) {
	f := &fake{}
	return &Keeper{Clocks: f, Path: path, Log: slog.New(slog.DiscardHandler)}, f
}

func refused(t *testing.T, err error, code control.Code, words ...string) {
	t.Helper()
	var e *control.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("%v: want a refusal %s", err, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(e.Message, w) {
			t.Errorf("%q does not name %q", e.Message, w)
		}
	}
}

func TestAdjust(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock.json")
	synctest.Test(t, func(t *testing.T) {
		k, f := newKeeper(t, path)
		if err := k.Start(at("1999-06-01 00:00:00")); err != nil || f.offset != 0 {
			t.Fatalf("%v, %v: a clock that is later than the image stays", f.offset, err)
		}
		if err := k.Adjust(control.Clock{Offset: 90 * time.Minute, Step: true}); err != nil || f.offset != 90*time.Minute || !f.rtc.IsZero() {
			t.Errorf("step: %v, %v, RTC %v", err, f.offset, f.rtc)
		}
		if err := k.Adjust(control.Clock{Offset: -30 * time.Minute, Step: true, Save: true}); err != nil || !f.rtc.Round(0).Equal(at("2000-01-01 01:00:00")) {
			t.Errorf("step back: %v, RTC %v", err, f.rtc)
		}
		if err := k.Adjust(control.Clock{Offset: -MaxSlew}); err != nil || f.slewed != -MaxSlew || f.offset != time.Hour {
			t.Errorf("slew: %v, %v, %v", err, f.slewed, f.offset)
		}
		f.slewed = 0
		refused(t, k.Adjust(control.Clock{Offset: MaxSlew + 1}), control.CodeInvalid, "500.000001ms", "at most 500ms", "a step")
		refused(t, k.Adjust(control.Clock{Offset: -MaxSlew - 1}), control.CodeInvalid, "-500.000001ms")
		const year = 365 * 24 * time.Hour
		refused(t, k.Adjust(control.Clock{Offset: -year, Step: true, Save: true}), control.CodeState, "-8760h0m0s", "1999-01-01T01:00:00Z", "before 1999-06-01T00:00:00Z")
		refused(t, k.Adjust(control.Clock{Offset: 101 * year, Step: true}), control.CodeInvalid, "2100-01-01T00:00:00Z")
		refused(t, k.Adjust(control.Clock{Offset: -1 << 63, Step: true}), control.CodeState)
		refused(t, k.Adjust(control.Clock{Offset: -1 << 63}), control.CodeState)
		refused(t, k.Adjust(control.Clock{Offset: 1<<63 - 1, Step: true}), control.CodeInvalid)
		if f.offset != time.Hour || f.slewed != 0 {
			t.Errorf("a refusal moved the clock: %v, %v", f.offset, f.slewed)
		}
		f.rt = fmt.Errorf("open: %w", fs.ErrNotExist)
		if err := k.Adjust(control.Clock{Save: true}); err != nil {
			t.Errorf("a machine without a real-time clock: %v", err)
		}
		f.rt = errors.New("EIO")
		refused(t, k.Adjust(control.Clock{Save: true}), control.CodeFailed, "real-time clock: EIO")
		f.stepErr, f.slewErr = errors.New("EPERM"), errors.New("EPERM")
		refused(t, k.Adjust(control.Clock{Offset: 1, Step: true}), control.CodeFailed, "EPERM")
		refused(t, k.Adjust(control.Clock{Offset: 1}), control.CodeFailed, "EPERM")
	})
}

// A boot goes on where the last one that followed servers was, and the clock
// cannot be set to long before it.
func TestSaveAndRestore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock.json")
	synctest.Test(t, func(t *testing.T) {
		k, f := newKeeper(t, path)
		if err := errors.Join(k.Start(at("1999-01-01 00:00:00")), k.Restore(), k.Save()); err != nil {
			t.Fatal(err)
		}
		if err := k.Adjust(control.Clock{Offset: 1000 * time.Hour, Step: true}); err != nil {
			t.Fatal(err)
		}
		if err := k.Save(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Error("a clock that was set by hand was saved")
		}
		if f.follows != 0 {
			t.Errorf("a clock that was set by hand is said to follow servers for %v", f.follows)
		}
		k.Synced()
		if f.follows != syncedFor {
			t.Errorf("the clock is said to follow servers for %v, want %v", f.follows, syncedFor)
		}
		if err := k.Save(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(syncedFor + time.Minute)
		if err := k.Save(); err != nil { // nothing: the servers are silent
			t.Fatal(err)
		}
		// The machine's own clock is back at its start: the battery was empty.
		k, f = newKeeper(t, path)
		if err := errors.Join(k.Start(at("2000-01-10 00:00:00")), k.Restore()); err != nil {
			t.Fatal(err)
		}
		if now := f.Now(); !now.Round(0).Equal(at("2000-02-11 16:00:00")) {
			t.Errorf("the clock is %v", now)
		}
		if err := k.Adjust(control.Clock{Offset: -Slack, Step: true}); err != nil {
			t.Errorf("back by the slack: %v", err)
		}
		refused(t, k.Adjust(control.Clock{Offset: -time.Second, Step: true}), control.CodeState, "-1s", "2000-02-11T15:00:00Z")
	})
}

func TestSaveFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock.json")
	k, _ := newKeeper(t, path)
	k.Synced()
	for _, failing := range durable.Steps {
		end := durable.Fault(func(s string) error {
			if s == failing {
				return errors.New("fault")
			}
			return nil
		})
		if err := k.Save(); err == nil {
			t.Errorf("%s: no error", failing)
		}
		end()
	}
	if !k.saved.IsZero() {
		t.Error("what was not saved became the floor")
	}
}

func TestBadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock.json")
	for bad, words := range map[string]string{
		`{"version":2,"time":"2026-01-01T00:00:00Z"}`: "version 2", `{"version":1,"time":"noon"}`: "noon",
		`{"version":1,"time":"2100-01-01T00:00:00Z"}`: "want one before", "": "end of JSON",
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		k, f := newKeeper(t, path)
		if err := k.Restore(); err == nil || !strings.Contains(err.Error(), words) || f.offset != 0 || !k.saved.IsZero() {
			t.Errorf("%q: %v, clock moved by %v", bad, err, f.offset)
		}
	}
}

// What was noted before a step is shown as the clock would have shown it.
func TestWall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, f := newKeeper(t, "")
		// The fake's monotonic part must not move with a step, as the kernel's does not.
		k.Clocks = steady{f}
		booted := time.Now()
		time.Sleep(time.Minute)
		if err := k.Adjust(control.Clock{Offset: 24 * time.Hour, Step: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		ready := time.Now()
		if got := k.Wall(booted); !got.Equal(booted.Round(0).Add(24 * time.Hour)) {
			t.Errorf("booted %v", got)
		}
		if got := k.Wall(ready); !got.Equal(ready) {
			t.Errorf("ready %v", got)
		}
		for range 3 * maxSteps {
			time.Sleep(time.Second)
			if err := k.Adjust(control.Clock{Offset: -time.Minute, Step: true}); err != nil {
				t.Fatal(err)
			}
		}
		want := 24*time.Hour - 3*maxSteps*time.Minute
		if got := k.Wall(booted).Sub(booted.Round(0)); got != want || len(k.steps) > maxSteps {
			t.Errorf("moved by %v in %d steps, want %v", got, len(k.steps), want)
		}
		if !k.Wall(time.Time{}).IsZero() {
			t.Error("no time became one")
		}
	})
}

type steady struct{ *fake }

func (steady) Now() time.Time { return time.Now() }

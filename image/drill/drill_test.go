package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/image/control"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]Drill{
		"panic@10s":            {Kind: Panic, After: 10 * time.Second},
		"hang@1m":              {Kind: Hang, After: time.Minute},
		"stop:mmr@1ms":         {Kind: Stop, Service: "mmr", After: time.Millisecond},
		"kill:all:100@5s":      {Kind: Kill, Service: "all", Rounds: 100, After: 5 * time.Second},
		"kill:console-web:1@h": {},
	} {
		got, err := Parse(in)
		if want == (Drill{}) {
			if err == nil {
				t.Errorf("%q: %+v, want an error", in, got)
			}
			continue
		}
		if err != nil || *got != want {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"panic", "panic@", "panic@0s", "panic@-1s", "panic@2h", "panic:mmr@1s", "stop@1s", "stop:@1s", "stop:all mmr@1s",
		"kill:mmr@1s", "kill:mmr:0@1s", "kill:mmr:10001@1s", "kill:mmr:-1@1s", "kill:MMR:1@1s", "reboot@1s", "@1s", " ",
	} {
		if d, err := Parse(in); err == nil || !strings.Contains(err.Error(), Key) {
			t.Errorf("%q: %+v, %v; want an error that names %s", in, d, err, Key)
		}
	}
	if d, err := Parse(""); d != nil || err != nil {
		t.Errorf("no drill: %+v, %v", d, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "panic@10s", "kill:all:100@5s", "stop:mmr@1ms", "kill::@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := Parse(s)
		if err == nil && d != nil && (d.After <= 0 || d.After > MaxAfter || d.Rounds < 0 || d.Rounds > MaxRounds) {
			t.Errorf("%q: %+v is out of bounds", s, d)
		}
	})
}

// appliance is a fake whose services come back after a time.
type appliance struct {
	services []control.Service
	away     time.Duration
	signals  []string
	also     string // dies together with whoever is killed
	said     []string
}

func newAppliance(names ...string) *appliance {
	a := &appliance{away: 40 * time.Millisecond}
	for i, n := range names {
		a.services = append(a.services, control.Service{Name: n, PID: 100 + i, State: control.StateReady})
	}
	return a
}

func (a *appliance) target() Target {
	return Target{
		Status: func() []control.Service {
			for i := range a.services {
				if s := &a.services[i]; s.State == control.StateWaiting && time.Since(s.Since) >= a.away {
					s.State, s.Since, s.PID = control.StateReady, s.Since.Add(a.away), s.PID+100
				}
			}
			return append([]control.Service(nil), a.services...)
		},
		Signal: func(pid int, sig syscall.Signal) error {
			for i := range a.services {
				s := &a.services[i]
				if s.PID == pid {
					a.signals = append(a.signals, fmt.Sprintf("%s %d", s.Name, sig))
				}
				if sig == syscall.SIGKILL && (s.PID == pid || s.Name == a.also) {
					s.State, s.Since = control.StateWaiting, time.Now()
					s.Restarts++
				}
			}
			return nil
		},
		Say: func(line string) { a.said = append(a.said, line) },
	}
}

func run(t *testing.T, a *appliance, value string) error {
	d, err := Parse(value)
	if err != nil {
		t.Fatal(err)
	}
	return d.Run(t.Context(), a.target())
}

func TestKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAppliance("zctrl", "mmr")
		if err := run(t, a, "kill:all:3@1s"); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(a.signals, ", "); got != "zctrl 9, zctrl 9, zctrl 9, mmr 9, mmr 9, mmr 9" {
			t.Errorf("signals: %s", got)
		}
		want := "mmr killed 3 times: ready again after 40 ms (p50), 40 ms (p99), 40 ms (longest); 0 starts failed; no other service noticed"
		if len(a.said) != 3 || a.said[1] != want {
			t.Errorf("said %q, want %q second of three", a.said, want)
		}
	})
}

func TestKillThatIsNotHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAppliance("zctrl", "mmr")
		a.away = time.Hour
		if err := run(t, a, "kill:mmr:1@1s"); err == nil || !strings.Contains(err.Error(), "not ready again") {
			t.Errorf("a service that stays away: %v", err)
		}
	})
}

func TestKillThatOthersNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAppliance("zctrl", "mmr")
		a.also = "zctrl"
		if err := run(t, a, "kill:mmr:1@1s"); err == nil || !strings.Contains(err.Error(), "zctrl ended too") {
			t.Errorf("a service that goes along: %v", err)
		}
	})
}

func TestStop(t *testing.T) {
	a := newAppliance("zctrl", "mmr")
	if err := run(t, a, "stop:mmr@1s"); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(a.signals, ", "); got != fmt.Sprintf("mmr %d", syscall.SIGSTOP) {
		t.Errorf("signals: %s", got)
	}
	if err := run(t, a, "stop:none@1s"); err == nil || !strings.Contains(err.Error(), `"none"`) {
		t.Errorf("no such service: %v", err)
	}
	a.services[1].PID, a.services[1].State = 0, control.StateStopped
	if err := run(t, a, "stop:mmr@1s"); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("a service without a process: %v", err)
	}
}

func TestEndOfContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := Drill{Kind: Kill, Service: "mmr", Rounds: 1}
	if err := d.Run(ctx, newAppliance("mmr").target()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

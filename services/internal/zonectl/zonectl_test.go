package zonectl

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/member"
)

// zone is a member whose state a test sets.
type zone struct {
	member.Zone
	state member.State
}

func (z *zone) State() member.State { return z.state }

// trials is what a member does for trial meetings.
type trials struct {
	list []member.Trial
	err  error
}

func (t *trials) NewTrial(topic string, now time.Time) (member.Trial, error) {
	if t.err != nil {
		return member.Trial{}, t.err
	}
	m := member.Trial{Meeting: "m1", Number: "123", Topic: topic, Host: "hostsecret", Guest: "guestsecret", Created: now, Expires: now.Add(time.Hour)}
	t.list = append(t.list, m)
	return m, nil
}

func (t *trials) Trials(time.Time) []member.Trial { return t.list }

func (t *trials) EndTrial(meeting string) error {
	if t.list = nil; meeting != "m1" {
		return member.ErrNoTrial
	}
	return nil
}

func (t *trials) TrialTicket(string, string, time.Time) (string, error) { return "", member.ErrNoTrial }

// serve answers as a service does, until the test ends; logs must have no code.
func serve(t *testing.T, answer func(Request) Answer) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(t.Context())
	var logs bytes.Buffer // read after the end
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, path, []uint32{uint32(os.Getuid())}, answer, slog.New(slog.NewTextHandler(&logs, nil)))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil || strings.Contains(logs.String(), "secret") {
			t.Errorf("%v, log %s", err, &logs)
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if i, err := os.Stat(path); err == nil && i.Mode().Perm() == 0o660 {
			return path
		}
		if time.Now().After(end) {
			t.Fatal("no socket")
		}
	}
}

func TestTrials(t *testing.T) {
	made := &trials{}
	path := serve(t, Answerer(&zone{state: member.State{Standalone: true}}, made))
	ctx := t.Context()
	a, err := Ask(ctx, path, Request{Op: OpNew, Topic: "Пробная", Host: "192.0.2.7:8443"})
	if err != nil || len(a.Trials) != 1 || a.State.Phase != Standalone {
		t.Fatalf("%+v, %v", a, err)
	}
	if m := a.Trials[0]; m.Topic != "Пробная" || m.Host != "https://192.0.2.7:8443/#trial=hostsecret" || m.Guest != "https://192.0.2.7:8443/#trial=guestsecret" || m.Number != "123" {
		t.Errorf("%+v", m)
	}
	if a, err := Ask(ctx, path, Request{Op: OpTrials, Host: "meet.example.com"}); err != nil || len(a.Trials) != 1 || a.Trials[0].Host != "https://meet.example.com/#trial=hostsecret" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := Ask(ctx, path, Request{Op: OpShow}); err != nil || len(a.Trials) != 0 {
		t.Errorf("who asks how the zone is learns of links: %+v, %v", a, err)
	}
	if _, err := Ask(ctx, path, Request{Op: OpEnd, Meeting: "m2"}); !errors.Is(err, ErrUnknown) {
		t.Errorf("another meeting: %v", err)
	}
	if _, err := Ask(ctx, path, Request{Op: OpEnd, Meeting: "m1"}); err != nil {
		t.Error(err)
	}
	if _, err := Ask(ctx, path, Request{Op: "secret"}); err == nil {
		t.Error("an operation that there is not")
	}
	for _, x := range []struct {
		err, want error
	}{{member.ErrPortal, ErrPortal}, {member.ErrTrials, ErrMany}} {
		made.err = x.err
		if _, err := Ask(ctx, path, Request{Op: OpNew}); !errors.Is(err, x.want) {
			t.Errorf("%v: %v", x.err, err)
		}
	}
	made.err = fault.New("topic", "long", 120)
	_, err = Ask(ctx, path, Request{Op: OpNew})
	if l := fault.Of(err); len(l) != 1 || l[0].Field != "topic" || l[0].Code != "long" || l[0].Args[0] != 120 {
		t.Errorf("%v", err)
	}
	made.err = errors.New("the disk")
	if _, err := Ask(ctx, path, Request{Op: OpNew}); err == nil || !strings.Contains(err.Error(), "the disk") {
		t.Errorf("%v", err)
	}
	if _, err := Ask(ctx, path+"-none", Request{Op: OpShow}); err == nil {
		t.Error("nobody answered")
	}
}

// A router appliance has a zone and no trial meetings.
func TestRouter(t *testing.T) {
	path := serve(t, Answerer(&zone{}, nil))
	if a, err := Ask(t.Context(), path, Request{Op: OpShow}); err != nil || a.State.Phase != NoToken {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := Ask(t.Context(), path, Request{Op: OpNew}); !errors.Is(err, ErrRole) {
		t.Error(err)
	}
	if Socket("router") == Socket("controller") {
		t.Error("one socket for both roles")
	}
}

func TestOf(t *testing.T) {
	since := time.Unix(1800000000, 0)
	cred, conf := &link.Credentials{Appliance: "a1"}, &link.Config{Zone: "Москва", Production: true}
	problem := &fault.Fault{Field: "token", Code: "member-refused", Args: []any{"x"}}
	token := member.State{}
	token.Settings.Token = "parley1.x"
	enrolling := token
	enrolling.Problem = problem
	linked := token
	linked.Credentials, linked.Config, linked.Connection = cred, conf, link.Connection{Connected: true, Portal: "wss://p", Since: since}
	unlinked := linked
	unlinked.Connection = link.Connection{Portal: "wss://p", Since: since, Problem: "no route", Why: link.WhyRevoked}
	for name, x := range map[string]struct {
		in   member.State
		want State
	}{
		"nothing":    {member.State{}, State{Phase: NoToken}},
		"standalone": {member.State{Standalone: true, Credentials: cred, Config: &link.Config{Zone: "standalone"}}, State{Phase: Standalone}},
		"enrolling":  {enrolling, State{Phase: Enrolling, Problem: &Problem{"member-refused", []any{"x"}}}},
		"linked":     {linked, State{Phase: Linked, Zone: "Москва", Appliance: "a1", Production: true, Portal: "wss://p", Since: since}},
		"unlinked":   {unlinked, State{Phase: Unlinked, Zone: "Москва", Appliance: "a1", Production: true, Portal: "wss://p", Since: since, Why: "revoked", Reason: "no route", NeedsToken: true}},
	} {
		if got := Of(x.in); !reflect.DeepEqual(got, x.want) {
			t.Errorf("%s: %+v, want %+v", name, got, x.want)
		}
	}
}

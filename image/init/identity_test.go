package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/perm"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/internal/durable"
)

const (
	uuidOne = "11111111-2222-3333-4444-555555555551"
	uuidTwo = "11111111-2222-3333-4444-555555555552"
)

// cloned is a machine whose disk was used in another one.
func cloned(t *testing.T) *machine {
	t.Helper()
	empty(t)
	m := newTestMachine(&perm.Fake{})
	for _, name := range []string{"network", "console-web"} {
		m.config.Services = append(m.config.Services, config.Service{Name: name, User: config.User{ID: 54322}})
	}
	m.makePermDirs()
	m.knowMachineAs(uuidOne)
	if m.Status().Machine != (control.Machine{}) {
		t.Fatalf("%+v", m.Status().Machine)
	}
	m.knowMachineAs(uuidTwo)
	return m
}

func (m *machine) refused(t *testing.T, answer control.Identity, code control.Code, words string) {
	t.Helper()
	err := m.answerIdentity(answer)
	var e *control.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, words) {
		t.Errorf("%v: want a refusal %s about %q", err, code, words)
	}
}

func TestCloned(t *testing.T) {
	m := cloned(t)
	st := m.Status().Machine
	if !st.Changed || st.Why != "uuid" || st.Was != uuidOne || st.Now != uuidTwo || time.Since(st.Since) > time.Hour {
		t.Errorf("%+v", st)
	}
	for i := range m.config.Services {
		s := &m.config.Services[i]
		if why := m.held(s); why != "" {
			t.Errorf("%s is held: %s", s.Name, why)
		}
		s.Unique = true
		if why := m.held(s); why != copyHold {
			t.Errorf("%s is not held: %q", s.Name, why)
		}
	}
	keep := []string{layout.CredentialDir + "/admin.json", layout.CredentialDir + "/accounts.json", layout.PermDir + "/network/network.json", layout.PermDir + "/console-web/settings.json"}
	remove := []string{
		layout.ConnectorDir + "/certificates/own/key.pem", layout.ConnectorDir + "/connector.json", layout.ConnectorDir + "/.connector.json.tmp",
		layout.PermDir + "/mmr/credentials-1.json", layout.PermDir + "/mmr/.config.json.tmp", layout.PermDir + "/console-web/key.pem", layout.PermDir + "/console-web/cert.pem", layout.PermDir + "/console-web/.key.pem.tmp",
		layout.PermDir + "/network/lease.json", layout.PermDir + "/network/.lease.json.tmp",
	}
	for _, name := range slices.Concat(keep, remove) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.answerIdentity(control.IdentityCopy); err != nil {
		t.Fatal(err)
	}
	for _, name := range keep {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range remove {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, want it gone", name, err)
		}
	}
	if m.Status().Machine != (control.Machine{}) {
		t.Errorf("after the answer: %+v", m.Status().Machine)
	}
	m.refused(t, control.IdentityCopy, control.CodeState, "nothing to answer")
	m.knowMachineAs(uuidTwo)
	if m.Status().Machine.Changed {
		t.Error("the next boot asks again")
	}
}

// The answer "same" removes nothing.
func TestSameMachine(t *testing.T) {
	m := cloned(t)
	path := layout.ConnectorDir + "/connector.json"
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.answerIdentity(control.IdentitySame); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil || m.Status().Machine.Changed {
		t.Errorf("%v, %+v", err, m.Status().Machine)
	}
}

// An answer that cannot be carried out leaves the question open.
func TestAnswerFails(t *testing.T) {
	m := cloned(t)
	end := durable.Fault(func(string) error { return errors.New("fault") })
	m.refused(t, control.IdentitySame, control.CodeFailed, layout.MachinePath)
	end()
	if !m.Status().Machine.Changed {
		t.Error("an answer that was not kept counts")
	}
	f := &perm.Fake{State: perm.Usage{ReadOnly: true}}
	m.perm = perm.New(f, slog.New(slog.DiscardHandler))
	m.refused(t, control.IdentitySame, control.CodeState, "repair it first")
}

// A file that cannot be read is told, holds nobody, and is replaced by the
// answer that the machine is the same.
func TestMachineFileDamaged(t *testing.T) {
	m := cloned(t)
	if err := os.WriteFile(layout.MachinePath, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.knowMachineAs(uuidTwo)
	if st := m.Status(); st.Machine.Changed || !strings.Contains(st.Perm.Message, "until it is answered that it is the same") {
		t.Errorf("%+v, %+v", st.Machine, st.Perm)
	}
	m.note("role", "the role is odd")
	if err := m.answerIdentity(control.IdentitySame); err != nil {
		t.Fatal(err)
	}
	if st := m.Status(); st.Perm.Message != "the role is odd" {
		t.Errorf("%+v", st.Perm)
	}
}

func TestHostnameAndClock(t *testing.T) {
	m := cloned(t) // the stage has a host name of its own
	was, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.setHostname(was); err != nil {
			t.Log(err)
		}
	}()
	if err := m.Do(t.Context(), control.Request{Op: control.OpHostname, Hostname: "zone-1.example"}); err != nil {
		t.Fatal(err)
	}
	if st := m.Status(); st.Hostname != "zone-1.example" {
		t.Errorf("host name %q", st.Hostname)
	}
	for _, bad := range []string{"", "-a", "a b", "10.0.0.1", strings.Repeat("a", 64), "a..b", "x\n"} {
		err := m.Do(t.Context(), control.Request{Op: control.OpHostname, Hostname: bad})
		var e *control.Error
		if !errors.As(err, &e) || e.Code != control.CodeInvalid || !strings.HasPrefix(e.Message, "hostname: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	m.clock.Clocks = noClock{}
	err = m.Do(t.Context(), control.Request{Op: control.OpClock, Clock: &control.Clock{Offset: time.Hour}})
	var e *control.Error
	if !errors.As(err, &e) || e.Code != control.CodeInvalid {
		t.Errorf("%v", err)
	}
}

// noClock is a machine whose clock a test must not touch.
type noClock struct{}

func (noClock) Now() time.Time             { return time.Now() }
func (noClock) Step(time.Duration) error   { return errors.New("step") }
func (noClock) Slew(time.Duration) error   { return errors.New("slew") }
func (noClock) Follow(time.Duration) error { return errors.New("follow") }
func (noClock) SaveRTC(time.Time) error    { return errors.New("RTC") }

// A new file system has nothing of the old machine's, so nothing is asked, and
// what was said about the old one is taken back.
func TestFormatAnswers(t *testing.T) {
	m := cloned(t)
	m.note("reset", "a factory reset waits")
	m.note("role", "the role is odd")
	f := &perm.Fake{}
	m.perm = perm.New(f, m.log)
	m.perm.Up()
	f.State.ReadOnly = true
	m.perm.Check()
	if !m.Status().Machine.Changed {
		t.Fatal("not a copy")
	}
	if err := os.RemoveAll(layout.PermDir); err != nil { // what the format does
		t.Fatal(err)
	}
	f.State.ReadOnly = false
	if err := m.Do(t.Context(), control.Request{Op: control.OpRepair, Repair: control.RepairFormat + perm.Confirmed}); err != nil {
		t.Fatal(err)
	}
	if st := m.Status(); st.Machine.Changed || st.Perm.Message != "" {
		t.Errorf("%+v, %+v", st.Machine, st.Perm)
	}
	m.knowMachineAs(uuidOne)
	if st := m.Status().Machine; !st.Changed || st.Was != uuidTwo {
		t.Errorf("the machine at the format is not remembered: %+v", st)
	}
}

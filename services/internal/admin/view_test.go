package admin_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
)

// ownMethods are what one who may only look may do, for himself; the rest that
// takes an Actor is refused to him.
var ownMethods = []string{"ChangePassword", "BeginTOTP", "ConfirmTOTP", "RemoveTOTP", "Note"}

// lookMethods take no Actor and change nothing.
var lookMethods = []string{"Network", "Connector", "Zone", "Login", "Stamp", "TokenActor", "Accounts", "Tokens", "Certificate", "Authorities", "System", "Logs", "Audit", "Notices"}

// call calls a method with an actor and empty values.
func call(t *testing.T, m reflect.Value, who admin.Actor) error {
	t.Helper()
	var in []reflect.Value
	for i := range m.Type().NumIn() {
		p := m.Type().In(i)
		switch {
		case p == reflect.TypeFor[context.Context]():
			in = append(in, reflect.ValueOf(t.Context()))
		case p == reflect.TypeFor[admin.Actor]():
			in = append(in, reflect.ValueOf(who))
		case p == reflect.TypeFor[io.Writer]():
			in = append(in, reflect.ValueOf(&bytes.Buffer{}))
		case p == reflect.TypeFor[func(string) error]():
			in = append(in, reflect.ValueOf(func(string) error { return nil }))
		default:
			in = append(in, reflect.Zero(p))
		}
	}
	out := m.Call(in)
	err, _ := out[len(out)-1].Interface().(error)
	return err
}

// One who may only look can change nothing, whatever the method; a method that
// is added to the interface is looked at here.
func TestViewChangesNothing(t *testing.T) {
	r := admintest.New(t)
	methods := reflect.TypeFor[admin.Administrator]()
	before := snapshot(t, r.Dir, r.ConnectorDir)
	denied := 0
	for i := range methods.NumMethod() {
		name := methods.Method(i).Name
		f := methods.Method(i).Type
		takes := false
		for j := range f.NumIn() {
			takes = takes || f.In(j) == reflect.TypeFor[admin.Actor]()
		}
		if takes == slices.Contains(lookMethods, name) {
			t.Errorf("%s: takes an Actor: %v; is it in the list of what only looks?", name, takes)
		}
		if !takes || slices.Contains(ownMethods, name) {
			continue
		}
		m := reflect.ValueOf(r.Admin).MethodByName(name)
		if !m.IsValid() {
			continue // the compiler asks for it where an Administrator is wanted
		}
		denied++
		for _, who := range []admin.Actor{admintest.Viewer, {}, {Name: "admin", Authority: "Operate", Via: "web"}} {
			if err := call(t, m, who); !errors.Is(err, admin.ErrDenied) {
				t.Errorf("%s by %+v: %v, want ErrDenied", name, who, err)
			}
		}
	}
	if denied < 20 {
		t.Errorf("%d methods were tried", denied)
	}
	if err := r.RemoveTOTP(t.Context(), admintest.Viewer, "admin"); !errors.Is(err, admin.ErrDenied) {
		t.Errorf("another's second factor: %v", err)
	}
	if asked := r.PID1.Asked(); len(asked) != 0 {
		t.Errorf("PID 1 was asked for %+v", asked)
	}
	if asked := r.Network.Asked(); len(asked) != 0 {
		t.Errorf("the network service was asked for %+v", asked)
	}
	if after := snapshot(t, r.Dir, r.ConnectorDir); !reflect.DeepEqual(after, before) {
		t.Errorf("files changed: %v", after)
	}
	entries, err := r.Audit(t.Context(), 0)
	if err != nil || len(entries) == 0 || entries[0].Error != admin.ErrDenied.Error() {
		t.Errorf("%+v, %v: want the refusals in the audit log", entries, err)
	}
	if len(entries) > 30 {
		t.Errorf("%d lines: one who may only look fills the log", len(entries))
	}
}

// snapshot returns the files that hold what was set.
func snapshot(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range dirs {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Name() == "lock" || e.Name() == "audit.jsonl" {
				continue
			}
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out[e.Name()] = string(b)
		}
	}
	return out
}

// When the storage is not writable, that is said, and nothing was done.
func TestReadOnly(t *testing.T) {
	for _, state := range []control.PermState{control.PermReadOnly, control.PermMissing} {
		r := admintest.New(t)
		r.PID1.Change(func(s *control.Status) { s.Perm.State = state })
		ctx, who := t.Context(), admintest.Operator
		before := snapshot(t, r.Dir, r.ConnectorDir)
		_, err1 := r.SetConnector(ctx, who, admin.ConnectorInput{})
		_, _, err2 := r.AddToken(ctx, who, admin.TokenInput{Title: "x", Authority: "view"})
		_, err3 := r.SetNetwork(ctx, who, r.Input(), false)
		_, err4 := r.BeginTOTP(ctx, who)
		err5 := r.AddAccount(ctx, who, admin.AccountInput{Name: "anna", Authority: "view", Password: "some other words"})
		for i, err := range []error{err1, err2, err3, err4, err5} {
			if !errors.Is(err, admin.ErrReadOnly) {
				t.Errorf("%s, %d: %v, want ErrReadOnly", state, i+1, err)
			}
		}
		if after := snapshot(t, r.Dir, r.ConnectorDir); !reflect.DeepEqual(after, before) || len(r.Network.Asked()) != 0 {
			t.Errorf("%s: something was done", state)
		}
		if _, _, err := r.Login(ctx, "admin", admintest.Password, ""); err != nil {
			t.Errorf("%s: the login: %v", state, err)
		}
	}
}

// PID 1 does not know yet that the disk went read-only: writing tells.
func TestReadOnlySuddenly(t *testing.T) {
	r := admintest.New(t)
	end := durable.Fault(func(step string) error {
		if step == "create" {
			return syscall.EROFS
		}
		return nil
	})
	defer end()
	_, err := r.SetConnector(t.Context(), admintest.Operator, admin.ConnectorInput{})
	if !errors.Is(err, admin.ErrReadOnly) {
		t.Errorf("%v, want ErrReadOnly", err)
	}
	in := admin.PasswordInput{Current: admintest.Password, New: words, Confirm: words}
	if err := r.ChangePassword(t.Context(), admintest.Operator, in); !errors.Is(err, admin.ErrReadOnly) {
		t.Errorf("%v, want ErrReadOnly", err)
	}
	if _, _, err := r.Login(t.Context(), "admin", admintest.Password, ""); err != nil {
		t.Errorf("the old password: %v", err)
	}
}

// One who may only look keeps his own password and second factor.
func TestViewOwn(t *testing.T) {
	r := admintest.New(t)
	ctx, vera := t.Context(), admintest.Viewer
	want(t, "add", r.AddAccount(ctx, admintest.Operator, admin.AccountInput{Name: vera.Name, Authority: "view", Password: words}), "")
	want(t, "change", r.ChangePassword(ctx, vera, admin.PasswordInput{Current: words, New: "vera's own words", Confirm: "vera's own words"}), "")
	setup, err := r.BeginTOTP(ctx, vera)
	if err != nil {
		t.Fatal(err)
	}
	code, err := account.Code(setup.Secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ConfirmTOTP(ctx, vera, code); err != nil {
		t.Fatal(err)
	}
	want(t, "remove", r.RemoveTOTP(ctx, vera, vera.Name), "")
	// A token is no account.
	token := admin.Actor{Name: "token 00112233", Authority: account.Operate, Via: "api"}
	if _, err := r.BeginTOTP(ctx, token); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("a second factor of a token: %v", err)
	}
	if err := r.ChangePassword(ctx, token, admin.PasswordInput{}); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("a password of a token: %v", err)
	}
}

package admin_test

import (
	"errors"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
)

func TestLogin(t *testing.T) {
	r := admintest.New(t)
	ctx := t.Context()
	a, stamp, err := r.Login(ctx, " Admin ", admintest.Password, "")
	if err != nil || a.Name != "admin" || a.MustChange || a.Generated || a.Set.IsZero() {
		t.Fatalf("%+v, %v", a, err)
	}
	if b, again, err := r.Stamp("admin"); err != nil || again != stamp || b != a {
		t.Errorf("%+v %v %v, want what the login told", b, again, err)
	}
	for _, x := range [][2]string{{"admin", "wrong"}, {"nobody", admintest.Password}, {"", ""}, {"admin\x00", admintest.Password}} {
		if _, _, err := r.Login(ctx, x[0], x[1], ""); !errors.Is(err, admin.ErrWrong) {
			t.Errorf("%q: %v, want ErrWrong", x, err)
		}
	}
	if _, _, err := r.Stamp("nobody"); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("%v, want ErrUnknown", err)
	}
}

// A new appliance: the generated password is good until one is set, and only to
// set one.
func TestFirstLogin(t *testing.T) {
	r := admintest.Fresh(t)
	ctx := t.Context()
	if err := errors.Join(r.Keeper.Load(), r.Keeper.Publish(ctx, time.Now())); err != nil {
		t.Fatal(err)
	}
	plain := r.Keeper.Plain()
	a, stamp, err := r.Login(ctx, "admin", plain, "")
	if err != nil || !a.Generated || !a.MustChange {
		t.Fatalf("%+v, %v, want one who must change his password", a, err)
	}
	in := admin.PasswordInput{Current: plain, New: admintest.Password, Confirm: admintest.Password}
	if err := r.ChangePassword(ctx, admintest.Operator, in); err != nil {
		t.Fatal(err)
	}
	if b, now, err := r.Stamp("admin"); err != nil || now == stamp || b.MustChange || b.Generated {
		t.Errorf("%+v, %v: want another stamp and nothing to change", b, err)
	}
	if _, _, err := r.Login(ctx, "admin", plain, ""); !errors.Is(err, admin.ErrWrong) {
		t.Errorf("the generated password: %v, want ErrWrong", err)
	}
	if _, _, err := r.Login(ctx, "admin", admintest.Password, ""); err != nil {
		t.Error(err)
	}
}

// failing makes a step of every durable write fail, until end.
func failing(name string) (end func()) {
	return durable.Fault(func(step string) error {
		if step == name {
			return errors.New("broken disk")
		}
		return nil
	})
}

package link_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/link"
)

// Credentials come back as they were kept, from a file of their owner's.
func TestKeep(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	r := newRig(t, "", 1)
	one, two := r.enrol("c1", link.Controller).kept, r.enrol("c2", link.Controller).kept
	path := filepath.Join(t.TempDir(), "link.json")
	if _, err := link.ReadCredentials(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	for _, c := range []link.Credentials{one, two} {
		if err := c.Write(path); err != nil {
			t.Fatal(err)
		}
		got, err := link.ReadCredentials(path)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v %v", got, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v %v", info.Mode(), err)
		}
	}

	// A write that fails at any step leaves what was there, or what is new: whole.
	for _, fail := range durable.Steps {
		if err := one.Write(path); err != nil {
			t.Fatal(err)
		}
		end := durable.Fault(func(step string) error {
			if step == fail {
				return syscall.ENOSPC
			}
			return nil
		})
		err := two.Write(path)
		end()
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", fail, err)
		}
		if got, err := link.ReadCredentials(path); err != nil || got.Appliance != one.Appliance && (fail != "fsync directory" || got.Appliance != two.Appliance) {
			t.Errorf("%s: %v %v", fail, got.Appliance, err)
		}
	}

	// Whoever reads meanwhile sees the one or the other.
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for i := range 100 {
			if err := []link.Credentials{one, two}[i%2].Write(path); err != nil {
				t.Error(err)
			}
		}
	})
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		if _, err := link.ReadCredentials(path); err != nil {
			t.Error(err)
			break
		}
	}
	wg.Wait()

	// What cannot be used is not kept in place of what can.
	for name, spoil := range map[string]func(*link.Credentials){
		"key":         func(c *link.Credentials) { c.Key = two.Key },
		"certificate": func(c *link.Credentials) { c.Certificate = "" },
		"authority":   func(c *link.Credentials) { c.Authority = "x" },
		"portal":      func(c *link.Credentials) { c.Portals = []string{"ws://portal.example/link"} },
		"no portal":   func(c *link.Credentials) { c.Portals = nil },
	} {
		c := one
		spoil(&c)
		if err := c.Write(path); err == nil {
			t.Errorf("%s: kept", name)
		}
	}
	if _, err := link.ReadCredentials(path); err != nil {
		t.Error(err)
	}
}

// A file that was torn or changed is told from a good one, wherever that was,
// and from one that others can read; the message says what to do.
func TestKeepDamaged(t *testing.T) {
	r := newRig(t, "", 1)
	c := r.enrol("c1", link.Controller).kept
	path := filepath.Join(t.TempDir(), "link.json")
	if err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := link.ReadCredentials(path)
		var d *link.DamagedError
		if !errors.As(err, &d) || !strings.Contains(err.Error(), "with a token") {
			t.Fatalf("%s: %v", what, err)
		}
		if strings.Contains(err.Error(), c.Key[40:60]) {
			t.Fatalf("%s: the error has the key", what)
		}
	}
	end := len(good) - 1 // without the line's end it is whole
	for n := 0; n < end; n += 7 {
		damaged("cut", good[:n])
		// A file system that writes lengths before contents leaves zeros.
		damaged("zeros", append(append([]byte(nil), good[:n]...), make([]byte, len(good)-n)...))
		flipped := append([]byte(nil), good...)
		flipped[n] ^= 1
		damaged("a bit", flipped)
	}
	damaged("empty", nil)
	damaged("long", make([]byte, 1<<20))
	damaged("newer", []byte(`{"version":2,"credentials":{},"sum":""}`))
	damaged("twice", append(append([]byte(nil), good...), good...))

	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var d *link.DamagedError
		if _, err := link.ReadCredentials(path); err == nil || errors.As(err, &d) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("%04o: %v", mode, err)
		}
	}
}

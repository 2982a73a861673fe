package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/internal/durable"
)

const (
	one   = "11111111-2222-3333-4444-555555555551"
	two   = "11111111-2222-3333-4444-555555555552"
	three = "11111111-2222-3333-4444-555555555553"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestUUID(t *testing.T) {
	sys := t.TempDir()
	if id, err := UUID(sys); id != "" || err != nil {
		t.Errorf("no SMBIOS: %q, %v", id, err)
	}
	dir := filepath.Join(sys, "class/dmi/id")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{
		one + "\n": one, "ABCDEF01-2222-3333-4444-55555555555F\n": "abcdef01-2222-3333-4444-55555555555f",
		"": "", "\n": "", "00000000-0000-0000-0000-000000000000\n": "", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n": "",
		"03000200-0400-0500-0006-000700080009\n": "",
	} {
		if err := os.WriteFile(dir+"/product_uuid", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := UUID(sys); id != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", content, id, err, want)
		}
	}
	for _, bad := range []string{"x", one + "0", strings.Repeat("1", 5000), "\x00"} {
		if err := os.WriteFile(dir+"/product_uuid", []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := UUID(sys); id != "" || err == nil || len(err.Error()) > 300 {
			t.Errorf("%.40q: %q, %v", bad, id, err)
		}
	}
}

// The story of a disk: each boot is a Keeper of its own.
func TestMachines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "machine.json")
	boot := func(uuid string, writable bool, at time.Time) *Keeper {
		t.Helper()
		k, err := Open(path, uuid, writable, at)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	same := func(k *Keeper, when string) {
		t.Helper()
		if k.Machine() != (control.Machine{}) || k.Asks() {
			t.Errorf("%s: %+v", when, k.Machine())
		}
	}
	changed := func(k *Keeper, was, now string, since time.Time) {
		t.Helper()
		want := control.Machine{Changed: true, Why: "uuid", Was: was, Now: now, Since: since}
		if got := k.Machine(); got != want || !k.Asks() {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	same(boot("", true, noon), "a machine without a UUID")
	same(boot(one, false, noon), "the first boot, nothing is kept")
	same(boot(two, true, noon), "so this is the first that is remembered")
	same(boot(two, true, noon), "the second boot")
	same(boot("", true, noon), "the UUID is gone")
	changed(boot(one, false, noon), two, one, noon)
	changed(boot(one, true, noon.Add(time.Hour)), two, one, noon.Add(time.Hour))
	changed(boot(one, true, noon.Add(2*time.Hour)), two, one, noon.Add(time.Hour)) // it stays so
	same(boot("", true, noon), "unknown in between")
	changed(boot(three, true, noon.Add(3*time.Hour)), two, three, noon.Add(3*time.Hour))
	same(boot(two, true, noon), "back again")
	changed(boot(three, true, noon.Add(4*time.Hour)), two, three, noon.Add(4*time.Hour))
	k := boot(three, true, noon)
	if err := k.Remember(); err != nil {
		t.Fatal(err)
	}
	same(k, "after the answer")
	same(boot(three, true, noon), "the boot after the answer")
	changed(boot(two, true, noon), three, two, noon)
}

func TestBadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "machine.json")
	for _, bad := range []string{"", "{}", `{"version":2}`, `{"version":1,"uuid":""}`, `{"version":1,"uuid":"` + one + `","x":1}`, `{"version":1,"uuid":"` + one + `","pending":{"uuid":"x","since":"2026-01-01T00:00:00Z"}}`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := Open(path, one, true, noon)
		if err == nil || k.Machine().Changed || !k.Asks() {
			t.Errorf("%s: %v, %+v", bad, err, k.Machine())
		}
		if b, _ := os.ReadFile(path); string(b) != bad {
			t.Errorf("%s was replaced by %s", bad, b)
		}
		if err := k.Remember(); err != nil || k.Asks() {
			t.Error(err)
		}
		if k, err := Open(path, one, true, noon); err != nil || k.Asks() {
			t.Errorf("after the answer: %v", err)
		}
	}
}

// What cannot be written is told, and asked about all the same.
func TestWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "machine.json")
	if _, err := Open(path, one, true, noon); err != nil {
		t.Fatal(err)
	}
	defer durable.Fault(func(s string) error {
		if s == "write" {
			return errors.New("fault")
		}
		return nil
	})()
	k, err := Open(path, two, true, noon)
	if err == nil || !k.Machine().Changed {
		t.Errorf("%v, %+v", err, k.Machine())
	}
	if err := k.Remember(); err == nil || !k.Machine().Changed {
		t.Errorf("%v, %+v", err, k.Machine())
	}
}

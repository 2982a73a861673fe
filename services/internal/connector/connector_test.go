package connector

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/statefile"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func full() Settings {
	s := New()
	s.Token = "token-0123456789-zyxw"
	s.ZoneController, s.Router, s.OtherZoneController = addr("192.0.2.1"), addr("192.0.2.2"), addr("198.51.100.1")
	s.PublicName = "meet.example.com"
	s.External = []External{{addr("192.0.2.1"), addr("203.0.113.1")}, {addr("2001:db8::1"), addr("2001:db8::2")}}
	s.Limit = 350
	return s
}

// What one process saves the others read, and nobody else does.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	f := File(statefile.New(dir))
	if _, err := f.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want %v", err, fs.ErrNotExist)
	}
	want := full()
	if _, err := f.Change(t.Context(), New(), func(s *Settings) error { *s = want; return nil }); err != nil {
		t.Fatal(err)
	}
	if got, err := File(statefile.New(dir)).Read(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if info, err := os.Stat(f.Path()); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if a := want.Outside(addr("192.0.2.1")); a != addr("203.0.113.1") {
		t.Error(a)
	}
	if a := want.Outside(addr("192.0.2.2")); a != addr("192.0.2.2") {
		t.Error(a)
	}
}

// Nothing is taken that the consoles would not have saved.
func TestDamaged(t *testing.T) {
	f := File(statefile.New(t.TempDir()))
	for what, change := range map[string]func(*Settings){
		"a newer version":       func(s *Settings) { s.Version = 2 },
		"a short token":         func(s *Settings) { s.Token = "short" },
		"a long token":          func(s *Settings) { s.Token = strings.Repeat("x", MaxToken+1) },
		"a token with blanks":   func(s *Settings) { s.Token = "token of the portal" },
		"no host":               func(s *Settings) { s.Router = addr("127.0.0.1") },
		"no name":               func(s *Settings) { s.PublicName = "a b" },
		"too many pairs":        func(s *Settings) { s.External = make([]External, MaxExternal+1) },
		"an address of nowhere": func(s *Settings) { s.External[0].External = addr("224.0.0.1") },
		"two families":          func(s *Settings) { s.External[0].External = addr("2001:db8::3") },
		"a zone":                func(s *Settings) { s.External[1].Local = addr("fe80::1%eth0") },
		"a limit of one":        func(s *Settings) { s.Limit = 1 },
		"a limit below none":    func(s *Settings) { s.Limit = -1 },
		"a limit of too many":   func(s *Settings) { s.Limit = MaxLimit + 1 },
		"half a pair":           func(s *Settings) { s.External[0].Local = netip.Addr{} },
	} {
		s := full()
		change(&s)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Parse(b); err == nil {
			t.Errorf("%s is taken: %s", what, b)
		} else if s.Token != "" && strings.Contains(err.Error(), s.Token) {
			t.Errorf("%s: the error tells the token", what)
		}
	}
}

// Whoever was told no limit takes the default one, and the bounds themselves are
// taken.
func TestLimit(t *testing.T) {
	f := File(statefile.New(t.TempDir()))
	for text, want := range map[string]int{
		`{"version":1,"external":[]}`:                DefaultLimit,
		`{"version":1,"external":[],"limit":0}`:      DefaultLimit,
		`{"version":1,"external":[],"limit":2}`:      2,
		`{"version":1,"external":[],"limit":100000}`: MaxLimit,
	} {
		if s, err := f.Parse([]byte(text)); err != nil || s.Participants() != want {
			t.Errorf("%s: %d, %v, want %d", text, s.Participants(), err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, err := json.Marshal(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"external":null}`))
	file := File(statefile.New(f.TempDir()))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := file.Parse(b)
		if err != nil {
			return
		}
		if len(s.Token) > MaxToken || len(s.External) > MaxExternal || s.Participants() < MinLimit || s.Participants() > MaxLimit {
			t.Fatalf("%+v", s)
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if two, err := file.Parse(again); err != nil || !reflect.DeepEqual(s, two) {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

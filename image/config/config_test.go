package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/layout"
)

var update = flag.Bool("update", false, "write the .txt files of testdata/bad anew")

const shipped = "../../config.json"

func TestShipped(t *testing.T) {
	c, err := Load(shipped)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Services) == 0 || c.Services[0].Name != "network" || !c.Services[0].Essential {
		t.Errorf("first service is %+v, want network, essential", c.Services)
	}
	if !c.HasFirmware(BIOS) || !c.HasFirmware(UEFI) {
		t.Errorf("firmware %q, want both", c.Boot.Firmware)
	}
	for _, s := range c.Services {
		if want := s.Name != "zctrl"; s.RunsIn(RoleRouter) != want {
			t.Errorf("%s runs on routers: %v, want %v", s.Name, !want, want)
		}
	}
}

// The portal's image has the same base and no part of a zone; the appliance's has
// no portal, whose program is large.
func TestPortal(t *testing.T) {
	c, err := Load("../../portal.json")
	if err != nil {
		t.Fatal(err)
	}
	z, err := Load(shipped)
	if err != nil {
		t.Fatal(err)
	}
	if c.Role != RolePortal || !c.HasRole(RolePortal) || c.HasRole(RoleController) || c.HasRole(RoleRouter) || z.HasRole(RolePortal) {
		t.Errorf("the portal's role is %q; portal.json has portal %v, controller %v, router %v, config.json has portal %v",
			c.Role, c.HasRole(RolePortal), c.HasRole(RoleController), c.HasRole(RoleRouter), z.HasRole(RolePortal))
	}
	base := c.Services[:len(c.Services)-1]
	for i, s := range base {
		want := z.Services[i]
		want.Roles = s.Roles
		// The appliance's image has the programs in one file, the portal's in files
		// of their own.
		if program := want.Arguments[0]; want.Package == "./services/appliance" {
			want.Package, want.Arguments = "./services/"+program, append([]string(nil), want.Arguments[1:]...)
		}
		if !reflect.DeepEqual(s, want) {
			t.Errorf("%s is\n%+v\nin portal.json and\n%+v\nin config.json", s.Name, s, want)
		}
	}
	p := c.Services[len(base)]
	for _, s := range z.Services {
		if s.Package == p.Package || s.User.ID == p.User.ID {
			t.Errorf("%s of config.json has the package or the user of the portal", s.Name)
		}
	}
	if len(p.Capabilities) != 0 || p.Control != "" || len(p.User.Groups) != 0 || len(p.Access.Write) != 0 || p.Access.ConnectAny {
		t.Errorf("the portal may more than it needs: %+v", p)
	}
	id := func(name string) uint32 {
		return base[slices.IndexFunc(base, func(s Service) bool { return s.Name == name })].User.ID
	}
	if want := []string{"-appliance", fmt.Sprintf("%d,%d", id("console-serial"), id("console-web"))}; !slices.Equal(p.Arguments, want) {
		t.Errorf("the portal is called with %q, want the consoles' users: %q", p.Arguments, want)
	}
}

// The zone controller and the router answer the consoles and each other, by their
// users: the numbers in their arguments are those of config.json.
func TestPeers(t *testing.T) {
	c, err := Load(shipped)
	if err != nil {
		t.Fatal(err)
	}
	find := func(name string) Service {
		return c.Services[slices.IndexFunc(c.Services, func(s Service) bool { return s.Name == name })]
	}
	consoles := fmt.Sprintf("%d,%d", find("console-serial").User.ID, find("console-web").User.ID)
	for name, want := range map[string][]string{
		"zctrl": {"controller", "-consoles", consoles, "-router", fmt.Sprint(find("mmr").User.ID)},
		"mmr":   {"router", "-consoles", consoles, "-controller", fmt.Sprint(find("zctrl").User.ID)},
	} {
		if got := find(name).Arguments; !slices.Equal(got, want) {
			t.Errorf("%s is called with %q, want %q", name, got, want)
		}
	}
	for _, s := range c.Services {
		connects := slices.Contains(s.User.Groups, layout.ConnectorGroup)
		if connects != (s.Name != "network") {
			t.Errorf("%s is in the connector's group: %v", s.Name, connects)
		}
	}
}

// Each bad file's error is, word for word, in the .txt beside it.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.json")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d bad files (%v), want at least 40", len(files), err)
	}
	told := make(map[string]string)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		c, err := Decode(name, data)
		if err == nil {
			t.Errorf("%s: decoded to %+v, want an error", name, c)
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.File != name || e.Problem == "" || e.Line == 0 {
			t.Errorf("%s: error %#v, want an *Error with file, line and problem", name, err)
			continue
		}
		got := err.Error() + "\n"
		if len(got) > 300 || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: the error is not one line of readable length: %q", name, got)
		}
		golden := strings.TrimSuffix(file, "json") + "txt"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\n got %swant %s", name, got, want)
		}
		_, text, _ := strings.Cut(got, ".json")
		if other, ok := told[text]; ok {
			t.Errorf("%s and %s test one thing: %s", other, name, text)
		}
		told[text] = name
	}
}

// The good file stands at the bounds; its error-free neighbours are the bad ones.
func TestGood(t *testing.T) {
	c, err := Load("testdata/good.json")
	if err != nil {
		t.Fatal(err)
	}
	want := Service{
		Name: "first", Title: "the first", Package: "./services/first",
		Arguments:    []string{"-greeting", `a "b" <c>`},
		User:         User{Name: "first", ID: 1, Groups: []uint32{110}},
		Capabilities: []string{"NET_BIND_SERVICE"},
		Roles:        []string{RoleRouter},
		Essential:    true,
		Control:      ControlRead,
		Terminals:    []string{"tty63"},
		MemoryMiB:    1 << 20,
		Files:        64,
		Ready:        Duration(100 * time.Millisecond),
		Stop:         Duration(10 * time.Minute),
		Restart:      Restart{Duration(time.Second), Duration(time.Second), Duration(24 * time.Hour)},
		Access: Access{
			Read: []string{"/proc"}, Write: []string{"/perm/parley/first"},
			Bind: []uint16{1, 65535}, Connect: []uint16{80},
		},
	}
	if got := c.Services[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := c.Services[1].Ready.Or(DefaultReady); got != DefaultReady {
		t.Errorf("absent deadline stands for %v, want %v", got, DefaultReady)
	}
}

func change(t *testing.T, old, new string) (*Config, error) {
	t.Helper()
	data, err := os.ReadFile("testdata/good.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(old)) {
		t.Fatalf("testdata/good.json has no %s", old)
	}
	return Decode("good.json", bytes.Replace(data, []byte(old), []byte(new), 1))
}

// What is allowed and close to something that is not.
func TestAllowed(t *testing.T) {
	for _, x := range []struct{ old, new string }{
		{`"a.example"`, `"` + strings.Repeat("a", 63) + `"`},
		{`"a.example"`, `"1a.2b"`},
		{`"cpus": 64`, `"cpus": 1`},
		{`"channel": "stable", "keys": ["1000000000000000000000000000000000000000000="]`, `"channel": "development", "keys": []`},
		{`["bios", "uefi"]`, `["uefi"]`},
		{`["quiet"]`, `["initcall_debug", "rootless", "a=b=c"]`},
		{`"boot.efi"`, `"/usr/lib/boot.efi"`},
		{`"boot.efi"`, `"../boot.efi"`},
		{`"boot.efi"`, `"C:\\boot.efi"`},
		{`["/perm/parley/first"]`, `["/perm/parley/console", "/run/parley/console"]`},
		{`["/perm/parley/first"]`, `["/permanent", "/run/other"]`},
		{`["NET_BIND_SERVICE"]`, `["NET_BIND_SERVICE", "SYS_TIME"]`},
		{`"bind": [1, 65535]`, `"bind": []`},
		{`"connect": [80]`, `"connectAny": true`},
		{`"connect": [80]`, `"connectAny": false, "connect": [80]`},
		{`"control": "read"`, `"control": "clock", "unique": true`},
		{`"baud": 9600`, `"baud": 9600, "recovery": false`},
		{`, "write": ["/perm/parley/first"]`, ``},
		{`{ "min": "1s", "max": "1s", "calm": "24h" }`, `{}`},
		{`{ "min": "1s", "max": "1s", "calm": "24h" }`, `{ "min": "30s" }`},
		{"\n", "\r\n"},
	} {
		if _, err := change(t, x.old, x.new); err != nil {
			t.Errorf("%s for %s: %v", x.new, x.old, err)
		}
	}
}

func TestDiskBound(t *testing.T) {
	least := (layout.MinDiskSize + layout.MiB - 1) / layout.MiB
	for _, x := range []struct {
		mib int64
		ok  bool
	}{{least, true}, {least - 1, false}, {2 << 20, true}, {2<<20 + 1, false}} {
		b, _ := json.Marshal(x.mib)
		c, err := change(t, `"diskMiB": 2097152`, `"diskMiB": `+string(b))
		if (err == nil) != x.ok {
			t.Errorf("%d MiB: %v", x.mib, err)
			continue
		}
		if err == nil {
			if _, err := layout.Partitions(int64(c.Hardware.DiskMiB) * layout.MiB); err != nil {
				t.Errorf("%d MiB is taken but cannot be laid out: %v", x.mib, err)
			}
		}
	}
}

// The first problem in the file is told, whichever check finds it.
func TestFirstInFile(t *testing.T) {
	data, err := os.ReadFile("testdata/good.json")
	if err != nil {
		t.Fatal(err)
	}
	s := string(data)
	s = strings.Replace(s, `"baud": 9600`, `"baud": 1`, 1)
	s = strings.Replace(s, `"role": "router"`, `"role": "?"`, 1)
	_, err = Decode("x", []byte(s))
	var e *Error
	if !errors.As(err, &e) || e.Field != "role" || e.Line != 4 || e.Column != 11 {
		t.Errorf("got %v, want the problem of role in line 4, column 11", err)
	}
}

func TestSize(t *testing.T) {
	data, err := os.ReadFile("testdata/good.json")
	if err != nil {
		t.Fatal(err)
	}
	data = append(data, bytes.Repeat([]byte(" "), MaxSize-len(data))...)
	if _, err := Decode("x", data); err != nil {
		t.Errorf("%d bytes: %v", len(data), err)
	}
	path := filepath.Join(t.TempDir(), "c.json")
	if err := os.WriteFile(path, append(data, ' '), 0o644); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := Load(path); !errors.As(err, &e) || e.File != path || e.Line != 0 {
		t.Errorf("%d bytes: %v, want an *Error for the whole file", len(data)+1, err)
	}
	if _, err := Load(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v, want ErrNotExist", err)
	}
}

func TestCanonical(t *testing.T) {
	for _, file := range []string{shipped, "testdata/good.json"} {
		c, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c)
	}
	c, err := Load("testdata/good.json")
	if err != nil {
		t.Fatal(err)
	}
	c.Update = Update{Channel: ChannelDevelopment}
	c.Kernel.Arguments = nil
	if _, err := c.Canonical(); err != nil {
		t.Errorf("empty lists: %v", err)
	}
	if c.Update.Keys != nil || c.Kernel.Arguments != nil {
		t.Error("Canonical changed its receiver")
	}
	c.Hostname = ""
	var e *Error
	if b, err := c.Canonical(); !errors.As(err, &e) || e.Field != "hostname" {
		t.Errorf("no host name: %v, %q; want an error", err, b)
	}
}

// roundTrip checks that the canonical form means the same and is its own.
func roundTrip(t *testing.T, c *Config) {
	t.Helper()
	b, err := c.Canonical()
	if err != nil {
		t.Fatalf("canonical form of a decoded value: %v", err)
	}
	again, err := Decode("again", b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, again) {
		t.Fatalf("canonical form means another value:\n%+v\n%+v", c, again)
	}
	if b2, err := again.Canonical(); err != nil || !bytes.Equal(b, b2) {
		t.Fatalf("canonical form is not stable: %v\n%s\n%s", err, b, b2)
	}
}

// The console's holder may reset the password unless the file says no, and the
// canonical form says the same.
func TestRecovery(t *testing.T) {
	for field, off := range map[string]bool{``: false, `, "recovery": true`: false, `, "recovery": false`: true} {
		c, err := change(t, `"baud": 9600`, `"baud": 9600`+field)
		if err != nil {
			t.Fatal(err)
		}
		if bool(c.Serial.NoRecovery) != off {
			t.Errorf("%q: off is %v", field, c.Serial.NoRecovery)
		}
		roundTrip(t, c)
		b, err := c.Canonical()
		if said := bytes.Contains(b, []byte(`"recovery": false`)); err != nil || said != off || bytes.Contains(b, []byte(`"recovery": true`)) {
			t.Errorf("%q is written as %s, %v", field, b, err)
		}
	}
}

func TestDuration(t *testing.T) {
	type holder struct{ D Duration }
	b, err := json.Marshal(holder{Duration(1500 * time.Millisecond)})
	if err != nil || string(b) != `{"D":"1.5s"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var h holder
	if err := json.Unmarshal(b, &h); err != nil || h.D != Duration(1500*time.Millisecond) {
		t.Errorf("%v, %v", h, err)
	}
	for _, bad := range []string{`{"D":1500}`, `{"D":"1500"}`, `{"D":""}`, `{"D":"9999999h"}`, `{"D":true}`} {
		if err := json.Unmarshal([]byte(bad), &h); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// Every field that the decoder may meet has a kind it knows and a name.
func TestSchema(t *testing.T) {
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, path string) {
		switch {
		case typ == durationType:
		case typ.Kind() == reflect.Slice:
			walk(typ.Elem(), path+"[]")
		case typ.Kind() == reflect.Struct:
			for _, f := range fields(typ) {
				if f.name == "" {
					t.Errorf("%s.%s has no JSON name", path, typ.Field(f.index).Name)
				}
				walk(typ.Field(f.index).Type, join(path, f.name))
			}
		default:
			switch typ.Kind() {
			case reflect.Int, reflect.Uint16, reflect.Uint32, reflect.String, reflect.Bool:
			default:
				t.Errorf("%s is a %s, which decoder.value does not know", path, typ)
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
}

func FuzzDecode(f *testing.F) {
	for _, pattern := range []string{shipped, "testdata/*.json", "testdata/bad/*.json"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal(pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode("fuzz", data)
		if err == nil {
			roundTrip(t, c)
			return
		}
		var e *Error
		if c != nil || !errors.As(err, &e) {
			t.Fatalf("%v, %v: want an *Error alone", c, err)
		}
		if lines := bytes.Count(data, []byte("\n")) + 1; e.Line > lines {
			t.Fatalf("line %d of %d: %v", e.Line, lines, err)
		}
		if len(err.Error()) > 1000 {
			t.Fatalf("error of %d bytes", len(err.Error()))
		}
	})
}

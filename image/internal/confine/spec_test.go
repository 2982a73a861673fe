package confine

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

var unixCredential = syscall.Credential{Uid: testUser, Gid: testUser}

func TestDecode(t *testing.T) {
	want := &Spec{
		Path: "/services/x", Args: []string{"-a"}, Env: []string{"A=b"}, UID: 1, GID: 2, Groups: []uint32{3}, Caps: []string{"NET_RAW"},
		Files: 4, Processes: 5, OOMScoreAdj: -6, Read: []string{"/r"}, Write: []string{"/w"}, Devices: []string{"/d"},
		Sockets: []string{"/s"}, Bind: []uint16{443}, Connect: []uint16{65535}, ConnectAny: true, Umask: 0o22,
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(bytes.NewReader(append(b, '\n')))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	long := strings.Replace(string(b), `"-a"`, `"`+strings.Repeat("x", MaxSpec-len(b)+2)+`"`, 1)
	if _, err := Decode(strings.NewReader(long)); err != nil || len(long) != MaxSpec {
		t.Errorf("%d bytes, the most that is allowed: %v", len(long), err)
	}
	if _, err := Decode(strings.NewReader(long + " ")); err == nil || !strings.Contains(err.Error(), "longer than 65536 bytes") {
		t.Errorf("a byte more: %v", err)
	}
	for bad, want := range map[string]string{
		"":                                    "EOF",
		"{}":                                  `path "" is not absolute`,
		"null":                                "not absolute",
		"[]":                                  "cannot unmarshal",
		`{"path":"x","uid":1,"gid":1}`:        `path "x" is not absolute`,
		`{"path":"/x","uid":0,"gid":1}`:       "user 0, group 1: a service is never root",
		`{"path":"/x","uid":1,"gid":0}`:       "never root",
		`{"path":"/x","uid":-1,"gid":1}`:      "cannot unmarshal",
		`{"path":"/x","uid":1,"gid":1,"a":1}`: `unknown field "a"`,
		`{"path":"/x","uid":1,"gid":1}x`:      "more than one value",
		`{"path":"/x","uid":1,"gid":1}{}`:     "more than one value",
		`{"path":"/x","uid":1,"gid":1`:        "unexpected EOF",
		`{"path":"/x","bind":[65536]}`:        "cannot unmarshal",
	} {
		if s, err := Decode(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), want) || s != nil {
			t.Errorf("%q: %+v, %v; want an error about %q", bad, s, err, want)
		}
	}
	fault := errors.New("fault")
	if _, err := Decode(iotest.ErrReader(fault)); !errors.Is(err, fault) {
		t.Errorf("%v, want the reader's error", err)
	}
}

// Whatever stands on the descriptor, a spec that is taken is not root's and has
// an absolute path, and says the same when it is written again.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"", "{}", "null", `{"path":"/x","uid":1,"gid":1}`, `{"path":"/x","uid":4294967295,"gid":1,"bind":[1,65535]}`,
		`{"PATH":"/x","uid":1,"gid":1,"caps":["NET_RAW"],"groups":[0]}`, `{"path":"/x","uid":1,"gid":1}{}`,
		`{"path":"/\ud800","uid":1,"gid":1,"oomScoreAdj":-9223372036854775808}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(bytes.NewReader(b))
		if err != nil {
			return
		}
		if s.UID == 0 || s.GID == 0 || !strings.HasPrefix(s.Path, "/") {
			t.Fatalf("taken: %+v", s)
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > MaxSpec {
			return // JSON may spell it longer
		}
		if s2, err := Decode(bytes.NewReader(again)); err != nil || !reflect.DeepEqual(s, s2) {
			t.Fatalf("%+v, then %+v, %v", s, s2, err)
		}
	})
}

// The names stand in the order of the kernel's numbers.
func TestCapabilityNames(t *testing.T) {
	for name, n := range map[string]int{
		"CHOWN": unix.CAP_CHOWN, "KILL": unix.CAP_KILL, "SETPCAP": unix.CAP_SETPCAP, "NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE,
		"NET_ADMIN": unix.CAP_NET_ADMIN, "NET_RAW": unix.CAP_NET_RAW, "SYS_ADMIN": unix.CAP_SYS_ADMIN, "SYS_TIME": unix.CAP_SYS_TIME,
		"SYS_TTY_CONFIG": unix.CAP_SYS_TTY_CONFIG, "SETFCAP": unix.CAP_SETFCAP, "SYSLOG": unix.CAP_SYSLOG, "BPF": unix.CAP_BPF,
		"CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE,
	} {
		if got, err := capabilities([]string{name}); err != nil || got != 1<<n {
			t.Errorf("%s: %#x, %v; want bit %d", name, got, err, n)
		}
	}
	if len(names) != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d names, want %d", len(names), unix.CAP_LAST_CAP+1)
	}
	if got, err := capabilities(nil); got != 0 || err != nil {
		t.Errorf("none: %#x, %v", got, err)
	}
}

// What each ABI controls, after the kernel's Documentation/userspace-api/landlock.
func TestHandled(t *testing.T) {
	for _, x := range []struct {
		abi             int
		fs, net, scoped uint64
	}{
		{3, 0x7fff, 0, 0}, {4, 0x7fff, 3, 0}, {5, 0xffff, 3, 0}, {6, 0xffff, 3, 3}, {7, 0xffff, 3, 3}, {8, 0xffff, 3, 3},
		{9, 0x1ffff, 3, 3}, {100, 0x1ffff, 3, 3},
	} {
		if fs, net, scoped := handled(x.abi); fs != x.fs || net != x.net || scoped != x.scoped {
			t.Errorf("ABI %d: %#x %#x %#x, want %#x %#x %#x", x.abi, fs, net, scoped, x.fs, x.net, x.scoped)
		}
	}
	for name, rights := range map[string]uint64{"readTree": readTree, "writeTree": writeTree, "device": device} {
		if all, _, _ := handled(9); rights&^all != 0 {
			t.Errorf("%s has rights that no ABI controls: %#x", name, rights&^all)
		}
		if rights&unix.LANDLOCK_ACCESS_FS_EXECUTE != 0 {
			t.Errorf("%s lets a service execute", name)
		}
		if rights&(unix.LANDLOCK_ACCESS_FS_MAKE_CHAR|unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK) != 0 {
			t.Errorf("%s lets a service make devices", name)
		}
	}
}

func TestRulesetErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	// A file in the place of a folder is a fault of the image, not a gap in it.
	if _, err := ruleset(&Spec{Path: file, Read: []string{file + "/below"}}); err == nil || !strings.Contains(err.Error(), "open "+file+"/below") {
		t.Errorf("%v", err)
	}
	fd, err := ruleset(&Spec{Path: file, Read: []string{dir, file, filepath.Join(dir, "none")}})
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	n := 0
	for fd := range 1024 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	if n == 0 {
		t.Fatal("no open descriptor: " + strconv.Itoa(n))
	}
	return n
}

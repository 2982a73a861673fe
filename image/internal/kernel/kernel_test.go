package kernel

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/internal/stage"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, nil)) }

func TestParseVersion(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]Version{
		"version=1.2.3\ncommit-time=2026-07-01T12:00:00Z\n": {"1.2.3", at},
		"version=1.2.3":          {"1.2.3", time.Time{}},
		"new=x\nversion=a=b\r\n": {"a=b", time.Time{}},
		"commit-time=2026-07-01T14:00:00+02:00\nversion=1": {"1", at},
	} {
		if got, err := ParseVersion([]byte(text)); err != nil || got.String != want.String || !got.CommitTime.Equal(want.CommitTime) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "no line version=", "version=": "no line version=", "1.2.3": "want key=value", "version=1\n\n": "want key=value",
		"version=1\ncommit-time=yesterday": "commit-time", "commit-time=2026-07-01T12:00:00Z": "no line version",
	} {
		if got, err := ParseVersion([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want an error about %q", text, got, err, want)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"", "version=1\n", "version=1\ncommit-time=2026-07-01T12:00:00Z\nx=y\n", "=\n", "\x00=\xff", "commit-time=-"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := ParseVersion(b); err == nil && (v.String == "" || strings.ContainsAny(v.String, "\n")) {
			t.Fatalf("%q: %+v", b, v)
		}
	})
}

func TestCmdline(t *testing.T) {
	c := Cmdline("quiet root=PARTUUID=x/PARTNROFF=1 a=1 parley.slot=b a=2 empty= b")
	for key, want := range map[string]string{
		"root": "PARTUUID=x/PARTNROFF=1", "a": "2", "parley.slot": "b", "empty": "", "b": "", "quiet": "", "slot": "", "": "",
	} {
		if got := c.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if c, err := ReadCmdline(); err != nil || strings.TrimSpace(string(c)) != string(c) {
		t.Errorf("%q, %v", c, err)
	}
}

func FuzzCmdline(f *testing.F) {
	for _, s := range []string{"", "a=b", "= ==", "a\x00=b"} {
		f.Add(s, "a")
	}
	f.Fuzz(func(t *testing.T, line, key string) {
		if v := Cmdline(line).Get(key); v != "" && !strings.Contains(line, key+"="+v) {
			t.Fatalf("%q: %s=%q", line, key, v)
		}
	})
}

func TestParseRecord(t *testing.T) {
	for record, want := range map[string]string{
		"6,1,123456,-;Linux version 7.1\n":                     "[0.123456] <6> Linux version 7.1",
		"3,2,61000001,-;ata1: failed\n SUBSYSTEM=ata\n DEV=+x": "[61.000001] <3> ata1: failed",
		"0,3,5,c,more;a;b":                                     "[0.000005] <0> a;b",
		"6,1,0,-;":                                             "[0.000000] <6> ",
	} {
		if got, ok := parseRecord(record); !ok || got != want {
			t.Errorf("%q: %q, %v; want %q", record, got, ok, want)
		}
	}
	for _, record := range []string{"", "6,1,1,-", ";x", "6,1;x", "x,1,1,-;x", "6,1,x,-;x", "-6,1,1,-;x", "12,1,1,-;a program wrote this", "14,1,1,-;x", "99999999999,1,1,-;x"} {
		if got, ok := parseRecord(record); ok {
			t.Errorf("%q: %q", record, got)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, s := range []string{"", "6,1,123456,-;Linux version\n", "0,0,18446744073709551615,-;x", "6,1,1,-;a\nb=c", ";;", "7,,0;\x1b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, ok := parseRecord(s)
		if ok && (strings.Contains(text, "\n") || !strings.HasPrefix(text, "[")) || !ok && text != "" {
			t.Fatalf("%q: %q, %v", s, text, ok)
		}
	})
}

func TestReadLog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "kmsg")
	if err := os.WriteFile(name, []byte("6,1,1,-;one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := ReadLog(name, func(s string) { got = append(got, s) })
	if !errors.Is(err, io.EOF) || !slices.Equal(got, []string{"[0.000001] <6> one"}) {
		t.Errorf("%q, %v", got, err)
	}
	if err := ReadLog(name+"x", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestUptime(t *testing.T) {
	if Uptime() <= 0 || Release() == "" {
		t.Errorf("up for %v, release %q", Uptime(), Release())
	}
}

// What the real-time clock is given, in the form of struct tm. To set clocks
// would be the machine's business: that is seen in the virtual machine.
func TestRTCTime(t *testing.T) {
	moscow := time.FixedZone("MSK", 3*3600)
	got := rtcTime(time.Date(2027, 1, 1, 1, 2, 3, 4, moscow))
	if want := (unix.RTCTime{Sec: 3, Min: 2, Hour: 22, Mday: 31, Mon: 11, Year: 126}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSysctlTables(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range append(slices.Clone(Sysctls), LastSysctls...) {
		if seen[s.Name] {
			t.Errorf("%s stands twice", s.Name)
		}
		seen[s.Name] = true
		if !strings.Contains(s.Name, ".") || strings.ContainsAny(s.Name, "/ ") || strings.ContainsAny(s.Value, "\n") {
			t.Errorf("%q = %q", s.Name, s.Value)
		}
	}
	for name, want := range map[string]string{
		"kernel.sysrq": "0", "kernel.panic": "10", "net.ipv4.ip_unprivileged_port_start": "80", "net.mptcp.enabled": "0", "kernel.modules_disabled": "1",
	} {
		if !slices.Contains(append(slices.Clone(Sysctls), LastSysctls...), Sysctl{name, want}) {
			t.Errorf("%s is not %s", name, want)
		}
	}
	// Modules cannot be loaded any more after it.
	if slices.ContainsFunc(Sysctls, func(s Sysctl) bool { return s.Name == "kernel.modules_disabled" }) {
		t.Error("modules are turned off before the services start")
	}
	// Each is the name of something on a kernel of today: a name that was
	// mistyped would be told as missing for ever.
	missing := 0
	for name := range seen {
		if _, err := os.Stat(filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))); err != nil {
			t.Logf("this kernel has not: %s", name)
			missing++
		}
	}
	if missing > len(seen)/2 {
		t.Errorf("%d of %d are not there", missing, len(seen))
	}
}

func TestSetSysctls(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"a/one", "a/b/two"} {
		if err := os.WriteFile(filepath.Join(root, n), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	SetSysctls(root, []Sysctl{{"a.one", "1"}, {"a.none", "2"}, {"a.b", "3"}, {"a.gone", "4"}, {"a.b.two", "5 6"}}, slog.New(slog.NewTextHandler(&log, nil)))
	for n, want := range map[string]string{"a/one": "1\n", "a/b/two": "5 6\n"} {
		if got, err := os.ReadFile(filepath.Join(root, n)); string(got) != want {
			t.Errorf("%s: %q, %v; want %q", n, got, err, want)
		}
	}
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, `names="a.none a.gone"`) || !strings.Contains(got, "is a directory") {
		t.Errorf("log\n%s", got)
	}
}

// On the real kernel, where it is this test's own: an empty value is set too.
func TestSysctlOfTheKernel(t *testing.T) {
	stage.Need(t)
	const name = "kernel.domainname" // of the UTS namespace
	for _, want := range []string{"x.example", "", "y"} {
		if err := setSysctl("/proc/sys", Sysctl{name, want}); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile("/proc/sys/kernel/domainname"); string(got) != want+"\n" {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if err := setSysctl("/proc/sys", Sysctl{"net.ipv4.ip_unprivileged_port_start", "many"}); err == nil || !strings.Contains(err.Error(), `ip_unprivileged_port_start = "many"`) {
		t.Error(err)
	}
}

func TestMountTables(t *testing.T) {
	for name, list := range map[string][]Mount{"early": EarlyMounts, "hardened": Hardened} {
		seen := make(map[string]bool)
		for _, m := range list {
			if m.Flags&nosuid == 0 || m.Flags&noexec == 0 {
				t.Errorf("%s: %s lets programs run", name, m.Target)
			}
			if dev := m.Target == "/dev" || m.Target == "/dev/pts"; (m.Flags&nodev == 0) != dev {
				t.Errorf("%s: devices on %s: %v", name, m.Target, !dev)
			}
			if seen[m.Target] {
				t.Errorf("%s: %s stands twice", name, m.Target)
			}
			seen[m.Target] = true
			// What is mounted later covers what is below it.
			for other := range seen {
				if strings.HasPrefix(other, m.Target+"/") {
					t.Errorf("%s: %s comes after %s", name, m.Target, other)
				}
			}
			if m.Type == "tmpfs" && !strings.Contains(m.Data, "size=") {
				t.Errorf("%s: %s has no bound", name, m.Target)
			}
		}
	}
}

func TestMounts(t *testing.T) {
	stage.Need(t)
	dir := t.TempDir()
	list := []Mount{{"tmpfs", dir, nosuid | nodev, "size=1m,mode=0700"}, {"proc", dir + "/proc", nosuid | nodev | noexec, ""}}
	err := MountAll(list)
	if err == nil || !strings.Contains(err.Error(), "mount proc on "+dir+"/proc: no such file") {
		t.Errorf("%v: want that one has no folder", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	flags := func() int64 {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		return st.Flags & (unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC)
	}
	if got := flags(); got != unix.ST_NOSUID|unix.ST_NODEV {
		t.Errorf("flags %#x", got)
	}
	if err := os.WriteFile(dir+"/kept", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/new", 0o700); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	hardened := []Mount{
		{"tmpfs", dir, nosuid | nodev | noexec, "size=2m"}, {"tmpfs", dir + "/new", nosuid | nodev | noexec, "size=1m"}, {"tmpfs", dir + "/none", nosuid, ""},
	}
	for range 2 { // once more changes nothing
		Harden(hardened, slog.New(slog.NewTextHandler(&log, nil)))
		if got := flags(); got != unix.ST_NOSUID|unix.ST_NODEV|unix.ST_NOEXEC {
			t.Errorf("flags %#x after hardening", got)
		}
	}
	if _, err := os.Stat(dir + "/kept"); err != nil {
		t.Error(err)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if n := strings.Count(string(info), " "+dir+"/new "); n != 1 {
		t.Errorf("%d mounts on a folder that had none, %v", n, err)
	}
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, dir+"/none") {
		t.Errorf("log\n%s", got)
	}
}

func TestConsole(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "tty")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A pipe that nobody reads takes 64 KiB and then nothing.
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := OpenConsole(filepath.Join(dir, "none"), fifo, name)
	if len(c.fds) != 2 {
		t.Fatalf("%d devices", len(c.fds))
	}
	const n = 35
	for range n {
		c.Print("one", "два", strings.Repeat("x", 2000))
	}
	b, err := os.ReadFile(name)
	if !strings.HasPrefix(string(b), "\r\none\r\nдва\r\nxx") || !strings.HasSuffix(string(b), "xx\r\n") || strings.Count(string(b), "\r\n") != 4*n || !utf8.Valid(b) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	(&Console{}).Print("nowhere")
	// One that is only busy gets the whole of a message.
	drained := make(chan []byte)
	go func() {
		b := make([]byte, 128<<10)
		at := 0
		for !strings.HasSuffix(string(b[:at]), "the end\r\n") {
			n, err := r.Read(b[at:])
			if err != nil {
				break
			}
			at += n
		}
		drained <- b[:at]
	}()
	c.Print("busy", "the end")
	if b := <-drained; !strings.Contains(string(b), "\r\nbusy\r\nthe end\r\n") {
		t.Errorf("a busy terminal got %d bytes and not the message", len(b))
	}
	for _, fd := range c.fds {
		unix.Close(fd)
	}
}

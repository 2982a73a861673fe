package process

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/internal/kernel"
	"github.com/parley-meet/parley/image/internal/stage"
	"github.com/parley-meet/parley/image/internal/supervisor"
	"github.com/parley-meet/parley/image/layout"
)

// shipped returns a service of config.json whose program is the probe.
func shipped(t *testing.T, name string, attempts ...string) *config.Service {
	t.Helper()
	cfg, err := config.Load("../../../config.json")
	if err != nil {
		t.Fatal(err)
	}
	for i := range cfg.Services {
		if s := &cfg.Services[i]; s.Name == name {
			s.Package, s.Arguments, s.Terminals = "./services/probe", attempts, nil
			return s
		}
	}
	t.Fatalf("config.json has no service %s", name)
	return nil
}

// expect runs the service to its end, waits until it has printed a line for each
// attempt, and checks them.
func (b *bench) expect(s *config.Service, want ...string) {
	b.Helper()
	_, f := b.Ring.Follow(s.Name, 0)
	defer f.Close()
	if e := b.exit(b.start(s)); e != (supervisor.Exit{}) {
		b.Fatalf("%s ended with %+v: %v", s.Name, e, b.Ring.Lines(s.Name, 0))
	}
	var got []string
	for len(got) < len(s.Arguments) {
		l, _ := receive(b.T, "line of "+s.Name, f.C)
		got = append(got, l.Text)
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			b.Errorf("%s: no %q in\n%s", s.Name, w, strings.Join(got, "\n"))
		}
	}
}

// What one console makes in the shared folder the other reads, locks, replaces
// and removes, also in a folder inside; nobody else gets in.
func TestSharedFolder(t *testing.T) {
	b := newBench(t)
	dir := layout.CredentialDir
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, 0, layout.ConsoleGroup), unix.Chmod(dir, 0o2770)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(layout.PermDir) })
	b.expect(shipped(t, "console-web", "create:"+dir+"/a", "mkdir:"+dir+"/d", "create:"+dir+"/d/a", "create:"+dir+"/d/b", "lock:"+dir+"/lock"),
		"create:"+dir+"/a ok", "mkdir:"+dir+"/d ok", "create:"+dir+"/d/a ok", "create:"+dir+"/d/b ok", "lock:"+dir+"/lock ok")
	for path, mode := range map[string]uint32{"/a": unix.S_IFREG | 0o660, "/d": unix.S_IFDIR | 0o2770, "/d/a": unix.S_IFREG | 0o660} {
		var st unix.Stat_t
		if err := unix.Stat(dir+path, &st); err != nil || st.Mode != mode || st.Gid != layout.ConsoleGroup {
			t.Errorf("%s: mode %#o, group %d, %v", path, st.Mode, st.Gid, err)
		}
	}
	b.expect(shipped(t, "console-serial", "read:"+dir+"/a", "write:"+dir+"/a", "create:"+dir+"/new", "rename:"+dir+"/new,"+dir+"/a",
		"create:"+dir+"/d/new", "rename:"+dir+"/d/new,"+dir+"/d/a", "rename:"+dir+"/d/b,"+dir+"/b", "remove:"+dir+"/d/a", "lock:"+dir+"/lock"),
		"read:"+dir+"/a ok", "write:"+dir+"/a ok", "rename:"+dir+"/new,"+dir+"/a ok", "rename:"+dir+"/d/new,"+dir+"/d/a ok",
		"rename:"+dir+"/d/b,"+dir+"/b ok", "remove:"+dir+"/d/a ok", "lock:"+dir+"/lock ok")
	b.expect(shipped(t, "zctrl", "read:"+dir+"/a", "list:"+dir), "read:"+dir+"/a EACCES", "list:"+dir+" EACCES")
	b.expect(shipped(t, "network", "read:"+dir+"/a", "list:"+dir), "read:"+dir+"/a EACCES", "list:"+dir+" EACCES")
}

// The zone controller and the router read what the consoles write in the
// connector's folder, and can change nothing there; the network service does
// neither. In the folder in RAM they meet, and neither removes what is the
// other's.
func TestConnectorFolder(t *testing.T) {
	b := newBench(t)
	dir, run := layout.ConnectorDir, layout.ConnectorRunDir
	for path, mode := range map[string]uint32{dir: 0o2770, run: 0o3770} {
		if err := errors.Join(os.MkdirAll(path, 0o755), os.Chown(path, 0, layout.ConnectorGroup), unix.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(filepath.Dir(path)) })
	}
	b.expect(shipped(t, "console-web", "create:"+dir+"/a", "mkdir:"+dir+"/d", "create:"+dir+"/d/key", "create:"+run+"/x"),
		"create:"+dir+"/a ok", "mkdir:"+dir+"/d ok", "create:"+dir+"/d/key ok", "create:"+run+"/x EACCES")
	b.expect(shipped(t, "console-serial", "write:"+dir+"/a", "read:"+dir+"/d/key"), "write:"+dir+"/a ok", "read:"+dir+"/d/key ok")
	for _, name := range []string{"zctrl", "mmr"} {
		b.expect(shipped(t, name, "read:"+dir+"/a", "read:"+dir+"/d/key", "list:"+dir, "write:"+dir+"/a", "create:"+dir+"/new", "remove:"+dir+"/a", "create:"+run+"/"+name),
			"read:"+dir+"/a ok", "read:"+dir+"/d/key ok", "list:"+dir+" ok",
			"write:"+dir+"/a EACCES", "create:"+dir+"/new EACCES", "remove:"+dir+"/a EACCES", "create:"+run+"/"+name+" ok")
	}
	b.expect(shipped(t, "mmr", "remove:"+run+"/zctrl", "remove:"+run+"/mmr"), "remove:"+run+"/zctrl EPERM", "remove:"+run+"/mmr ok")
	b.expect(shipped(t, "network", "read:"+dir+"/a", "list:"+dir, "list:"+run), "read:"+dir+"/a EACCES", "list:"+dir+" EACCES", "list:"+run+" EACCES")
}

// What a service makes in the connector's folder in RAM another of the group
// connects to, once its maker lets the group.
func TestConnectorSocket(t *testing.T) {
	b := newBench(t)
	path := layout.ConnectorRunDir + "/zone.sock"
	dir := layout.ConnectorRunDir
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, 0, layout.ConnectorGroup), unix.Chmod(dir, 0o3770)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(layout.RunDir) })
	p := b.start(shipped(t, "zctrl", "listen:"+path))
	if m, _ := receive(t, "message", p.Messages()); !m.Ready {
		t.Fatalf("%+v", m)
	}
	b.expect(shipped(t, "mmr", "unix:"+path), "unix:"+path+" ok")
	b.expect(shipped(t, "network", "unix:"+path), "unix:"+path+" EACCES")
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.exit(p)
}

// Pings need no capability for the consoles' group alone.
func TestPing(t *testing.T) {
	b := newBench(t)
	var own []kernel.Sysctl
	for _, s := range kernel.Sysctls {
		if s.Name == "net.ipv4.ping_group_range" {
			own = append(own, s)
		}
	}
	kernel.SetSysctls("/proc/sys", own, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if len(own) != 1 {
		t.Fatalf("%v", own)
	}
	b.expect(shipped(t, "console-web", "ping:"), "ping: ok")
	b.expect(shipped(t, "console-serial", "ping:"), "ping: ok")
	b.expect(shipped(t, "mmr", "ping:"), "ping: EACCES")
}

// The network service writes the parameters of its interfaces and no others;
// those folders stay in the kernel's memory.
func TestNetworkParameters(t *testing.T) {
	b := newBench(t)
	s := shipped(t, "network")
	if err := Pin(append(s.Access.Read, s.Access.Write...)...); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf"} {
		if f := pinned.files[p]; f == nil {
			t.Errorf("%s is not pinned", p)
		}
	}
	if len(pinned.files) != 2 {
		t.Errorf("pinned are %v", pinned.files)
	}
	const conf, elsewhere = "/proc/sys/net/ipv4/conf/lo/arp_notify", "/proc/sys/net/ipv4/ip_forward"
	s.Arguments = []string{"write:" + conf, "write:" + elsewhere, "write:/proc/sys/net/ipv6/conf/lo/accept_ra"}
	// "probe" is no number: the kernel takes the writing and refuses the word.
	b.expect(s, "write:"+conf+" EINVAL", "write:"+elsewhere+" EACCES", "write:/proc/sys/net/ipv6/conf/lo/accept_ra EINVAL")
	s = shipped(t, "console-web", "write:"+conf)
	b.expect(s, "write:"+conf+" EACCES")
}

// A socket that the network service makes is the consoles' to use.
func TestNetworkSocket(t *testing.T) {
	b := newBench(t)
	s := shipped(t, "network", "listen:"+layout.RunDir+"/network/s")
	dir := layout.RunDir + "/network"
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, int(s.User.ID), layout.ConsoleGroup), unix.Chmod(dir, 0o2751)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(layout.RunDir) })
	p := b.start(s)
	if m, _ := receive(t, "message", p.Messages()); !m.Ready {
		t.Fatalf("%+v", m)
	}
	b.expect(shipped(t, "console-web", "unix:"+dir+"/s"), "unix:"+dir+"/s ok")
	b.expect(shipped(t, "console-serial", "unix:"+dir+"/s"), "unix:"+dir+"/s ok")
	b.expect(shipped(t, "zctrl", "unix:"+dir+"/s"), "unix:"+dir+"/s EACCES")
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.exit(p)
}

// Who has a right on PID 1's socket reaches it, and nobody else does.
func TestControlSocket(t *testing.T) {
	b := newBench(t)
	stage.Need(t)
	if err := os.MkdirAll(layout.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(layout.RunDir) })
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	path := layout.ControlSocket
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 16), os.Chown(path, 0, layout.ControlGroup), os.Chmod(path, 0o660)); err != nil {
		t.Fatal(err)
	}
	for name, result := range map[string]string{"network": "ok", "console-web": "ok", "console-serial": "ok", "zctrl": "EACCES", "mmr": "EACCES"} {
		b.expect(shipped(t, name, "unix:"+path), "unix:"+path+" "+result)
	}
}

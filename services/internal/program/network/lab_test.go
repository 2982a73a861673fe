package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/internal/judge"
	"github.com/parley-meet/parley/services/internal/ethernet"
	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// testHold is how long the service waits for a change to be confirmed.
const testHold = 5 * time.Second

// asService makes this binary the service itself.
const asService = "PARLEY_TEST_AS_SERVICE"

func TestMain(m *testing.M) {
	if os.Getenv(asService) != "" {
		hold = testHold
		os.Exit(Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

var (
	clientMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	serverIP  = netip.MustParseAddr("192.0.2.1")
	network   = netip.MustParsePrefix("192.0.2.1/24")
)

// lab is an appliance on a link with a server.
type lab struct {
	t           *testing.T
	server, box *labtest.Host
	dir         string
	kernel      ethernet.Linux // only on box
	log         *judge.Output  // of the service, all of its runs
	service     *exec.Cmd      // nil: not running
	line        *net.UnixConn  // PID 1's end of the service's liveness
	control     string         // PID 1's socket; at first there is none
}

func newLab(t *testing.T) *lab {
	t.Helper()
	t.Parallel()
	l := &lab{t: t, dir: t.TempDir(), kernel: "eth0", log: &judge.Output{}}
	l.control = l.path("init.sock")
	l.server, l.box = labtest.NewHost(t, "server"), labtest.NewHost(t, "parley-box")
	l.server.Bridge(network)
	l.server.Join(l.box, "p1", clientMAC)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the service's log:\n%s", l.log)
		}
	})
	return l
}

// spawn starts a process on a host. It is killed at the test's end, whatever
// happens.
func spawn(t *testing.T, h *labtest.Host, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	h.Must(cmd.Start)
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
}

// start starts the service and waits until it is ready.
func (l *lab) start() {
	l.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	own, theirs := os.NewFile(uintptr(pair[0]), "own"), os.NewFile(uintptr(pair[1]), "theirs")
	defer theirs.Close()
	c, err := net.FileConn(own)
	own.Close()
	if err != nil {
		l.t.Fatal(err)
	}
	l.line = c.(*net.UnixConn)
	l.t.Cleanup(func() { c.Close() })
	exe, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	l.service = exec.Command(exe, "-run", l.path("run"), "-perm", l.path("perm"), "-control", l.control)
	l.service.Env = append(os.Environ(), asService+"=1", layout.LivenessEnv+"=3")
	l.service.ExtraFiles = []*os.File{theirs}
	l.service.Stderr = l.log
	for _, d := range []string{"run", "perm"} {
		if err := os.MkdirAll(l.path(d), 0o755); err != nil {
			l.t.Fatal(err)
		}
	}
	spawn(l.t, l.box, l.service)
	if m := l.hear(); !m.Ready {
		l.t.Fatalf("the service says %+v first, want that it is ready", m)
	}
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// hear returns the service's next word to PID 1.
func (l *lab) hear() (m liveness.Message) {
	l.t.Helper()
	b := make([]byte, liveness.MaxMessage)
	l.line.SetReadDeadline(time.Now().Add(patience))
	n, err := l.line.Read(b)
	if err == nil {
		err = json.Unmarshal(b[:n], &m)
	}
	if err != nil {
		l.t.Fatalf("the service's word to PID 1: %v", err)
	}
	return m
}

// ask asks as PID 1 does.
func (l *lab) ask() liveness.Message {
	l.t.Helper()
	b, _ := json.Marshal(liveness.Ping{Seq: 7})
	if _, err := l.line.Write(b); err != nil {
		l.t.Fatal(err)
	}
	return l.hear()
}

// stop ends the service as PID 1 does.
func (l *lab) stop() {
	l.t.Helper()
	if err := l.service.Process.Signal(syscall.SIGTERM); err != nil {
		l.t.Fatal(err)
	}
	if err := l.service.Wait(); err != nil {
		l.t.Errorf("after SIGTERM: %v", err)
	}
}

// patience is far more than anything here takes: nothing is judged by it.
const patience = time.Minute

// wait waits until f returns nil.
func (l *lab) wait(what string, f func() error) {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("waiting for %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// logged waits for words in a process's output.
func (l *lab) logged(b *judge.Output, words string) {
	l.t.Helper()
	l.wait(fmt.Sprintf("%q in the log", words), func() error {
		if text := b.String(); !strings.Contains(text, words) {
			return fmt.Errorf("the log is\n%s", text)
		}
		return nil
	})
}

func (l *lab) state() (netconfig.State, error) {
	b, err := netconfig.ReadFile(l.path("run/state.json"), netconfig.MaxStateSize)
	if err != nil {
		return netconfig.State{}, err
	}
	return netconfig.DecodeState(b)
}

// until waits for a state that the service publishes, and returns it.
func (l *lab) until(what string, good func(netconfig.State) bool) (s netconfig.State) {
	l.t.Helper()
	l.wait(what, func() (err error) {
		if s, err = l.state(); err == nil && !good(s) {
			err = fmt.Errorf("the state is %+v", s)
		}
		return err
	})
	return s
}

// address waits until the address is published and in force, and no other.
func (l *lab) address(a string) netconfig.State {
	l.t.Helper()
	want := netip.MustParsePrefix(a)
	s := l.until("the address "+a, func(s netconfig.State) bool { return len(s.Addresses) == 1 && s.Addresses[0] == want })
	l.wait("the address "+a+" in the kernel", func() error {
		have := l.addresses()
		if len(have) != 1 || have[0].Prefix != want {
			return fmt.Errorf("it has %v", have)
		}
		return nil
	})
	return s
}

// addresses are what the appliance's kernel has.
func (l *lab) addresses() (have []netconfig.Address) {
	l.t.Helper()
	l.box.Must(func() (err error) {
		have, err = l.kernel.Addresses()
		return err
	})
	return have
}

func (l *lab) routes() (have []ethernet.Route) {
	l.t.Helper()
	l.box.Must(func() (err error) {
		have, err = l.kernel.Routes()
		return err
	})
	return have
}

func (l *lab) link() (k ethernet.Link) {
	l.t.Helper()
	l.box.Must(func() (err error) {
		k, err = l.kernel.Link()
		return err
	})
	return k
}

// losses counts from now on the addresses that the appliance loses.
func (l *lab) losses() (count func() int) {
	l.t.Helper()
	updates, done := make(chan netlink.AddrUpdate, 1000), make(chan struct{})
	l.box.Must(func() error { return netlink.AddrSubscribe(updates, done) })
	l.t.Cleanup(func() { close(done) })
	return func() (n int) {
		for {
			select {
			case u := <-updates:
				if !u.NewAddr && u.LinkAddress.IP.To4() != nil {
					n++
				}
			default:
				return n
			}
		}
	}
}

// dnsmasq is the DHCP server of that name on the lab's server.
type dnsmasq struct {
	l   *lab
	cmd *exec.Cmd
	log *judge.Output
}

// dnsmasq starts one that gives addresses from first to last for two minutes,
// the least it does.
func (l *lab) dnsmasq(first, last string, options ...string) *dnsmasq {
	l.t.Helper()
	d := &dnsmasq{l: l}
	d.cmd, d.log = judge.Dnsmasq(l.t, l.path("dnsmasq.leases"),
		append([]string{"--dhcp-range=" + first + "," + last + ",255.255.255.0,2m"}, options...)...)
	spawn(l.t, l.server, d.cmd)
	l.logged(d.log, "DHCP, IP range")
	return d
}

func (d *dnsmasq) stop() {
	d.l.t.Helper()
	err := errors.Join(d.cmd.Process.Signal(syscall.SIGTERM))
	if err != nil {
		d.l.t.Fatal(err)
	}
	d.cmd.Wait() // its code is its own affair
}

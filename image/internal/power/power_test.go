package power

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/internal/stage"
)

// endEnv makes this binary, as PID 1 of a namespace, end its system.
const endEnv = "PARLEY_TEST_END"

func TestMain(m *testing.M) {
	if kind := os.Getenv(endEnv); kind != "" && os.Getpid() == 1 {
		k := Reboot
		if kind == PowerOff.String() {
			k = PowerOff
		}
		fmt.Println(Now(k))
		os.Exit(3)
	}
	os.Exit(stage.Main(m, nil))
}

// recorder keeps log records.
type recorder struct{ strings.Builder }

func logger() (*slog.Logger, *recorder) {
	r := &recorder{}
	return slog.New(slog.NewTextHandler(r, nil)), r
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		step := func(name string, limit time.Duration, do func(context.Context) error) Step {
			return Step{name, limit, func(ctx context.Context) error {
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				return do(ctx)
			}}
		}
		fault := errors.New("fault")
		began := time.Now()
		log, text := logger()
		clean := Run([]Step{
			step("quick", time.Second, func(context.Context) error { time.Sleep(300 * time.Millisecond); return nil }),
			step("fails", time.Second, func(context.Context) error { return fault }),
			step("panics", time.Second, func(context.Context) error { panic("boom") }),
			step("hangs", 2*time.Second, func(context.Context) error { time.Sleep(time.Hour); return nil }),
			// It ends because its time is over, and knows how.
			step("obeys", time.Second, func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("mmr: %w", ctx.Err()) }),
			step("just", time.Second, func(ctx context.Context) error { <-ctx.Done(); return nil }),
			step("last", time.Second, func(context.Context) error { return nil }),
		}, log)
		if clean {
			t.Error("failures are called clean")
		}
		if took := time.Since(began); took != 300*time.Millisecond+2100*time.Millisecond+2*time.Second {
			t.Errorf("it took %v", took)
		}
		if want := []string{"quick", "fails", "panics", "hangs", "obeys", "just", "last"}; !slices.Equal(order, want) {
			t.Errorf("steps %q, want %q", order, want)
		}
		for _, want := range []string{
			"step=quick took=300ms\n", `step=fails took=0s error=fault`, `step=panics took=0s error="panic: boom"`,
			`step=hangs took=2.1s error="took too long: more than 2s"`, `error="mmr: context deadline exceeded"`, "step=just took=1s\n", "step=last took=0s\n",
		} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if !Run([]Step{step("good", time.Second, func(context.Context) error { return nil })}, log) || !Run(nil, log) {
			t.Error("success is not called clean")
		}
		if err := bounded(Step{Limit: time.Second, Do: func(context.Context) error { time.Sleep(2 * time.Second); return nil }}); !errors.Is(err, ErrLate) {
			t.Error(err)
		}
		time.Sleep(2 * time.Hour) // what was left behind comes back to nobody
	})
}

func event(kind, code uint16, value int32) []byte {
	e := make([]byte, eventSize)
	binary.LittleEndian.PutUint64(e, 1_780_000_000)
	binary.LittleEndian.PutUint16(e[16:], kind)
	binary.LittleEndian.PutUint16(e[18:], code)
	binary.LittleEndian.PutUint32(e[20:], uint32(value))
	return e
}

func TestWatch(t *testing.T) {
	press, release, repeat, syn := event(1, 116, 1), event(1, 116, 0), event(1, 116, 2), event(0, 0, 0)
	fault := errors.New("device is gone")
	for name, x := range map[string]struct {
		in   [][]byte
		want int
	}{
		"nothing":        {nil, 0},
		"a press":        {[][]byte{press, syn, release, syn}, 1},
		"held":           {[][]byte{press, repeat, repeat, release}, 1},
		"three":          {[][]byte{press, release, press, release, press}, 3},
		"other keys":     {[][]byte{event(1, 30, 1), event(1, 142, 1), event(2, 116, 1), event(1, 116, -1)}, 0},
		"half an event":  {[][]byte{press, press[:10]}, 1},
		"many in a read": {slices.Repeat([][]byte{press, syn, release, syn}, 50), 50},
	} {
		in := slices.Concat(x.in...)
		for how, r := range map[string]io.Reader{
			"whole": strings.NewReader(string(in)), "bytes": iotest.OneByteReader(strings.NewReader(string(in))), "halves": iotest.HalfReader(strings.NewReader(string(in))),
		} {
			n := 0
			err := Watch(io.MultiReader(r, iotest.ErrReader(fault)), func() { n++ })
			if n != x.want || !errors.Is(err, fault) {
				t.Errorf("%s, %s: %d presses, %v; want %d and the reader's error", name, how, n, err, x.want)
			}
		}
	}
}

// Bitmaps as machines print them.
const (
	acpiButton = "10000000000000 0"                                            // power alone
	acpiNew    = "8000 10000000000000 0"                                       // and wake-up
	sleep      = "4000 0 0"                                                    // sleep alone
	keyboard   = "402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe" // the PC's
	mouse      = "70000 0 0 0 0"
)

func TestHasKey(t *testing.T) {
	for _, x := range []struct {
		bitmap string
		key    uint
		want   bool
	}{
		{acpiButton, keyPower, true}, {acpiButton + "\n", keyPower, true}, {acpiNew, keyPower, true}, {acpiNew, 143, true},
		{sleep, keyPower, false}, {sleep, 142, true}, {keyboard, keyPower, true}, {keyboard, keyA, true}, {mouse, keyPower, false}, {mouse, 272, true},
		{acpiButton, keyA, false}, {"1", 0, true}, {"1", 1, false}, {"1", 64, false}, {"8000000000000000", 63, true},
		{"", 0, false}, {"0", keyPower, false}, {"zz 0", keyPower, false}, {"10000000000000zz 0", keyPower, false}, {"110000000000000000 0", keyPower, false},
		{"0x10000000000000 0", keyPower, false}, {"-1 0", keyPower, false}, {acpiButton, 1 << 20, false},
	} {
		if got := hasKey(x.bitmap, x.key); got != x.want {
			t.Errorf("%q has key %d: %v, want %v", x.bitmap, x.key, got, x.want)
		}
	}
}

func FuzzHasKey(f *testing.F) {
	for _, s := range []string{"", acpiButton, acpiNew, sleep, keyboard, mouse, "-1 0", "\x00", "g 0"} {
		f.Add(s, uint(keyPower))
	}
	f.Add(acpiButton, ^uint(0))
	f.Fuzz(func(t *testing.T, bitmap string, key uint) {
		if hasKey(bitmap, key) && len(strings.Fields(bitmap)) <= int(key/64) {
			t.Fatalf("%q has key %d behind its end", bitmap, key)
		}
	})
}

// A pure button is taken, a keyboard that has a power key is not: the screen's
// console would not hear it any more. (Taking fails here, where no device is one.)
func TestButtons(t *testing.T) {
	dir := t.TempDir()
	for name, bitmap := range map[string]string{"event0": acpiButton, "event1": keyboard, "event2": mouse, "event3": acpiNew, "event4": ""} {
		if err := os.MkdirAll(filepath.Join(dir, "sys/class/input", name, "device/capabilities"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "sys/class/input", name, "device/capabilities/key"), []byte(bitmap+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "dev/input"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"event0", "event1", "event2"} {
		if err := os.WriteFile(filepath.Join(dir, "dev/input", name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Buttons(filepath.Join(dir, "sys"), filepath.Join(dir, "dev"))
	if len(got) != 1 || filepath.Base(got[0].Name()) != "event1" {
		t.Errorf("%d devices were taken without a grab, want the keyboard alone", len(got))
	}
	if err == nil || !strings.Contains(err.Error(), "event0: inappropriate ioctl") || !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "event1") {
		t.Errorf("%v: want that event0 cannot be grabbed and event3 is not there", err)
	}
	for _, f := range got {
		f.Close()
	}
	if got, err := Buttons(filepath.Join(dir, "none"), dir); len(got) != 0 || err != nil {
		t.Errorf("a machine without buttons: %v, %v", got, err)
	}
}

// In a network namespace with an interface that is up.
func TestInterfacesDown(t *testing.T) {
	stage.Need(t)
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("eth0")
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		t.Fatal(err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		t.Fatal(err)
	}
	up := func() (names []string) {
		ifs, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range ifs {
			if i.Flags&net.FlagUp != 0 {
				names = append(names, i.Name)
			}
		}
		return names
	}
	if got := up(); !slices.Equal(got, []string{"lo", "eth0"}) {
		t.Fatalf("up are %q", got)
	}
	for range 2 {
		if err := InterfacesDown(); err != nil {
			t.Error(err)
		}
		if got := up(); !slices.Equal(got, []string{"lo"}) {
			t.Errorf("up are %q, want lo", got)
		}
	}
}

// The end of a system that is a namespace: the kernel kills its PID 1 with
// SIGHUP for a reboot and with SIGINT for a power-off (pid_namespaces(7)).
func TestNow(t *testing.T) {
	stage.Need(t)
	for kind, want := range map[Kind]unix.Signal{Reboot: unix.SIGHUP, PowerOff: unix.SIGINT} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), endEnv+"="+kind.String())
		cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
		out, err := cmd.CombinedOutput()
		var ended *exec.ExitError
		if !errors.As(err, &ended) {
			t.Fatal(err)
		}
		if ws := ended.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != want {
			t.Errorf("%v: %v, %s; want %v", kind, ended, out, want)
		}
	}
}

// What DeadMan tells the kernel. Only a file is ever told here: the machine's own
// trigger would reset it.
func TestDeadMan(t *testing.T) {
	name := filepath.Join(t.TempDir(), "trigger")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer func(was string) { trigger = was }(trigger)
	trigger = filepath.Join(t.TempDir(), "none")
	DeadMan(Reboot, 0) // the hardware watchdog is what is left
	trigger = name
	for kind, want := range map[Kind]string{Reboot: "b", PowerOff: "o"} {
		if err := os.Truncate(name, 0); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			DeadMan(kind, 30*time.Second)
			time.Sleep(30*time.Second - 1)
			synctest.Wait()
			if b, err := os.ReadFile(name); err != nil || len(b) != 0 {
				t.Errorf("%v: %q too early, %v", kind, b, err)
			}
			time.Sleep(1)
			synctest.Wait()
			if b, err := os.ReadFile(name); err != nil || string(b) != want {
				t.Errorf("%v: %q, %v; want %q", kind, b, err, want)
			}
		})
	}
}

package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/confine"
	"github.com/parley-meet/parley/image/internal/ring"
	"github.com/parley-meet/parley/image/internal/stage"
	"github.com/parley-meet/parley/image/internal/supervisor"
	"github.com/parley-meet/parley/image/liveness"
)

func TestMain(m *testing.M) {
	os.Exit(stage.Main(m, func(dir string) error { return stage.Build(dir, "../confine/testdata/probe", "../../init") }))
}

// patience is how long a test waits for what comes at once when all is well.
const patience = 30 * time.Second

// bench is a Starter with all that PID 1 has around it.
type bench struct {
	*testing.T
	*Starter
	log lines
}

// lines collects log records.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newBench(t *testing.T) *bench {
	stage.Need(t)
	b := &bench{T: t, log: lines{more: make(chan struct{}, 1)}}
	log := slog.New(slog.NewTextHandler(&b.log, nil))
	table := &Table{Log: log}
	b.Starter = &Starter{Launch: "/services/init", Role: "router", Table: table, Ring: ring.New(1 << 20), Log: log}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		table.Reap(stop)
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
	})
	return b
}

func service(args ...string) *config.Service {
	return &config.Service{
		Name: "mmr", Package: "./services/probe", Arguments: args,
		User:   config.User{Name: "mmr", ID: 54321, Groups: []uint32{54400}},
		Access: config.Access{Read: []string{"/proc"}},
	}
}

func (b *bench) start(s *config.Service) supervisor.Process {
	b.Helper()
	p, err := b.Start(s)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.Close)
	return p
}

// receive waits for a value.
func receive[T any](t testing.TB, what string, c <-chan T) (v T, ok bool) {
	t.Helper()
	select {
	case v, ok = <-c:
		return v, ok
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		return v, false
	}
}

func (b *bench) exit(p supervisor.Process) supervisor.Exit {
	b.Helper()
	e, _ := receive(b.T, "exit", p.Exited())
	return e
}

// waitLog waits until a record has the text.
func (b *bench) waitLog(text string) {
	b.Helper()
	for end := time.After(patience); !strings.Contains(b.log.String(), text); {
		select {
		case <-b.log.more:
		case <-end:
			b.Fatalf("no %q in the log:\n%s", text, &b.log)
		}
	}
}

// waitLine waits for a line of the service that starts so.
func (b *bench) waitLine(start string) string {
	b.Helper()
	past, f := b.Ring.Follow("mmr", 0)
	defer f.Close()
	for _, l := range past {
		if strings.HasPrefix(l.Text, start) {
			return l.Text
		}
	}
	for end := time.After(patience); ; {
		select {
		case l := <-f.C:
			if strings.HasPrefix(l.Text, start) {
				return l.Text
			}
		case <-end:
			b.Fatalf("no line %q; there are %v", start, b.Ring.Lines("mmr", 0))
		}
	}
}

// A service from its start to its end, as PID 1 sees it.
func TestService(t *testing.T) {
	b := newBench(t)
	s := service("report:", "say:to standard error", "serve:3 meetings")
	s.MemoryMiB, s.Files, s.Essential = 64, 512, true
	p := b.start(s)
	m, _ := receive(t, "message", p.Messages())
	if m != (liveness.Message{Ready: true, Detail: "3 meetings"}) {
		t.Errorf("the first message is %+v", m)
	}
	for seq := range uint64(3) {
		if err := p.Ping(seq + 7); err != nil {
			t.Fatal(err)
		}
		if m, _ := receive(t, "answer", p.Messages()); m != (liveness.Message{Seq: seq + 7, Detail: "3 meetings"}) {
			t.Errorf("the answer to ping %d is %+v", seq+7, m)
		}
	}
	b.waitLine("to standard error")
	var r struct {
		Env, Args     []string
		Status, Files map[string]string
		Limits        map[string]uint64
		Session       bool
		OOM           string
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(b.waitLine("report: "), "report: ")), &r); err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=/", "TZ=UTC", "GOTRACEBACK=single", "PARLEY_ROLE=router", "PARLEY_LIVENESS_FD=3", "GOMEMLIMIT=64MiB"}
	if !slices.Equal(r.Env, env) {
		t.Errorf("environment %q, want %q", r.Env, env)
	}
	if want := append([]string{"probe"}, s.Arguments...); !slices.Equal(r.Args, want) {
		t.Errorf("arguments %q, want %q", r.Args, want)
	}
	if want := map[string]string{"0": "/dev/null", "1": "pipe", "2": "pipe", "3": "socket"}; !maps.Equal(r.Files, want) {
		t.Errorf("descriptors %v, want %v", r.Files, want)
	}
	if r.Limits["files"] != 512 || r.OOM != "100" || !r.Session {
		t.Errorf("limits %v, OOM score %s, leads its session: %v", r.Limits, r.OOM, r.Session)
	}
	if r.Status["Uid"] != "54321\t54321\t54321\t54321" || r.Status["Groups"] != "54400" || r.Status["CapBnd"] != "0000000000000000" || r.Status["Pid"] != fmt.Sprint(p.PID()) {
		t.Errorf("status %v", r.Status)
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if e := b.exit(p); e != (supervisor.Exit{Code: 0}) {
		t.Errorf("it ended with %+v", e)
	}
	if _, ok := receive(t, "end of the line", p.Messages()); ok {
		t.Error("a message after its end")
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Errorf("a signal to one that is gone: %v", err)
	}
	p.Close()
	p.Close()
}

func TestExits(t *testing.T) {
	b := newBench(t)
	for arg, want := range map[string]supervisor.Exit{
		"exit:0":   {Code: 0},
		"exit:7":   {Code: 7},
		"exit:255": {Code: 255},
		"self:9":   {Code: -1, Signal: unix.SIGKILL},
	} {
		if e := b.exit(b.start(service(arg))); e != want {
			t.Errorf("%s: %+v, want %+v", arg, e, want)
		}
	}
	p := b.start(service("sleep:"))
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := b.exit(p); e != (supervisor.Exit{Code: -1, Signal: unix.SIGKILL}) {
		t.Errorf("after SIGKILL: %+v", e)
	}
}

// A service that cannot be confined or executed says why in its log.
func TestCannotExecute(t *testing.T) {
	b := newBench(t)
	s := service()
	s.Package = "./services/none"
	if e := b.exit(b.start(s)); e.Code != confine.FailedCode {
		t.Errorf("%+v, want the code %d", e, confine.FailedCode)
	}
	b.waitLine("launch: execve /services/none: no such file or directory")
	b.Launch = "/services/no-launch"
	if _, err := b.Start(service()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/services/no-launch") {
		t.Errorf("%v", err)
	}
}

// A service that says what is no message loses its line, and that is logged.
func TestBadPacket(t *testing.T) {
	b := newBench(t)
	for _, packet := range []string{"hello", strings.Repeat(" ", liveness.MaxMessage) + "{}"} {
		p := b.start(service("packet:"+packet, "sleep:"))
		if _, ok := receive(t, "end of the line", p.Messages()); ok {
			t.Errorf("%.20q is taken as a message", packet)
		}
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		b.exit(p)
	}
	for _, want := range []string{`packet \"hello\"`, "longer than 2048 bytes"} {
		if !strings.Contains(b.log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, &b.log)
		}
	}
}

// A service that reads nothing does not hold PID 1 up.
func TestPingOfTheDeaf(t *testing.T) {
	b := newBench(t)
	p := b.start(service("deaf:"))
	receive(t, "message", p.Messages())
	var err error
	for n := 0; err == nil; n++ {
		if n > 100_000 {
			t.Fatal("its socket takes everything")
		}
		err = p.Ping(uint64(n))
	}
	if !errors.Is(err, syscall.EAGAIN) {
		t.Error(err)
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.exit(p)
	// The kernel says first that what the dead one had not read is lost.
	if err := p.Ping(1); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ping of one that is gone: %v", err)
	}
}

// What ends without being in the table is reaped, and nobody else's end is taken
// for it.
func TestOrphan(t *testing.T) {
	b := newBench(t)
	// Not in the table, as if its parent had left it to PID 1.
	if _, err := syscall.ForkExec("/services/probe", []string{"probe", "exit:0"}, &syscall.ProcAttr{}); err != nil {
		t.Fatal(err)
	}
	if e := b.exit(b.start(service("orphan:", "exit:3"))); e.Code != 3 {
		t.Fatalf("%+v", e)
	}
	b.waitLine("orphan: EPERM")
	b.waitLog("reaped orphan")
}

// Each service is in a control group of its own, of which there is one however
// often it starts; where none can be made it starts all the same.
func TestControlGroup(t *testing.T) {
	b := newBench(t)
	b.Cgroups = t.TempDir()
	if err := unix.Mount("cgroup2", b.Cgroups, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(b.Cgroups, unix.MNT_DETACH)
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	s := service("show:/proc/self/cgroup")
	defer os.Remove(filepath.Join(b.Cgroups, s.Name))
	for range 2 {
		b.exit(b.start(s))
		b.waitLine("0::/" + s.Name)
	}
	if after, err := os.ReadFile("/proc/self/cgroup"); err != nil || string(after) != string(before) {
		t.Errorf("PID 1 went from %q to %q, %v", before, after, err)
	}
	b.Cgroups = "/nowhere"
	if e := b.exit(b.start(service("exit:3"))); e.Code != 3 {
		t.Errorf("%+v", e)
	}
	b.waitLog("control group")
}

// Starting and ending leaves nothing open.
func TestNothingLeaks(t *testing.T) {
	b := newBench(t)
	cycle := func() {
		p := b.start(service("exit:0"))
		b.exit(p)
		for range p.Messages() {
		}
		p.Close()
	}
	cycle() // what the runtime opens for itself
	before := descriptors(t)
	for range 20 {
		cycle()
	}
	b.Launch = "/services/none"
	for range 20 {
		if _, err := b.Start(service()); err == nil {
			t.Fatal("started without a program")
		}
	}
	// The goroutine that reads the log closes its pipe when it has read the end.
	for end := time.Now().Add(patience); descriptors(t) > before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	b.Table.mu.Lock()
	defer b.Table.mu.Unlock()
	if len(b.Table.running) != 0 {
		t.Errorf("%d processes are left in the table", len(b.Table.running))
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// The whole of it: a real service is killed and is there again.
func TestSupervised(t *testing.T) {
	b := newBench(t)
	sup := supervisor.New(supervisor.Options{
		Services: []config.Service{*service("serve:up")}, Starter: b.Starter, Log: b.Starter.Log, Jitter: func() float64 { return 0.5 },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		sup.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	receive(t, "ready service", sup.AllReady())
	for range 5 {
		before := sup.Status()[0]
		if err := unix.Kill(before.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			st := sup.Status()[0]
			if st.State == control.StateReady && st.PID != before.PID {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("not there again: %+v", st)
			}
		}
	}
	if st := sup.Status()[0]; st.Restarts != 5 || st.LastExit.Reason != "signal: killed" {
		t.Errorf("%+v, %+v", st, st.LastExit)
	}
	if err := sup.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if st := sup.Status()[0]; st.State != control.StateStopped {
		t.Errorf("after the shutdown it is %s", st.State)
	}
}

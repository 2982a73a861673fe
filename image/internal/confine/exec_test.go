package confine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/internal/kernel"
	"github.com/parley-meet/parley/image/internal/stage"
)

// A user whom no machine has.
const testUser = 54321

func TestMain(m *testing.M) {
	os.Exit(stage.Main(m, func(dir string) error { return stage.Build(dir, "./testdata/probe", "../../init") }))
}

// bare is a spec without any right but to be.
func bare(args ...string) *Spec {
	return &Spec{
		Path: "/services/probe", Args: args, UID: testUser, GID: testUser,
		Files: 256, Processes: 1024, OOMScoreAdj: 300, Env: []string{"LANG=C"}, Umask: 0o027,
	}
}

// launch runs the real launch program and returns what the service printed.
func launch(t *testing.T, s *Spec) (stdout, stderr string, code int) {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return launchRaw(t, b)
}

func launchRaw(t *testing.T, spec []byte) (stdout, stderr string, code int) {
	t.Helper()
	stage.Need(t)
	name := filepath.Join(t.TempDir(), "spec")
	if err := os.WriteFile(name, spec, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd := exec.CommandContext(t.Context(), "/services/init")
	cmd.Args = []string{LaunchName}
	cmd.ExtraFiles = []*os.File{null, f, null} // 3, 4, and one that was forgotten
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// try runs the attempts in one service and checks each result.
func try(t *testing.T, s *Spec, want map[string]string) {
	t.Helper()
	s.Args = slices.Sorted(maps.Keys(want))
	stdout, stderr, code := launch(t, s)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	got := make(map[string]string)
	for line := range strings.Lines(stdout) {
		attempt, result, _ := strings.Cut(strings.TrimSpace(line), " ")
		got[attempt] = result
	}
	for _, a := range s.Args {
		if got[a] != want[a] {
			t.Errorf("%s: %s, want %s", a, got[a], want[a])
		}
	}
}

type report struct {
	Args, Env     []string
	Cwd, OOM      string
	Umask, Bits   int
	Status, Files map[string]string
	Limits        map[string]uint64
}

func ask(t *testing.T, s *Spec) (r report) {
	t.Helper()
	s.Args = append([]string{"report"}, s.Args...)
	s.Read = append(s.Read, "/proc")
	stdout, stderr, code := launch(t, s)
	line, rest, _ := strings.Cut(stdout, "\n")
	text, ok := strings.CutPrefix(line, "report: ")
	if !ok || code != 0 {
		t.Fatalf("exit code %d\n%s%s%s", code, line, rest, stderr)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCredentials(t *testing.T) {
	const (
		admin = 1 << unix.CAP_NET_ADMIN
		port  = 1 << unix.CAP_NET_BIND_SERVICE
	)
	for name, x := range map[string]struct {
		caps   []string
		groups []uint32
		bits   uint64
	}{
		"nothing": {nil, nil, 0},
		"some":    {[]string{"NET_ADMIN", "NET_BIND_SERVICE"}, []uint32{110, 111}, admin | port},
		"highest": {[]string{"CHECKPOINT_RESTORE"}, []uint32{110}, 1 << unix.CAP_CHECKPOINT_RESTORE},
	} {
		t.Run(name, func(t *testing.T) {
			s := bare()
			s.GID = testUser + 1
			s.Caps, s.Groups = x.caps, x.groups
			r := ask(t, s)
			var groups []string
			for _, g := range x.groups {
				groups = append(groups, strconv.Itoa(int(g)))
			}
			bits := fmt.Sprintf("%016x", x.bits)
			for k, want := range map[string]string{
				"Uid": "54321\t54321\t54321\t54321", "Gid": "54322\t54322\t54322\t54322", "Groups": strings.Join(groups, " "),
				"NoNewPrivs": "1",
				"CapInh":     bits, "CapPrm": bits, "CapEff": bits, "CapBnd": bits, "CapAmb": bits,
				"SigBlk": "0000000000000000", "SigIgn": ignored(t),
			} {
				if got := r.Status[k]; got != want {
					t.Errorf("%s %q, want %q", k, got, want)
				}
			}
			if r.Bits != securebits {
				t.Errorf("securebits %#x, want %#x", r.Bits, securebits)
			}
		})
	}
}

// ignored returns the signals that this process was started with as ignored,
// by nohup or a runner of tests: execve keeps them. PID 1 has none.
func ignored(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nSigIgn:\t")
	mask, _, _ := strings.Cut(rest, "\n")
	return mask
}

func TestSurroundings(t *testing.T) {
	s := bare()
	s.Umask = 0o013
	s.Args = []string{"say:two words", "say:"}
	s.Env = []string{"A=b c", "PATH="}
	r := ask(t, s)
	if want := []string{"probe", "report", "say:two words", "say:"}; !slices.Equal(r.Args, want) {
		t.Errorf("arguments %q, want %q", r.Args, want)
	}
	if !slices.Equal(r.Env, s.Env) {
		t.Errorf("environment %q, want %q", r.Env, s.Env)
	}
	if r.Cwd != "/" || r.Umask != 0o013 || r.OOM != "300" {
		t.Errorf("folder %q, umask %#o, OOM score %s", r.Cwd, r.Umask, r.OOM)
	}
	want := map[string]string{"0": "/dev/null", "1": "pipe", "2": "pipe", "3": "/dev/null"}
	if !maps.Equal(r.Files, want) {
		t.Errorf("descriptors %v, want %v", r.Files, want)
	}
	if want := map[string]uint64{"files": 256, "processes": 1024, "core": 0, "locked": 64 << 10}; !maps.Equal(r.Limits, want) {
		t.Errorf("limits %v, want %v", r.Limits, want)
	}
}

// What no service may do, whatever its rights on files.
func TestNeverAllowed(t *testing.T) {
	stage.Need(t)
	dir := folder(t)
	s := bare()
	s.Write = []string{dir}
	s.Read = []string{"/etc", "/services", "/bin", "/usr"}
	s.Caps = []string{"NET_RAW"} // a capability gives nothing else
	try(t, s, map[string]string{
		"setuid": "EPERM", "setgid": "EPERM", "addcap": "EPERM", "nolimit": "EPERM",
		"mount:" + dir:                   "EPERM",
		"exec:/bin/true":                 "EACCES",
		"exec:/services/init":            "EACCES",
		"exec:/bin/true," + dir + "/own": "EACCES",
		"mknod:" + dir + "/null":         "EACCES",
		"kill:1":                         "EPERM",
		"raw":                            "ok",
		"read:/etc/shadow":               "EACCES",
		"read:/etc/passwd":               "ok",
		"create:" + dir + "/made":        "ok",
		"rename:" + dir + "/made,/tmp/x": "EACCES",
	})
	s = bare()
	try(t, s, map[string]string{"raw": "EPERM"})
	s.Files = 64
	try(t, s, map[string]string{"files": "EACCES"}) // /dev/null is not its own
	s.Read = []string{"/dev/null"}
	try(t, s, map[string]string{"files": "EMFILE"})
}

// folder makes one that the test's user owns, reachable for everybody.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "confine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, testUser, testUser)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// own makes files that the user's permissions would let it do anything with, so
// that what refuses is Landlock.
func own(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		err := os.WriteFile(p, []byte("x"), 0o666)
		if strings.HasSuffix(p, "/") {
			err = os.Mkdir(p, 0o777)
		}
		if err := errors.Join(err, os.Chmod(p, 0o777), os.Chown(p, testUser, testUser)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLandlockFiles(t *testing.T) {
	stage.Need(t)
	dir := folder(t)
	r, w, no, file := dir+"/read/", dir+"/write/", dir+"/no/", dir+"/file"
	own(t, r, w, no, file, dir+"/other", r+"f", w+"f", w+"g", w+"h", no+"f")
	s := bare()
	s.Read = []string{r, file, "/dev/full", dir + "/missing"}
	s.Write = []string{w, dir + "/nor there"}
	s.Devices = []string{"/dev/zero"}
	want := map[string]string{
		"read:" + r + "f": "ok", "list:" + r: "ok", "read:" + file: "ok",
		"write:" + r + "f": "EACCES", "truncate:" + r + "f": "EACCES", "create:" + r + "new": "EACCES", "remove:" + r + "f": "EACCES",
		"mkdir:" + r + "d": "EACCES", "write:" + file: "EACCES",
		"read:" + w + "f": "ok", "write:" + w + "f": "ok", "truncate:" + w + "f": "ok", "create:" + w + "new": "ok", "remove:" + w + "g": "ok",
		"mkdir:" + w + "d": "ok", "list:" + w: "ok", "rename:" + w + "h," + w + "i": "ok",
		"read:" + no + "f": "EACCES", "list:" + no: "EACCES", "write:" + no + "f": "EACCES", "create:" + no + "new": "EACCES",
		"truncate:" + no + "f": "EACCES", "remove:" + no + "f": "EACCES",
		"read:" + dir + "/other": "EACCES", "list:" + dir: "EACCES",
		"read:" + dir + "/missing": "ENOENT",
		// Its program can be read, its neighbours not.
		"read:/services/probe": "ok", "read:/services/init": "EACCES", "list:/services": "EACCES", "list:/": "EACCES",
		"read:/proc/self/status": "EACCES", "read:/etc/passwd": "EACCES",
		"write:/dev/zero": "ok", "ioctl:/dev/zero": "ENOTTY",
		"rename:" + w + "f," + no + "f2": "EACCES",
	}
	if abi(t) >= 5 {
		want["ioctl:/dev/full"] = "EACCES"
	}
	// The attempts run sorted: "create" comes before what needs it.
	try(t, s, want)
}

// abi returns the kernel's Landlock ABI. Tests say what an older one leaves out.
func abi(t *testing.T) int {
	t.Helper()
	n, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		t.Fatalf("this kernel has no Landlock: %v", errno)
	}
	return int(n)
}

// needABI ends a test of what this kernel cannot do, and fails in CI unless the
// appliance's kernel is tested for it in the virtual machine.
func needABI(t *testing.T, n int, inMachine bool) {
	t.Helper()
	got := abi(t)
	if got >= n {
		return
	}
	if os.Getenv("CI") != "" && !inMachine {
		t.Fatalf("this kernel has Landlock ABI %d, the test needs %d", got, n)
	}
	t.Skipf("this kernel has Landlock ABI %d, the test needs %d", got, n)
}

func listen(t *testing.T) (port string, n uint16) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	n = uint16(l.Addr().(*net.TCPAddr).Port)
	return strconv.Itoa(int(n)), n
}

func TestLandlockPorts(t *testing.T) {
	stage.Need(t)
	needABI(t, 4, false)
	to, toPort := listen(t)
	other, _ := listen(t)
	// Go listens with MPTCP where it can, which passes Landlock by; so the
	// appliance's parameters are part of what is tested.
	var own []kernel.Sysctl
	for _, s := range kernel.Sysctls {
		if s.Name == "net.mptcp.enabled" || s.Name == "net.ipv4.ip_unprivileged_port_start" {
			own = append(own, s)
		}
	}
	kernel.SetSysctls("/proc/sys", own, slog.New(slog.NewTextHandler(t.Output(), nil)))
	s := bare()
	s.Bind, s.Connect = []uint16{5480, 5443}, []uint16{toPort}
	try(t, s, map[string]string{
		"bind:5480": "ok", "bind:5443": "ok", "bind:5481": "EACCES", "bind:0": "EACCES",
		"connect:" + to: "ok", "connect:" + other: "EACCES", "bind:" + other: "EACCES", "connect:5480": "EACCES",
	})
	// The right to bind is none to connect.
	try(t, bare(), map[string]string{"bind:5480": "EACCES", "connect:" + to: "EACCES"})
	// The right to connect anywhere is none to bind.
	s = bare()
	s.Bind, s.Connect, s.ConnectAny = []uint16{5480}, []uint16{toPort}, true
	try(t, s, map[string]string{"connect:" + to: "ok", "connect:" + other: "ok", "bind:5480": "ok", "bind:5481": "EACCES"})
	// Landlock's right does not replace the capability.
	s = bare()
	s.Bind = []uint16{79, 80, 443}
	try(t, s, map[string]string{"bind:79": "EACCES", "bind:80": "ok", "bind:443": "ok"})
	s.Caps = []string{"NET_BIND_SERVICE"}
	try(t, s, map[string]string{"bind:79": "ok", "bind:81": "EACCES"})
}

func TestLandlockScopes(t *testing.T) {
	stage.Need(t)
	needABI(t, 6, false)
	l, err := net.Listen("unix", "@parley-test")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// A process of the same user outside of the domain.
	cmd := exec.Command("/services/probe", "sleep:")
	cmd.SysProcAttr = &unix.SysProcAttr{Credential: &unixCredential}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	try(t, bare(), map[string]string{
		"unix:@parley-test":                     "EPERM",
		"kill:" + strconv.Itoa(cmd.Process.Pid): "EPERM",
	})
}

// sockets are a folder that a service may connect in, its own, and another.
func sockets(t *testing.T) (dir string, s *Spec) {
	stage.Need(t)
	dir = folder(t)
	own(t, dir+"/run/", dir+"/own/", dir+"/no/")
	for _, d := range []string{"run", "own", "no"} {
		p := filepath.Join(dir, d, "s")
		l, err := net.Listen("unix", p)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		if err := os.Chmod(p, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	s = bare()
	s.Sockets, s.Write = []string{dir + "/run"}, []string{dir + "/own"}
	return dir, s
}

func TestLandlockSockets(t *testing.T) {
	dir, s := sockets(t)
	try(t, s, map[string]string{"unix:" + dir + "/run/s": "ok", "unix:" + dir + "/own/s": "ok", "list:" + dir + "/run": "EACCES"})
	// One socket alone may be named too.
	s.Sockets, s.Write = []string{dir + "/no/s"}, nil
	want := map[string]string{"unix:" + dir + "/no/s": "ok"}
	if abi(t) >= 9 {
		want["unix:"+dir+"/run/s"] = "EACCES"
	}
	try(t, s, want)
}

func TestLandlockOtherSockets(t *testing.T) {
	dir, s := sockets(t)
	needABI(t, 9, true)
	try(t, s, map[string]string{"unix:" + dir + "/no/s": "EACCES"})
}

// A service makes no process: one would live on when the service is killed.
func TestNoProcesses(t *testing.T) {
	const x32 = 1 << 30
	thread := unix.CLONE_VM | unix.CLONE_SIGHAND | unix.CLONE_THREAD
	call := func(nr, arg int) string { return fmt.Sprintf("call:%d,%d", nr, arg) }
	try(t, bare(), map[string]string{
		"orphan":                              "EPERM",
		call(sysFork, 0):                      "EPERM",
		call(sysVfork, 0):                     "EPERM",
		call(sysClone, int(unix.SIGCHLD)):     "EPERM",
		call(sysClone, unix.CLONE_PARENT):     "EPERM",
		call(sysClone, thread&^unix.CLONE_VM): "EINVAL", // as without the filter
		call(sysClone3, 0):                    "ENOSYS",
	})
	s := bare(call(sysFork|x32, 0))
	if stdout, _, code := launch(t, s); code != -1 || stdout != "" {
		t.Errorf("a call of the x32 ABI: exit code %d, %q; want its end by a signal", code, stdout)
	}
}

// Nor does it make memory that outlives it or counts for nobody.
func TestNoSharedMemory(t *testing.T) {
	want := map[string]string{"call:0,1000": "EBADF"} // read, of no descriptor: others pass
	for _, nr := range refused {
		want[fmt.Sprintf("call:%d,0", nr)] = "EPERM"
	}
	try(t, bare(), want)
}

// Starting many: nothing that a Go runtime does beside it (threads that start
// while it executes) may break the launch.
func TestLaunchOften(t *testing.T) {
	for range 50 {
		stdout, stderr, code := launch(t, bare("say:here"))
		if stdout != "say:here ok\n" || stderr != "here\n" || code != 0 {
			t.Fatalf("%q %q %d", stdout, stderr, code)
		}
	}
}

// What cannot be carried out ends with the code that the supervisor knows and
// one line that names the step, and the service does not run.
func TestLaunchRefuses(t *testing.T) {
	change := func(f func(s *Spec)) []byte {
		s := bare("say:it runs")
		f(s)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, x := range map[string]struct {
		spec []byte
		want string
	}{
		"no spec":            {nil, "spec: EOF"},
		"no program":         {change(func(s *Spec) { s.Path = "/services/none" }), "execve /services/none: no such file"},
		"unknown capability": {change(func(s *Spec) { s.Caps = []string{"CAP_NET_RAW"} }), `capability "CAP_NET_RAW" is unknown`},
		"root":               {change(func(s *Spec) { s.UID = 0 }), "never root"},
		"too many files":     {change(func(s *Spec) { s.Files = 1 << 40 }), "setrlimit(NOFILE, 1099511627776)"},
		"OOM":                {change(func(s *Spec) { s.OOMScoreAdj = 2000 }), "oom_score_adj 2000"},
		"no text file":       {change(func(s *Spec) { s.Path = "/etc/passwd" }), "execve /etc/passwd: permission denied"},
		"NUL argument":       {change(func(s *Spec) { s.Args = []string{"a\x00b"} }), "arguments: invalid argument"},
		"NUL environment":    {change(func(s *Spec) { s.Env = []string{"a\x00b"} }), "environment: invalid argument"},
		"NUL path":           {change(func(s *Spec) { s.Path = "/a\x00b" }), "invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := launchRaw(t, x.spec)
			if code != FailedCode || stdout != "" || !strings.HasPrefix(stderr, "launch: ") || !strings.Contains(stderr, x.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, output %q, errors %q; want %d and %q", code, stdout, stderr, FailedCode, x.want)
			}
		})
	}
}

package qemutest_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/image"
	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/qemutest"
	"github.com/parley-meet/parley/internal/judge"
)

// root is the repository's folder from here.
const root = "../.."

// Everything here is emulated: these are bounds for giving up, not measures.
const (
	bootTime = 3 * time.Minute
	stepTime = time.Minute
)

// long asks for the full counts.
var long = os.Getenv("PARLEY_LONG") != ""

// rounds is a count of the sampled run, or of the full one.
func rounds(sampled, full int) int {
	if long {
		return full
	}
	return sampled
}

// built is the real image, made once for all tests.
var built struct {
	sync.Once
	dir     string
	disk    string
	result  *image.Result
	config  *config.Config
	version image.Version
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

func build(ctx context.Context) error {
	var err error
	if built.dir, err = os.MkdirTemp("", "parley-image-"); err != nil {
		return err
	}
	if built.config, err = config.Load(filepath.Join(root, "config.json")); err != nil {
		return err
	}
	if built.version, err = image.GitVersion(ctx, root); err != nil {
		return err
	}
	built.disk = filepath.Join(built.dir, "disk.raw")
	built.result, err = buildDisk(ctx, built.config, built.version, built.disk)
	return err
}

// buildDisk builds an image into a file; its folder gets what is in between, too.
func buildDisk(ctx context.Context, cfg *config.Config, version image.Version, disk string) (*image.Result, error) {
	goTool, err := image.NewToolchain(ctx, root)
	if err != nil {
		return nil, err
	}
	f, err := os.Create(disk)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return image.Build(ctx, f, image.Options{Config: cfg, Go: goTool, Work: filepath.Dir(disk), Version: version})
}

// realDisk returns the path of the real image, which nobody writes to.
func realDisk(t *testing.T) string {
	t.Helper()
	built.Do(func() { built.err = build(context.Background()) })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.disk
}

// copyDisk returns a copy of the real image that keeps what is written.
func copyDisk(t *testing.T) string {
	t.Helper()
	from := realDisk(t)
	to := filepath.Join(t.TempDir(), "disk.raw")
	if err := qemutest.CopyDisk(from, to); err != nil {
		t.Fatal(err)
	}
	return to
}

// partition is one of the real disk's.
func partition(t *testing.T, n int) layout.Partition {
	t.Helper()
	realDisk(t)
	ps, err := layout.Partitions(built.result.Size)
	if err != nil {
		t.Fatal(err)
	}
	return ps[n-1]
}

// withArguments adds kernel arguments to slot A's BIOS command line.
func withArguments(t *testing.T, disk string, args ...string) {
	t.Helper()
	if err := qemutest.AddArguments(disk, args...); err != nil {
		t.Fatal(err)
	}
}

// scribble writes over bytes of a disk.
func scribble(t *testing.T, disk string, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
}

// extract copies a partition into a file of its own, for judges.
func extract(t *testing.T, disk string, n int) string {
	t.Helper()
	p := partition(t, n)
	in, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	path := filepath.Join(t.TempDir(), p.Name)
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(in, p.Start.Bytes(), p.Bytes())); err != nil {
		t.Fatal(err)
	}
	return path
}

// vm is a machine of a test.
type vm struct {
	*qemutest.Machine
	t        *testing.T
	password string
}

// boot starts a machine and shows its serial line when the test fails.
func boot(t *testing.T, o qemutest.Options) *vm {
	t.Helper()
	judge.Need(t, "qemu-system-x86_64")
	if o.Disk == "" {
		o.Disk, o.Snapshot = realDisk(t), true
	}
	// Not t.TempDir: with a long test name a socket's path in it is too long.
	dir, err := os.MkdirTemp("", "vm-")
	if err != nil {
		t.Fatal(err)
	}
	o.Dir = dir
	m, err := qemutest.Start(t.Context(), o)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		os.RemoveAll(dir)
		if t.Failed() {
			text := m.Serial.Text()
			t.Logf("the serial line said (last 6000 bytes of %d):\n%s", len(text), text[max(0, len(text)-6000):])
		}
	})
	return &vm{Machine: m, t: t}
}

// expect waits for a pattern on the serial line.
func (v *vm) expect(pattern string, timeout time.Duration) []string {
	v.t.Helper()
	m, err := v.Serial.Expect(pattern, timeout)
	if err != nil {
		v.t.Fatal(err)
	}
	return m
}

func (v *vm) send(s string) {
	v.t.Helper()
	if err := v.Serial.Send(s); err != nil {
		v.t.Fatal(err)
	}
}

var readyLine = `all (\d+) services ready (\d+) ms after PID 1 started \(([0-9.]+) s after power-on`

// ready waits until every service is, and tells how long that took.
func (v *vm) ready() {
	v.t.Helper()
	m := v.expect(readyLine, bootTime)
	v.t.Logf("%s services ready %s ms after PID 1, %s s after the kernel's start", m[1], m[2], m[3])
}

// up waits for the services and the generated password.
func (v *vm) up() {
	v.t.Helper()
	v.ready()
	v.password = v.expect(`(?:admin password|пароль admin): ([a-z0-9-]+)\s`, stepTime)[1]
	v.expect(`login: `, stepTime)
}

const prompt = `parley> (?:\x1b\[K)*$`

// login logs in on the serial line with the generated password, or the one that
// was set.
func (v *vm) login() {
	v.t.Helper()
	v.send("admin\r")
	v.expect(`(?:Password|Пароль): `, stepTime)
	v.send(v.password + "\r")
	v.expect(prompt, stepTime)
}

// escapes are what the line editor sends to move the cursor.
var escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)

// command types a command and returns what it printed.
func (v *vm) command(line string) string {
	v.t.Helper()
	v.send(line + "\r")
	var out string
	for { // what is longer than a screen comes in pages
		m := v.expect(`(?s)(.*?)(?:`+prompt+`|-- (more|далее) --)`, stepTime)
		if out += m[1]; m[2] == "" {
			break
		}
		v.send(" ")
	}
	return strings.ReplaceAll(escapes.ReplaceAllString(out, ""), "\r", "")
}

// want runs a command whose output must match.
func (v *vm) want(line, pattern string) []string {
	v.t.Helper()
	out := v.command(line)
	m := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if m == nil {
		v.t.Fatalf("%s printed\n%s\nwant %q", line, out, pattern)
	}
	return m
}

// until repeats a command until its output, unwrapped, matches.
func (v *vm) until(line, pattern string) {
	v.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(2 * stepTime); ; time.Sleep(time.Second) {
		out := v.unwrapped(line)
		if re.MatchString(out) {
			return
		}
		if time.Now().After(end) {
			v.t.Fatalf("%s goes on printing\n%s\nwant %q", line, out, pattern)
		}
	}
}

// address waits until there is the one that QEMU's DHCP server gives. Some cards
// take seconds for their link.
func (v *vm) address() {
	v.t.Helper()
	v.until("ifconfig", `10\.0\.2\.15/24`)
}

// unwrapped is command for output whose long lines the console breaks.
func (v *vm) unwrapped(line string) string {
	v.t.Helper()
	return strings.Join(strings.Fields(v.command(line)), " ")
}

// wantLog is want for such output.
func (v *vm) wantLog(line, pattern string) {
	v.t.Helper()
	if out := v.unwrapped(line); !regexp.MustCompile(pattern).MatchString(out) {
		v.t.Fatalf("%s printed\n%s\nwant %q", line, out, pattern)
	}
}

// off presses the power button and waits until the machine is off.
func (v *vm) off() {
	v.t.Helper()
	if err := v.QMP.PowerButton(); err != nil {
		v.t.Fatal(err)
	}
	if err := v.WaitExit(stepTime); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vm) event(name string, after int, timeout time.Duration) {
	v.t.Helper()
	if err := v.QMP.WaitEvent(name, after, timeout); err != nil {
		v.t.Fatal(err)
	}
}

// artefact returns a path for something to look at, in the folder artefacts.
func artefact(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(root, "artefacts"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, fmt.Sprintf("%s-%s", strings.ReplaceAll(t.Name(), "/", "-"), name))
}

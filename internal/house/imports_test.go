package house

import (
	"bytes"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// barred says why a package in the folder from must not import the folder to,
// or returns "". Processes meet in files, sockets and the zone bus.
func barred(from, to string) string {
	switch {
	case withinAny(from, "image", "tools") && within(to, "services"):
		return "the image and its tools do not know the services"
	case within(from, "image") && within(to, "tools"):
		return "tools build on the image, not the other way"
	case within(from, "services") && within(to, "tools"):
		return "services do not know the tools"
	case within(from, "services/internal") && within(to, "services") && !within(to, "services/internal"):
		return "what services share knows none of them"
	case within(from, "services") && within(to, "services") && !within(to, "services/internal") && service(from) != service(to):
		return "a service does not import another; what both need is in services/internal"
	}
	return ""
}

// service returns the folder of the service that dir belongs to.
func service(dir string) string {
	parts := strings.SplitN(dir, "/", 3)
	return path.Join(parts[:min(len(parts), 2)]...)
}

func TestBarred(t *testing.T) {
	const m = "may"
	for _, x := range []struct{ from, to, want string }{
		{"image/init", "services/console", ""}, {"tools/mkovf", "services/internal/look", ""},
		{"image/disk", "tools/mkovf/internal/vmdk", ""}, {"services/console", "services/network", ""},
		{"services/console/page", "services/network", ""}, {"services/internal/look", "services/console", ""},
		{"services/console", "services/internal/look", m}, {"services/console", "services/console/page", m},
		{"services/console", "image/control", m}, {"tools/mkovf", "image", m},
		{"services/internal/look", "services/internal/health", m}, {"imagery", "services/console", m},
	} {
		if got := barred(x.from, x.to); (got == "") != (x.want == m) {
			t.Errorf("%s imports %s: %q", x.from, x.to, got)
		}
	}
}

// Direct imports, for every platform and in tests too.
func TestDirection(t *testing.T) {
	for _, s := range sources(t) {
		for _, p := range s.imports() {
			to, own := local(p)
			if !own {
				continue
			}
			if why := barred(s.dir, to); why != "" {
				t.Errorf("%s imports %s: %s", s.path, to, why)
			}
		}
	}
}

// What the linker would see: a way round over a third package is none.
func TestDependencies(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{.ImportPath}}", "./image/...", "./tools/...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, module+"/image/layout") {
		t.Fatalf("go list found %d packages and image/layout is none of them", len(deps))
	}
	for _, p := range deps {
		if dir, own := local(p); own && within(dir, "services") {
			t.Errorf("image or tools depend on %s", p)
		}
	}
}

// Contracts are what two processes agree on. They stay so small that anything
// may import them.
func TestContracts(t *testing.T) {
	contracts := []string{"image/layout", "image/control", "image/liveness"}
	for _, s := range sources(t) {
		if s.test || !slices.Contains(contracts, s.dir) {
			continue
		}
		for _, p := range s.imports() {
			if !standard(p) && p != module+"/image/layout" {
				t.Errorf("%s imports %s: a contract has the standard library and image/layout alone", s.path, p)
			}
		}
	}
}

// execs are the folders that may start processes; on the appliance that is
// PID 1's alone (image/launch becomes the service). image/internal/stage starts
// tests in namespaces.
var execs = []string{"image/init", "image/launch", "image/qemutest", "image/internal/stage", "tools", "internal/house", "internal/judge"}

// unsafes say what cannot be said in safe Go.
var unsafes = map[string]string{
	"image/internal/confine": "Landlock, capset and execve, called where Go's runtime may not be",
	"image/drill":            "a system call whose argument is a pointer, and which Go's runtime must not know of",
	"image/internal/font":    "an ioctl that x/sys has no function for",
	"image/internal/power":   "the size of a machine word, in which sysfs prints bitmaps",
	"image/internal/perm":    "ioctls that x/sys has no function for, and buffers aligned for O_DIRECT",

	"services/internal/sfu/wire":      "recvmmsg and sendmmsg, for which x/sys has no function",
	"services/internal/sfu/transport": "two fields of pion/webrtc that it does not export",
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, p := range s.imports() {
			switch p {
			case "os/exec":
				// "image" itself runs the Go compiler; the packages below it do not.
				if !s.test && s.dir != "image" && !withinAny(s.dir, execs...) {
					t.Errorf("%s imports %s: nothing but PID 1, the builder and tools start a process", s.path, p)
				}
			case "unsafe":
				if unsafes[s.dir] == "" {
					t.Errorf("%s imports %s and %s has no reason in unsafes", s.path, p, s.dir)
				}
			case "C":
				t.Errorf("%s imports C: the userland is Go alone", s.path)
			case "plugin":
				t.Errorf("%s imports %s: code comes with the image, not later", s.path, p)
			case "net/http/pprof":
				if within(s.dir, "services") {
					t.Errorf("%s imports %s: it adds itself to the default mux, unprotected", s.path, p)
				}
			}
		}
	}
}

// A reason that nobody needs any more goes.
func TestUnsafesAreUsed(t *testing.T) {
	for dir := range unsafes {
		if !slices.ContainsFunc(sources(t), func(s source) bool {
			return s.dir == dir && slices.Contains(s.imports(), "unsafe")
		}) {
			t.Errorf("%s has a reason for unsafe and does not import it", dir)
		}
	}
}

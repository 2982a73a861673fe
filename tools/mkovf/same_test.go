package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/squashfs"
	"github.com/parley-meet/parley/internal/judge"
)

// elsewhere is a clone of the commit in another folder, with a build cache that
// was empty before it was built, and other surroundings in every respect that
// could leave a trace: time, umask, time zone, language, processors, user names,
// settings of Go.
type elsewhere struct {
	delivery
	clone string
	env   []string
}

var distant = sync.OnceValues(func() (*elsewhere, error) {
	top, err := os.MkdirTemp("", "mkovf-elsewhere-")
	if err != nil {
		return nil, err
	}
	shared = append(shared, top)
	e := &elsewhere{delivery: delivery{dir: filepath.Join(top, "out")}, clone: filepath.Join(top, "another", "folder")}
	if out, err := exec.Command("git", "clone", "-q", repo, e.clone).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("git clone: %w: %s", err, out)
	}
	settings, err := exec.Command("go", "env", "GOPATH", "GOMODCACHE", "GOPROXY", "GOTOOLCHAIN").Output()
	if err != nil {
		return nil, err
	}
	for i, v := range strings.Split(strings.TrimSuffix(string(settings), "\n"), "\n") {
		e.env = append(e.env, []string{"GOPATH", "GOMODCACHE", "GOPROXY", "GOTOOLCHAIN"}[i]+"="+v)
	}
	e.env = append(e.env, "GOCACHE="+filepath.Join(top, "cache"), "HOME="+top, "USER=somebody", "LOGNAME=somebody",
		"TZ=Asia/Vladivostok", "LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8", "GOMAXPROCS=3",
		// The tags are klauspost/compress's: no assembler and no unsafe, which is
		// what other processors get.
		"GOFLAGS=-tags=noasm,nounsafe", "GOAMD64=v3", "GOEXPERIMENT=", "GODEBUG=http2client=0", "GOGC=400")
	return e, e.start(exec.Command("sh", "-c", `umask 077 && exec go run ./tools/mkovf -o "$1" -json -format raw,qcow2,vhd`, "sh", e.dir), e.clone, e.env)
})

func another(t *testing.T) *elsewhere {
	t.Helper()
	if strings.Contains(deliver(t).res.Version, "modified") && os.Getenv("CI") == "" {
		t.Skip("the checkout is modified; a clone would be another version")
	}
	e, err := distant()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestReproducible(t *testing.T) {
	d, e := deliver(t), another(t)
	if e.res.Version != d.res.Version {
		t.Fatalf("the clone is %s, the checkout %s: is a file not committed?", e.res.Version, d.res.Version)
	}
	if len(e.res.Files) != len(d.res.Files) {
		t.Fatalf("%d files, want %d", len(e.res.Files), len(d.res.Files))
	}
	for i, f := range d.res.Files {
		if e.res.Files[i] != f {
			t.Errorf("%+v in the checkout, %+v elsewhere", f, e.res.Files[i])
		}
	}
}

// rootFiles are the files of the root of a raw disk.
func rootFiles(t *testing.T, raw string) (map[string]squashfs.File, *io.SectionReader) {
	t.Helper()
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	parts, err := layout.Partitions(st.Size())
	if err != nil {
		t.Fatal(err)
	}
	root := io.NewSectionReader(f, parts[layout.RootA-1].Start.Bytes(), layout.RootSize)
	img, err := squashfs.Open(root, root.Size())
	if err != nil {
		t.Fatal(err)
	}
	list, err := img.List()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]squashfs.File{}
	for _, e := range list {
		files[e.Path] = e
	}
	return files, root
}

// chunks are the hashes of the chunks that an update would be made of.
func chunks(t *testing.T, r io.ReaderAt) (list [][32]byte) {
	t.Helper()
	b := make([]byte, layout.ChunkSize)
	for off := int64(0); off < layout.RootSize; off += layout.ChunkSize {
		if _, err := r.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		list = append(list, sha256.Sum256(b))
	}
	return list
}

// TestOneLine changes one line of the services' program. Of the root file system,
// that program's chunks change, the ones with the version and the tables, and no
// other program: not PID 1.
func TestOneLine(t *testing.T) {
	e := another(t)
	const service = "services/appliance"
	main := filepath.Join(e.clone, filepath.FromSlash(service), "main.go")
	source, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(source, []byte(`os.Exit(`), []byte(`println("on the way"); os.Exit(`), 1)
	if bytes.Equal(changed, source) {
		t.Fatalf("%s has no line to change", main)
	}
	if err := os.WriteFile(main, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(main, source, 0o600)
	again := &delivery{dir: t.TempDir()}
	if err := again.run(e.clone, e.env, "-format", "raw"); err != nil {
		t.Fatal(err)
	}
	before, oldRoot := rootFiles(t, e.path("parley.raw"))
	after, newRoot := rootFiles(t, again.path("parley.raw"))

	old := map[[32]byte]bool{}
	for _, c := range chunks(t, oldRoot) {
		old[c] = true
	}
	zero, total, fresh := sha256.Sum256(make([]byte, layout.ChunkSize)), 0, 0
	for _, c := range chunks(t, newRoot) {
		if c != zero {
			total++
		}
		if !old[c] {
			fresh++
		}
	}
	f := after[service]
	own := int((f.Stored + layout.ChunkSize - 1) / layout.ChunkSize)
	t.Logf("%d of %d chunks of the root changed; %s has %d", fresh, total, service, own)
	// Small files and their tables are in at most two chunks more.
	if fresh == 0 || fresh > own+2 || own == 0 {
		t.Errorf("%d chunks changed, want at most the program's %d and 2", fresh, own)
	}
	for path, f := range after {
		if f.Stored == 0 || path == service {
			continue
		}
		if !bytes.Equal(content(t, before[path]), content(t, f)) {
			t.Errorf("%s changed", path)
		}
		if f.Start%layout.ChunkSize != 0 && f.Size > layout.ChunkSize {
			t.Errorf("%s starts at %d, which is no multiple of %d", path, f.Start, layout.ChunkSize)
		}
	}
}

func content(t *testing.T, f squashfs.File) []byte {
	t.Helper()
	if f.Open == nil {
		return nil
	}
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVariants: the disk is one, compressed once.
func TestVariants(t *testing.T) {
	d := deliver(t)
	judge.Need(t, "cmp")
	a, b := d.path(variants[0]+".vmdk"), d.path(variants[1]+".vmdk")
	// They differ in the descriptor's sectors alone, by the file's name.
	const front = 64 << 10
	judge.Run(t, "cmp", "-i", fmt.Sprint(front), a, b)
	if _, err := judge.Try(t, "cmp", "-s", a, b); err == nil {
		t.Error("both disks name one file")
	}
}

// TestCancelled: a run that is cancelled before it begins makes no folder.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := filepath.Join(t.TempDir(), "out")
	if _, err := run(ctx, options{config: filepath.Join(repo, "config.json"), out: out, progress: newProgress(os.Stderr)}); err == nil {
		t.Error("it ran")
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("the folder was made")
	}
}

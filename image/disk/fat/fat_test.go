package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"pgregory.net/rapid"
)

const mib = 1 << 20

func params(size int64) Params {
	return Params{Size: size, Label: "TEST", Serial: 0x1234abcd, Hidden: 8192, Time: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)}
}

// trees are lists of files that are hard in different ways.
func trees() map[string][]File {
	many := make([]File, 300) // a folder of several clusters
	for i := range many {
		many[i] = File{Path: fmt.Sprintf("many/a-long-name-number-%d.text", i), Size: int64(i + 1)}
	}
	deep := "D"
	for i := range 20 {
		deep += fmt.Sprintf("/level-%d", i)
	}
	return map[string][]File{
		"none": nil,
		"esp": {
			{"loader/entries/slot-a.conf", 4096, 4096}, {"loader/entries/slot-b.conf", 4096, 4096}, {"loader/loader.conf", 4096, 4096},
			{"parley/a/vmlinuz", 5 * mib, mib}, {"parley/b/vmlinuz", 5 * mib, mib}, {"EFI/BOOT/BOOTX64.EFI", 150_001, 4096},
		},
		"many": many,
		"deep": {{Path: deep + "/f", Size: 1}},
		"names": {
			{Path: "12345678.123", Size: 1}, {Path: "123456789.123", Size: 1}, {Path: "123456789a.123", Size: 1}, {Path: "x.conf", Size: 1},
			{Path: "x.configuration", Size: 1}, {Path: "a.b.c", Size: 1}, {Path: "A.B.D", Size: 1}, {Path: "mixedCase", Size: 1},
			{Path: "13-letters-ok", Size: 1}, {Path: "26-letters-are-two-entries", Size: 1}, {Path: strings.Repeat("n", 255), Size: 1},
		},
		"aligned": {{"A", 1, 0}, {"B", 4097, 4096}, {"C", 1, 512}, {"D", 2*mib + 1, mib}, {"E", 1, 8192}},
	}
}

// content is what a file holds in tests: different in each.
func content(f File) []byte {
	b := make([]byte, f.Size)
	seed := [32]byte{}
	copy(seed[:], f.Path)
	rand.NewChaCha8(seed).Read(b)
	return b
}

// write makes a volume with its contents.
func write(t testing.TB, p Params, files []File) (*os.File, []int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "volume"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(p.Size); err != nil {
		t.Fatal(err)
	}
	offsets, err := Write(f, p, files)
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range offsets {
		if _, err := f.WriteAt(content(files[i]), at); err != nil {
			t.Fatal(err)
		}
	}
	return f, offsets
}

// fsck runs fsck.fat, which may say nothing but what it counted.
func fsck(t testing.TB, name string) {
	t.Helper()
	tool, err := exec.LookPath("fsck.fat")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), tool, "-n", name).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != 2 || !strings.HasPrefix(lines[0], "fsck.fat ") || !strings.Contains(lines[1], " clusters") {
		t.Errorf("fsck.fat: %v\n%s", err, out)
	}
}

func TestFsck(t *testing.T) {
	for name, files := range trees() {
		t.Run(name, func(t *testing.T) {
			f, _ := write(t, params(96*mib), files)
			fsck(t, f.Name())
		})
	}
	for _, size := range []int64{MinSize, MinSize + 4096, 64 * mib, 67 * mib, 131 * mib, 300 * mib, 1 << 30, MaxSize} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			f, _ := write(t, params(size), trees()["esp"])
			fsck(t, f.Name())
		})
	}
}

// A foreign reader finds every file with its content, and nothing else.
func TestForeignReader(t *testing.T) {
	for name, files := range trees() {
		t.Run(name, func(t *testing.T) {
			f, _ := write(t, params(96*mib), files)
			volume, err := fat32.Read(file.New(f, true), 96*mib, 0, 512)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(volume.Label()); got != "TEST" {
				t.Errorf("label %q", got)
			}
			var found []string
			err = fs.WalkDir(volume, ".", func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				found = append(found, path)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(found) != len(files) {
				t.Errorf("%d files, want %d: %q", len(found), len(files), found)
			}
			for _, want := range files {
				got, err := fs.ReadFile(volume, want.Path)
				if err != nil || !bytes.Equal(got, content(want)) {
					t.Errorf("%s: %d bytes, %v; want %d", want.Path, len(got), err, want.Size)
				}
			}
		})
	}
}

// extents notes what is written, and fails when a byte is written twice.
type extents struct {
	t    rapid.TB
	size int64
	list [][2]int64
}

func (e *extents) add(from, to int64) {
	for _, x := range e.list {
		if from < x[1] && x[0] < to {
			e.t.Fatalf("bytes %d to %d written over %d to %d", from, to, x[0], x[1])
		}
	}
	if from < 0 || to > e.size {
		e.t.Fatalf("bytes %d to %d of %d written", from, to, e.size)
	}
	e.list = append(e.list, [2]int64{from, to})
}

func (e *extents) WriteAt(b []byte, off int64) (int, error) {
	e.add(off, off+int64(len(b)))
	return len(b), nil
}

func TestNothingOverlaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(MinSize/4096, MinSize/4096*8).Draw(t, "pages") * 4096
		var files []File
		for i := range rapid.IntRange(0, 12).Draw(t, "files") {
			folder := rapid.SampledFrom([]string{"", "A/", "a-long-folder-name/", "A/b/c/"}).Draw(t, "folder")
			files = append(files, File{
				Path: fmt.Sprintf("%sfile-%d", folder, i), Size: rapid.Int64Range(1, 3*mib).Draw(t, "size"),
				Align: rapid.SampledFrom([]int64{0, 1, 512, 4096, mib}).Draw(t, "align"),
			})
		}
		e := &extents{t: t, size: size}
		offsets, err := Write(e, params(size), files)
		if err != nil {
			if !strings.Contains(err.Error(), "too small") {
				t.Fatal(err)
			}
			return
		}
		for i, f := range files {
			e.add(offsets[i], offsets[i]+f.Size)
			if f.Align > 0 && offsets[i]%f.Align != 0 {
				t.Fatalf("offset %d of %+v", offsets[i], f)
			}
		}
	})
}

func TestDeterministic(t *testing.T) {
	files := trees()["esp"]
	p := params(64 * mib)
	one, _ := write(t, p, files)
	p.Time = p.Time.In(time.FixedZone("", 9*3600))
	two, _ := write(t, p, files)
	a, err1 := os.ReadFile(one.Name())
	b, err2 := os.ReadFile(two.Name())
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(a, b) {
		t.Errorf("differ; %v", err)
	}
}

// The volume is full with the last cluster, not before and not after.
func TestFull(t *testing.T) {
	v := newVolume(params(MinSize))
	for _, c := range []struct {
		over int64
		fits bool
	}{{0, true}, {1, false}} {
		size := (v.clusters-1)*v.clusterSize + c.over // the root has one cluster
		e := &extents{t: t, size: MinSize}
		if _, err := Write(e, params(MinSize), []File{{Path: "F", Size: size}}); (err == nil) != c.fits {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

type faulty struct{ writes int }

var errFault = errors.New("fault")

func (f *faulty) WriteAt(b []byte, off int64) (int, error) {
	if f.writes--; f.writes == 0 {
		return 0, errFault
	}
	return len(b), nil
}

func TestWriteErrors(t *testing.T) {
	n := 1
	for ; ; n++ {
		f := &faulty{n}
		_, err := Write(f, params(MinSize), trees()["esp"][:3])
		if f.writes > 0 {
			break
		}
		if !errors.Is(err, errFault) {
			t.Errorf("write %d fails: %v", n, err)
		}
	}
	if n != 1+2+tables+3 { // boot sectors, tables, root and two folders
		t.Errorf("%d writes", n-1)
	}
}

func TestBadArguments(t *testing.T) {
	for name, c := range map[string]struct {
		bad  func(p *Params)
		file File
	}{
		"small":         {func(p *Params) { p.Size = MinSize - 4096 }, File{}},
		"large":         {func(p *Params) { p.Size = MaxSize + 4096 }, File{}},
		"odd size":      {func(p *Params) { p.Size += 512 }, File{}},
		"no label":      {func(p *Params) { p.Label = "" }, File{}},
		"long label":    {func(p *Params) { p.Label = "ABCDEFGHIJKL" }, File{}},
		"small letters": {func(p *Params) { p.Label = "parley" }, File{}},
		"1979":          {func(p *Params) { p.Time = time.Unix(0, 0) }, File{}},
		"2108":          {func(p *Params) { p.Time = time.Date(2108, 1, 1, 0, 0, 0, 0, time.UTC) }, File{}},
		"empty file":    {nil, File{Path: "X"}},
		"4 GiB":         {nil, File{Path: "X", Size: 1 << 32}},
		"align 3":       {nil, File{Path: "X", Size: 1, Align: 3}},
		"align 2 MiB":   {nil, File{Path: "X", Size: 1, Align: 2 * mib}},
		"align -1":      {nil, File{Path: "X", Size: 1, Align: -1}},
		"no name":       {nil, File{Path: "", Size: 1}},
		"empty name":    {nil, File{Path: "x//y", Size: 1}},
		"from the root": {nil, File{Path: "/x", Size: 1}},
		"dots":          {nil, File{Path: "../x", Size: 1}},
		"end dot":       {nil, File{Path: "x.", Size: 1}},
		"space":         {nil, File{Path: "a b", Size: 1}},
		"cyrillic":      {nil, File{Path: "файл", Size: 1}},
		"256 letters":   {nil, File{Path: strings.Repeat("x", 256), Size: 1}},
		"twice":         {nil, File{Path: "FILE", Size: 1}},
		"case only":     {nil, File{Path: "file", Size: 1}},
		"file as dir":   {nil, File{Path: "FILE/x", Size: 1}},
		"dir as file":   {nil, File{Path: "DIR", Size: 1}},
		"dir in case":   {nil, File{Path: "dir/y", Size: 1}},
		"too much":      {nil, File{Path: "X", Size: 50 * mib}},
	} {
		p, files := params(MinSize), []File{{Path: "FILE", Size: 1}, {Path: "DIR/x", Size: 1}}
		if c.bad != nil {
			c.bad(&p)
		} else {
			files = append(files, c.file)
		}
		e := &extents{t: t, size: 1 << 62}
		if _, err := Write(e, p, files); err == nil {
			t.Errorf("%s: accepted", name)
		} else if len(e.list) > 0 {
			t.Errorf("%s: %v after something was written", name, err)
		}
	}
}

func TestAliases(t *testing.T) {
	root, err := tree(trees()["names"])
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"12345678123", "123456~1123", "123456~2123", "X~1     CON", "X~2     CON", "AB~1    C  ", "AB~1    D  ", "MIXEDC~1   ",
		"13-LET~1   ", "26-LET~1   ", "NNNNNN~1   ",
	}
	for i, c := range root.children {
		if c.alias != want[i] {
			t.Errorf("%s: alias %q, want %q", c.name, c.alias, want[i])
		}
		if c.long != (i > 0) {
			t.Errorf("%s: long name %v", c.name, c.long)
		}
	}
}

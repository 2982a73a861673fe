package squashfs

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/parley-meet/parley/internal/judge"
)

func save(t testing.TB, image []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// extracted reads a folder that another program has filled; a user other than
// root cannot be given setuid bits or an owner, so these are not compared.
func extracted(t testing.TB, dir string) []Entry {
	t.Helper()
	entries, err := FromDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return plainModes(entries)
}

func plainModes(entries []Entry) []Entry {
	var plain []Entry
	for _, e := range entries {
		e.Mode &= fs.ModeType | fs.ModePerm
		e.UID, e.GID = 0, 0
		plain = append(plain, e)
	}
	return plain
}

func TestUnsquashfs(t *testing.T) {
	judge.Need(t, "unsquashfs")
	for name, entries := range trees() {
		t.Run(name, func(t *testing.T) {
			image, stats := pack(t, entries, Options{})
			saved := save(t, image)
			dest := filepath.Join(t.TempDir(), "out")
			judge.Run(t, "unsquashfs", "-no-progress", "-quiet", "-no-xattrs", "-dest", dest, saved)
			wantSame(t, extracted(t, dest), plainModes(entries))
			super := judge.Run(t, "unsquashfs", "-s", saved)
			for _, want := range []string{
				"SQUASHFS 4:0 superblock", "Compression gzip", "Block size 131072", "not exportable", "Xattrs are not stored",
				fmt.Sprintf("Filesystem size %d bytes", stats.Used), fmt.Sprintf("Number of inodes %d\n", stats.inodes()),
				fmt.Sprintf("Number of fragments %d\n", stats.Fragments),
			} {
				if !strings.Contains(super, want) {
					t.Errorf("unsquashfs -s does not say %q:\n%s", want, super)
				}
			}
		})
	}
}

// Every block size, and every level from 9 to 1, through a foreign reader.
func TestUnsquashfsOptions(t *testing.T) {
	judge.Need(t, "unsquashfs")
	entries := trees()["sizes"]
	for level, bs := 9, MinBlockSize; bs <= MaxBlockSize; level, bs = level-1, bs*2 {
		image, _ := pack(t, entries, Options{BlockSize: bs, Level: level})
		dest := filepath.Join(t.TempDir(), "out")
		judge.Run(t, "unsquashfs", "-no-progress", "-quiet", "-no-xattrs", "-dest", dest, save(t, image))
		wantSame(t, extracted(t, dest), plainModes(entries))
	}
}

func TestUnsquashfsListsMany(t *testing.T) {
	judge.Need(t, "unsquashfs")
	entries := manyEntries()
	image, _ := pack(t, entries, Options{})
	listed := map[string]bool{}
	for line := range strings.Lines(judge.Run(t, "unsquashfs", "-l", "-no-progress", save(t, image))) {
		listed[strings.TrimPrefix(strings.TrimSpace(line), "squashfs-root/")] = true
	}
	for _, e := range entries {
		if !listed[e.Path] {
			t.Fatalf("%s is not listed", e.Path)
		}
	}
}

func TestUnsquashfsOwnersAndDevices(t *testing.T) {
	judge.Need(t, "unsquashfs")
	owned := file("owned", []byte("x"))
	owned.UID, owned.GID, owned.Mode = 4000000001, 77, 0o751|fs.ModeSetuid
	image, _ := pack(t, []Entry{
		owned, {Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
		{Path: "disk", Mode: fs.ModeDevice | 0o660, Major: 8, Minor: 17},
	}, Options{})
	list := judge.Run(t, "unsquashfs", "-llnumeric", "-UTC", save(t, image))
	for _, want := range []string{
		"-rwsr-x--x 4000000001/77", "drwxrwxrwt 0/0", "crw-rw-rw- 0/0", "  1,  3 ", "brw-rw---- 0/0", "  8, 17 ", "2024-02-29 12:00",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("unsquashfs does not list %q:\n%s", want, list)
		}
	}
}

// Our reader has to agree with the foreign writer, too.
func TestReadsMksquashfs(t *testing.T) {
	judge.Need(t, "mksquashfs")
	src := t.TempDir()
	want := plainModes(trees()["sizes"])
	want = append(want, trees()["400"]...)
	want = append(want, link("link", "text/1"), Entry{Path: ".", Mode: fs.ModeDir | 0o755})
	fill(t, src, want)
	for _, args := range [][]string{nil, {"-always-use-fragments", "-b", "4096"}, {"-noI", "-noD", "-noF", "-noId"}, {"-no-fragments"}} {
		image := filepath.Join(t.TempDir(), "image")
		judge.Run(t, "mksquashfs", append([]string{src, image, "-comp", "gzip", "-noappend", "-no-exports", "-no-xattrs", "-all-root", "-quiet", "-no-progress"}, args...)...)
		b, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, entriesOf(unpack(t, b)), want)
	}
}

// fill makes the folders, files and links of entries in dir.
func fill(t testing.TB, dir string, entries []Entry) {
	t.Helper()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, filepath.FromSlash(e.Path))
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		switch e.Mode.Type() {
		case fs.ModeDir:
			err = os.MkdirAll(name, e.Mode.Perm())
		case fs.ModeSymlink:
			err = os.Symlink(e.Target, name)
		case 0:
			b := make([]byte, e.Size)
			if r, e := e.Open(); e == nil {
				r.Read(b)
			}
			err = os.WriteFile(name, b, e.Mode.Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFromDir(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permissions, links need a privilege")
	}
	src := t.TempDir()
	want := []Entry{
		{Path: ".", Mode: fs.ModeDir | 0o755}, dir("a"), dir("a/empty"), file("a/f", []byte("content")),
		{Path: "a/x", Mode: 0o500, Size: 1, Open: file("", []byte("x")).Open}, link("link", "a/f"), link("up", "../../.."),
	}
	fill(t, src, want)
	got, err := FromDir(src)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, got, want)
	if _, err := FromDir(filepath.Join(src, "none")); err == nil {
		t.Error("a folder that is not there passes")
	}
}

// The kernel is the reader that counts. The virtual machine's test mounts
// too, so this one only helps where root and a loop device are at hand.
func TestKernelMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	var entries []Entry
	for name, tree := range trees() {
		for _, e := range tree {
			e.Path = path.Join(name, e.Path)
			e.UID, e.GID = 0, 0 // as FromDir has it
			entries = append(entries, e)
		}
	}
	at := mount(t, entries)
	got, err := FromDir(at)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, got, entries)

	many := manyEntries()
	at = mount(t, many)
	listed, err := os.ReadDir(filepath.Join(at, "big"))
	if err != nil || len(listed) != len(many) {
		t.Fatalf("%d entries listed, want %d, %v", len(listed), len(many), err)
	}
	// A lookup by name goes through the directory index, a listing does not.
	for i := 0; i < len(many); i += 13 {
		info, err := os.Lstat(filepath.Join(at, many[i].Path))
		if err != nil || info.Mode().Type() != many[i].Mode.Type() {
			t.Fatal(many[i].Path, info, err)
		}
	}
	for _, none := range []string{"big/e99999999", "big/a", "big/z", "big/e1x"} {
		if _, err := os.Lstat(filepath.Join(at, none)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", none, err)
		}
	}
}

// mount shows entries packed and mounted, until the test ends.
func mount(t *testing.T, entries []Entry) (at string) {
	t.Helper()
	image, _ := pack(t, entries, Options{})
	saved, at := save(t, image), t.TempDir()
	out, err := exec.CommandContext(t.Context(), "mount", "-t", "squashfs", "-o", "loop,ro", saved, at).CombinedOutput()
	if err != nil {
		t.Skipf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return at
}

package squashfs

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"testing"
	"time"
)

var testTime = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

// disk is an image in memory. What nobody writes is 0xA5, never zero.
type disk struct{ b []byte }

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	for end := int(off) + len(p); len(d.b) < end; {
		d.b = append(d.b, bytes.Repeat([]byte{0xa5}, end-len(d.b))...)
	}
	return copy(d.b[off:], p), nil
}

func file(p string, content []byte) Entry {
	return Entry{
		Path: p, Mode: 0o644, Size: int64(len(content)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
}

func aligned(e Entry, n int64) Entry { e.AlignTo = n; return e }

func link(p, target string) Entry {
	return Entry{Path: p, Mode: fs.ModeSymlink | 0o777, Target: target}
}

func dir(p string) Entry { return Entry{Path: p, Mode: fs.ModeDir | 0o755} }

// noise is n bytes that zlib cannot make shorter.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b)
	return b
}

// text is n bytes that compress.
func text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = fmt.Appendf(b, "%d parley ", r.IntN(500))
	}
	return b[:n]
}

// pack writes entries and checks that Stats tell the truth about the sizes.
func pack(t testing.TB, entries []Entry, opt Options) ([]byte, Stats) {
	t.Helper()
	if opt.ModTime.IsZero() {
		opt.ModTime = testTime
	}
	var d disk
	stats, err := Write(t.Context(), &d, entries, opt)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Size != int64(len(d.b)) || stats.Used > stats.Size {
		t.Fatalf("image of %d bytes, stats %+v", len(d.b), stats)
	}
	return d.b, stats
}

// unpack reads every file of an image with this package's reader.
func unpack(t testing.TB, image []byte) []File {
	t.Helper()
	im, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	files, err := im.List()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func entriesOf(files []File) []Entry {
	var entries []Entry
	for _, f := range files {
		entries = append(entries, f.Entry)
	}
	return entries
}

// described is what of an entry can be compared.
type described struct {
	Path, Target       string
	Mode               fs.FileMode
	UID, GID           uint32
	Size, Major, Minor int64
	Content            [sha256.Size]byte
}

// describe sorts entries by path and adds the directories that none lists.
func describe(t testing.TB, entries []Entry) []described {
	t.Helper()
	var all []described
	have := map[string]bool{}
	for _, e := range entries {
		d := described{e.Path, e.Target, e.Mode, e.UID, e.GID, e.Size, int64(e.Major), int64(e.Minor), [sha256.Size]byte{}}
		if e.Mode.Type() == fs.ModeSymlink {
			d.Mode = fs.ModeSymlink | 0o777
		}
		if e.Mode.IsRegular() && e.Size > 0 {
			r, err := e.Open()
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.New()
			if n, err := io.Copy(sum, r); err != nil || n != e.Size {
				t.Fatalf("%s: read %d of %d bytes: %v", e.Path, n, e.Size, err)
			}
			r.Close()
			d.Content = [sha256.Size]byte(sum.Sum(nil))
		}
		have[e.Path] = true
		all = append(all, d)
	}
	for _, e := range entries {
		for p := e.Path; p != "."; {
			p = path.Dir(p)
			if !have[p] {
				have[p] = true
				all = append(all, described{Path: p, Mode: fs.ModeDir | 0o755})
			}
		}
	}
	if !have["."] {
		all = append(all, described{Path: ".", Mode: fs.ModeDir | 0o755})
	}
	slices.SortFunc(all, func(a, b described) int { return cmp.Compare(a.Path, b.Path) })
	return all
}

func wantSame(t testing.TB, got, want []Entry) {
	t.Helper()
	g, w := describe(t, got), describe(t, want)
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("got %+v\nwant %+v", g[i], w[i])
		}
	}
	if len(g) != len(w) {
		t.Fatalf("got %d entries, want %d", len(g), len(w))
	}
}

// trees are folders that have broken a squashfs writer or could.
func trees() map[string][]Entry {
	many := func(format string, dirs, files int) []Entry {
		var e []Entry
		for d := range dirs {
			for f := range files {
				e = append(e, file(fmt.Sprintf(format, d, f), fmt.Appendf(nil, "%d/%d", d, f)))
			}
		}
		return e
	}
	const bs = int(DefaultBlockSize)
	var sizes []Entry
	for i, n := range []int{0, 1, 2, bs - 1, bs, bs + 1, 2 * bs, 3*bs + 777, 5*bs - 1} {
		sizes = append(sizes,
			file(fmt.Sprintf("text/%d", n), text(uint64(i), n)),
			file(fmt.Sprintf("noise/%d", n), noise(uint64(i), n)),
			file(fmt.Sprintf("zero/%d", n), make([]byte, n)),
			aligned(file(fmt.Sprintf("aligned/%d", n), text(uint64(100+i), n)), 4096),
			aligned(file(fmt.Sprintf("alignedzero/%d", n), make([]byte, n)), 4096))
	}
	hole := append(append(text(1, bs), make([]byte, 2*bs)...), text(2, bs+5)...)
	sizes = append(sizes, file("hole/middle", hole), file("hole/front", hole[bs:]), file("hole/end", hole[:3*bs]))

	kinds := []Entry{
		{Path: ".", Mode: fs.ModeDir | 0o700},
		{Path: "private", Mode: fs.ModeDir | 0o710},
		{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		file("private/deep/er/file", []byte("x")),
		link("private/link", "deep/er/file"), link("dangling", "/no/where"),
		link("long", string(bytes.Repeat([]byte("t"), maxTarget))),
		file("name "+string(bytes.Repeat([]byte("n"), 250)), []byte("y")),
		file("имя\n\t\\", []byte("z")),
	}
	for i, m := range []fs.FileMode{0o400, 0o755, 0o644 | fs.ModeSetuid, 0o711 | fs.ModeSetgid} {
		e := file(fmt.Sprintf("mode%d", i), []byte("same"))
		e.Mode = m
		kinds = append(kinds, e)
	}

	longNames := many("%d/"+string(bytes.Repeat([]byte("l"), 200))+"%05d", 1, 3000)
	var nested []Entry
	for p, i := "d", 0; i < 60; p, i = p+"/d", i+1 {
		nested = append(nested, file(p+"/f", []byte(p)))
	}
	return map[string][]Entry{
		"empty": nil, "emptydir": {dir("a"), dir("b/c")}, "400": many("%d/file-%d", 1, 400), "10x50": many("dir-%d/file-%d", 10, 50),
		"400dirs": many("%d/%d", 400, 1), "5000": many("%d/f%d", 1, 5000), "root300": many("%d%03d", 1, 300),
		"sizes": sizes, "kinds": kinds, "longnames": longNames, "nested": nested,
	}
}

// manyEntries is a folder whose inodes' numbers and places pass every 16-bit
// field: 70,000 entries in one listing of over a megabyte, folders among them.
func manyEntries() []Entry {
	var e []Entry
	for i := range 70_000 {
		switch p := fmt.Sprintf("big/e%d", i); i % 7 {
		case 0:
			e = append(e, file(p+"/inner", nil))
		case 1:
			e = append(e, link(p, "e0"))
		default:
			e = append(e, file(p, fmt.Appendf(nil, "%d", i%1000)))
		}
	}
	return e
}

package squashfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRoundTrip(t *testing.T) {
	for name, entries := range trees() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image, stats := pack(t, entries, Options{})
			files := unpack(t, image)
			wantSame(t, entriesOf(files), entries)
			for _, f := range files {
				if !f.ModTime.Equal(testTime) {
					t.Fatalf("%s: modified at %v", f.Path, f.ModTime)
				}
			}
			if n := stats.inodes(); n != len(files) {
				t.Fatalf("%d inodes, %d files", n, len(files))
			}
		})
	}
}

func TestManyEntries(t *testing.T) {
	entries := manyEntries()
	image, _ := pack(t, entries, Options{})
	wantSame(t, entriesOf(unpack(t, image)), entries)
}

// A directory index has to lead to the headers it names, by the kernel's rule:
// its record's block, at the listing's first offset plus the record's.
func TestDirectoryIndex(t *testing.T) {
	t.Run("many", func(t *testing.T) { checkIndex(t, manyEntries()) })
	t.Run("longnames", func(t *testing.T) { checkIndex(t, trees()["longnames"]) })
}

// checkIndex looks at the index of the first directory in the root.
func checkIndex(t *testing.T, entries []Entry) {
	root, _, err := buildTree(entries)
	if err != nil {
		t.Fatal(err)
	}
	opt, err := Options{ModTime: testTime}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	tabs := newTables(opt)
	if _, err := tabs.writeTree(root); err != nil {
		t.Fatal(err)
	}
	// Written once more, the largest listing begins in the middle of a block.
	l, err := tabs.writeListing(root.sorted[0])
	if err != nil {
		t.Fatal(err)
	}
	stored := tabs.dirs.finish()
	im := &Image{r: bytes.NewReader(stored), sb: superblock{Used: uint64(len(stored))}}
	dirs, err := im.table(0, uint64(len(stored)))
	if err != nil {
		t.Fatal(err)
	}
	if want := (l.ref.offset() + int(l.size)) / metaSize; l.ref.offset() == 0 || l.indexes != want {
		t.Fatalf("%d records for %d bytes from %d", l.indexes, l.size, l.ref.offset())
	}
	index := fields{b: l.index}
	for range l.indexes {
		at, block, size := index.u32(), index.u32(), index.u32()
		name := string(index.take(int64(size) + 1))
		f, err := dirs.from(metaRef(block)<<16 | metaRef((l.ref.offset()+int(at))%metaSize))
		if err != nil {
			t.Fatal(err)
		}
		f.take(dirHeaderSize + 6)
		if got := string(f.take(int64(f.u16()) + 1)); got != name {
			t.Fatalf("index says %q, the header there begins with %q", name, got)
		}
	}
	if len(index.b) > 0 || index.short {
		t.Fatal("index of another length")
	}
}

func TestSameBytes(t *testing.T) {
	var entries []Entry
	for i := range 60 {
		entries = append(entries,
			file(fmt.Sprintf("loose/%d", i), text(uint64(i), i*300)),
			aligned(file(fmt.Sprintf("aligned/%d", i), text(uint64(i), i*500)), 512))
	}
	for _, level := range []int{1, DefaultLevel, 9} {
		opt := Options{Level: level, BlockSize: 16 << 10}
		opt.Workers = 1
		want, _ := pack(t, entries, opt)
		opt.Workers = 4
		for range 2 {
			if got, _ := pack(t, entries, opt); !bytes.Equal(got, want) {
				t.Fatalf("level %d: 4 workers give another image than 1", level)
			}
		}
	}
}

// A used compressor must not remember: which worker gets a block is chance.
func TestCompressorForgets(t *testing.T) {
	for level := 1; level <= 9; level++ {
		used := newCompressor(level)
		for i := range 30 {
			src := text(uint64(i%7), 1000+i*500)
			if i%5 == 0 {
				src = noise(uint64(i), 20_000) // leaves through errNoGain
			}
			a, _, err := used.block(make([]byte, len(src)), src)
			if err != nil {
				t.Fatal(err)
			}
			b, _, err := newCompressor(level).block(make([]byte, len(src)), src)
			if err != nil || !bytes.Equal(a, b) {
				t.Fatalf("level %d, block %d: used compressor gives other bytes (%v)", level, i, err)
			}
		}
	}
}

func TestCompressorDoesNotAllocate(t *testing.T) {
	c := newCompressor(DefaultLevel)
	src, dst := text(1, 100_000), make([]byte, 100_000)
	if n := testing.AllocsPerRun(5, func() { c.block(dst, src) }); n > 1 {
		t.Fatalf("%v allocations per block", n)
	}
}

// A plain file's blocks stand in the image as they are, beside the same content
// packed; holes stay holes.
func TestPlain(t *testing.T) {
	content := text(1, 3*int(DefaultBlockSize)+77)
	packed, plain := aligned(file("packed", content), 4096), aligned(file("plain", content), 4096)
	plain.Plain = true
	zeros := aligned(file("zeros", make([]byte, 2*int(DefaultBlockSize))), 4096)
	zeros.Plain = true
	image, _ := pack(t, []Entry{packed, plain, zeros}, Options{})
	for _, f := range unpack(t, image) {
		want := map[string]int64{"packed": -1, "plain": int64(len(content)), "zeros": 0}[f.Path]
		if want >= 0 && f.Stored != want || want < 0 && f.Stored >= int64(len(content)) {
			t.Errorf("%s takes %d of %d bytes", f.Path, f.Stored, f.Size)
		}
		if f.Path == "plain" && !bytes.Equal(image[f.Start:][:len(content)], content) {
			t.Error("the plain file does not stand in the image")
		}
	}
}

func TestAlignment(t *testing.T) {
	const bs = int(DefaultBlockSize)
	var entries []Entry
	for i, n := range []int{1, 500, bs, 3*bs + 1, 2*bs - 1} {
		entries = append(entries,
			file(fmt.Sprintf("loose%d", i), text(uint64(i), 7000*(i+1))),
			aligned(file(fmt.Sprintf("noise%d", i), noise(uint64(i), n)), 1<<20),
			aligned(file(fmt.Sprintf("text%d", i), text(uint64(50+i), n)), 4096))
	}
	image, stats := pack(t, entries, Options{})
	files := map[string]File{}
	for _, f := range unpack(t, image) {
		files[f.Path] = f
	}
	end := int64(0)
	for _, e := range entries {
		f := files[e.Path]
		if e.AlignTo == 0 {
			continue
		}
		if f.Start == 0 || f.Start%e.AlignTo != 0 {
			t.Errorf("%s starts at %d, want a multiple of %d", e.Path, f.Start, e.AlignTo)
		}
		if f.Start < end {
			t.Errorf("%s starts at %d, before the end of another", e.Path, f.Start)
		}
		end = f.Start + f.Stored
		// What does not compress stands in the image as it is.
		if r, _ := e.Open(); strings.HasPrefix(e.Path, "noise") {
			want, _ := io.ReadAll(r)
			if !bytes.Equal(image[f.Start:][:len(want)], want) {
				t.Errorf("%s is not contiguous", e.Path)
			}
		}
	}
	if first := files["noise0"].Start; !bytes.Equal(image[first-4096:first], make([]byte, 4096)) {
		t.Error("padding is not zero")
	}
	if tail := image[stats.Used:]; stats.Size%DefaultPadTo != 0 || !bytes.Equal(tail, make([]byte, len(tail))) {
		t.Error("padding at the end is not zeros to 4 KiB")
	}
}

func TestDuplicates(t *testing.T) {
	const bs = int(DefaultBlockSize)
	large, small := noise(1, 2*bs+9), noise(2, 900)
	other := bytes.Clone(large)
	other[bs]++
	entries := []Entry{
		file("a", large), file("b", large), file("c", other), file("d", small), file("e", small),
		aligned(file("f", large), 4096), aligned(file("g", large), 4096), aligned(file("h", small), 4096),
		file("i", nil), file("j", nil),
	}
	image, stats := pack(t, entries, Options{})
	wantSame(t, entriesOf(unpack(t, image)), entries)
	if stats.Duplicates != 3 { // b, e, g; an aligned file never shares with a loose one
		t.Errorf("%d duplicates, want 3", stats.Duplicates)
	}
	if want := int64(3*len(large) + 2*len(small)); stats.Used < want || stats.Used > want+16<<10 {
		t.Errorf("image of %d bytes for %d of content", stats.Used, want)
	}
}

// The fragment block that is begun for a file that turns out to be a
// duplicate, and is the last, must not be stored empty.
func TestDuplicateBeginsFragment(t *testing.T) {
	const bs = int(MinBlockSize)
	a, b := noise(1, bs/2), noise(2, bs/2)
	entries := []Entry{file("a", a), file("b", b), file("c", a)}
	image, stats := pack(t, entries, Options{BlockSize: int64(bs)})
	wantSame(t, entriesOf(unpack(t, image)), entries)
	if stats.Fragments != 1 || stats.Duplicates != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestHoles(t *testing.T) {
	const bs = int(DefaultBlockSize)
	entries := []Entry{file("zero", make([]byte, 100*bs)), file("end", append(noise(1, bs), make([]byte, 3*bs)...))}
	image, stats := pack(t, entries, Options{})
	if stats.Holes != 103 || stats.Blocks != 1 || stats.Fragments != 0 || stats.Used > int64(bs)+4096 {
		t.Errorf("%+v", stats)
	}
	// The first inode is "end"; stat counts its 512-byte blocks from sparse.
	im, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	if b := im.inodes.plain; le.Uint16(b) != typeExtFile || le.Uint64(b[32:]) != uint64(3*bs) {
		t.Errorf("inode %x", b[:40])
	}
}

// huge is a file of zeros past 32 bits with one byte set at its end.
type huge struct{ pos, size int64 }

func (h *huge) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), h.size-h.pos))
	if n == 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	if h.pos += int64(n); h.pos == h.size {
		p[n-1] = 1
	}
	return n, nil
}

func TestPast32Bits(t *testing.T) {
	size := int64(1<<32 + 12345)
	e := Entry{Path: "huge", Mode: 0o644, Size: size, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(&huge{size: size}), nil
	}}
	image, stats := pack(t, []Entry{e}, Options{BlockSize: MaxBlockSize})
	f := unpack(t, image)[1]
	if f.Size != size || stats.Holes != 4096 {
		t.Fatalf("size %d, %+v", f.Size, stats)
	}
}

// A start past 32 bits needs the extended inode.
func TestStartPast32Bits(t *testing.T) {
	n := &node{Entry: file("f", noise(1, int(DefaultBlockSize)))}
	n.data = fileData{start: 1 << 32, blocks: []uint32{5}, fragment: noFragment}
	opt, _ := Options{ModTime: testTime}.withDefaults()
	tabs := newTables(opt)
	if err := tabs.writeInode(n, 1); err != nil {
		t.Fatal(err)
	}
	if kind := le.Uint16(tabs.buf); kind != typeExtFile || le.Uint64(tabs.buf[16:]) != 1<<32 {
		t.Fatalf("inode %x", tabs.buf)
	}
}

func TestOwnersAndDevices(t *testing.T) {
	var entries []Entry
	for i := range uint32(3000) {
		e := file(fmt.Sprintf("f%d", i), nil)
		e.UID, e.GID = i*7, math.MaxUint32-i
		entries = append(entries, e)
	}
	entries = append(entries,
		Entry{Path: "dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
		Entry{Path: "dev/disk", Mode: fs.ModeDevice | 0o660, Major: 4095, Minor: 1<<20 - 1})
	image, stats := pack(t, entries, Options{})
	wantSame(t, entriesOf(unpack(t, image)), entries)
	if stats.Devices != 2 {
		t.Errorf("%d devices", stats.Devices)
	}
	var more []Entry
	for i := range uint32(maxIDs) + 1 {
		e := file(fmt.Sprintf("f%d", i), nil)
		e.UID = i
		more = append(more, e)
	}
	if _, err := Write(t.Context(), &disk{}, more, Options{ModTime: testTime}); err == nil {
		t.Error("65,536 owners pass")
	}
}

func TestEntryErrors(t *testing.T) {
	f := func(p string) Entry { return file(p, []byte("x")) }
	with := func(e Entry, change func(*Entry)) Entry { change(&e); return e }
	long := strings.Repeat("n", maxName+1)
	for name, c := range map[string]struct {
		entries []Entry
		want    string
	}{
		"twice":         {[]Entry{f("a/b"), f("a/b")}, `"a/b" is listed twice`},
		"dir twice":     {[]Entry{dir("a"), dir("a")}, `"a" is listed twice`},
		"file and dir":  {[]Entry{f("a"), dir("a")}, `"a" is listed twice`},
		"below file":    {[]Entry{f("a"), f("a/b")}, `"a" is no directory`},
		"file above":    {[]Entry{f("a/b"), f("a")}, `"a" is no directory`},
		"below link":    {[]Entry{link("a", "b"), f("a/b")}, `"a" is no directory`},
		"dotdot":        {[]Entry{f("../a")}, `"../a"`},
		"absolute":      {[]Entry{f("/a")}, `"/a"`},
		"unclean":       {[]Entry{f("a//b")}, `"a//b"`},
		"no path":       {[]Entry{f("")}, `entry ""`},
		"zero byte":     {[]Entry{f("a\x00b")}, "zero byte"},
		"root file":     {[]Entry{f(".")}, "root"},
		"long name":     {[]Entry{f(long)}, "257 bytes"},
		"long dir":      {[]Entry{f(long + "/a")}, "257 bytes"},
		"socket":        {[]Entry{{Path: "s", Mode: fs.ModeSocket}}, "want a directory"},
		"empty link":    {[]Entry{link("l", "")}, "want 1 to 4095"},
		"long link":     {[]Entry{link("l", strings.Repeat("l", 4096))}, "want 1 to 4095"},
		"alignment":     {[]Entry{aligned(f("a"), 3)}, "alignment 3"},
		"aligned dir":   {[]Entry{aligned(dir("a"), 4096)}, "alignment 4096"},
		"negative":      {[]Entry{with(f("a"), func(e *Entry) { e.Size = -1 })}, "size -1"},
		"nothing":       {[]Entry{with(f("a"), func(e *Entry) { e.Open = nil })}, "nothing to open"},
		"device":        {[]Entry{{Path: "d", Mode: fs.ModeDevice, Major: 4096}}, "4096:0"},
		"shrinks":       {[]Entry{with(f("a"), func(e *Entry) { e.Size = 2 })}, `"a": ends at 1 of 2`},
		"grows":         {[]Entry{with(file("a", []byte("xyz")), func(e *Entry) { e.Size = 2 })}, `"a": has grown past its 2 bytes`},
		"large shrinks": {[]Entry{with(file("a", noise(1, 300_000)), func(e *Entry) { e.Size++ })}, `ends at 300000 of 300001`},
		"does not open": {[]Entry{with(f("a"), func(e *Entry) {
			e.Open = func() (io.ReadCloser, error) { return nil, fs.ErrPermission }
		})}, "permission"},
	} {
		t.Run(name, func(t *testing.T) {
			var d disk
			_, err := Write(t.Context(), &d, c.entries, Options{ModTime: testTime})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want …%s…", err, c.want)
			}
			if len(d.b) >= 4 && le.Uint32(d.b) == magic {
				t.Fatal("a failed image has a superblock")
			}
		})
	}
}

// Of two large files with one size, each is read twice; what changes between
// must not pass.
func TestChangesBetweenReads(t *testing.T) {
	size := 2 * int(DefaultBlockSize)
	opens := 0
	changing := file("a", noise(1, size))
	changing.Open = func() (io.ReadCloser, error) {
		opens++
		return io.NopCloser(bytes.NewReader(noise(uint64(opens), size))), nil
	}
	_, err := Write(t.Context(), &disk{}, []Entry{changing, file("b", noise(9, size))}, Options{ModTime: testTime})
	if err == nil || !strings.Contains(err.Error(), `"a": has changed while it was read`) {
		t.Fatal(err)
	}
}

func TestOptionErrors(t *testing.T) {
	for name, o := range map[string]Options{
		"block 3":     {BlockSize: 3 << 12},
		"block small": {BlockSize: 2048},
		"block large": {BlockSize: 2 << 20},
		"level":       {Level: 10},
		"workers":     {Workers: -1},
		"pad":         {PadTo: -1},
		"bound":       {MaxSize: -1},
		"before 1970": {ModTime: time.Unix(-1, 0)},
		"after 2106":  {ModTime: time.Unix(1<<32, 0)},
	} {
		if o.ModTime.IsZero() {
			o.ModTime = testTime
		}
		if _, err := Write(t.Context(), &disk{}, nil, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := Write(t.Context(), &disk{}, nil, Options{}); err == nil {
		t.Error("no time passes")
	}
}

// failing is a disk that is full after some bytes.
type failing struct {
	disk
	left int
}

var errFull = errors.New("full")

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return f.disk.WriteAt(p, off)
}

func TestWriteErrors(t *testing.T) {
	var entries []Entry
	for i := range 100 {
		entries = append(entries, file(fmt.Sprint(i), noise(uint64(i), 9000)))
	}
	opt := Options{ModTime: testTime, BlockSize: MinBlockSize, Workers: 3}
	image, stats := pack(t, entries, opt)
	for left := 0; left < len(image)+superSize; left += len(image) / 17 {
		f := &failing{left: left, disk: disk{b: bytes.Clone(image)}}
		if _, err := Write(t.Context(), f, entries, opt); !errors.Is(err, errFull) {
			t.Fatalf("after %d bytes: %v", left, err)
		}
		if left >= superSize && le.Uint32(f.b) == magic {
			t.Fatalf("after %d bytes: the old superblock is still there", left)
		}
	}
	opt.MaxSize = stats.Size
	if _, err := Write(t.Context(), &disk{}, entries, opt); err != nil {
		t.Error(err)
	}
	opt.MaxSize--
	if _, err := Write(t.Context(), &disk{}, entries, opt); err == nil || !strings.Contains(err.Error(), "bound") {
		t.Error(err)
	}
}

func TestCancelAndProgress(t *testing.T) {
	var entries []Entry
	var total int64
	for i := range 50 {
		e := file(fmt.Sprint(i), text(uint64(i/2), 200_000))
		entries = append(entries, e)
		total += e.Size
	}
	var last int64
	opt := Options{ModTime: testTime, Progress: func(done, all int64) {
		if done < last || all != total {
			t.Errorf("progress %d of %d after %d", done, all, last)
		}
		last = done
	}}
	if _, err := Write(t.Context(), &disk{}, entries, opt); err != nil || last != total {
		t.Fatalf("progress ends at %d of %d, %v", last, total, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	opt.Progress = func(done, all int64) {
		if done > total/2 {
			cancel()
		}
	}
	if _, err := Write(ctx, &disk{}, entries, opt); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// Any tree comes back as it went in, whatever the options.
func TestAnyTree(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		opt := Options{
			ModTime:   testTime,
			BlockSize: MinBlockSize << rapid.IntRange(0, 2).Draw(r, "block"),
			Level:     rapid.IntRange(1, 9).Draw(r, "level"),
			Workers:   rapid.IntRange(1, 4).Draw(r, "workers"),
		}
		used := map[string]bool{}
		dirs := []string{"."}
		var entries []Entry
		for i := range rapid.IntRange(0, 60).Draw(r, "entries") {
			name := rapid.StringMatching(`[a-zé.~ ]{1,12}`).Draw(r, "name") + fmt.Sprint(i)
			p := name
			if d := rapid.SampledFrom(dirs).Draw(r, "dir"); d != "." {
				p = d + "/" + name
			}
			if used[p] {
				continue
			}
			used[p] = true
			var e Entry
			switch rapid.IntRange(0, 6).Draw(r, "kind") {
			case 0, 1:
				e = dir(p)
				dirs = append(dirs, p)
			case 2:
				e = link(p, rapid.StringMatching(`[a-z/.]{1,40}`).Draw(r, "target"))
			default:
				var content []byte
				for range rapid.IntRange(0, 4).Draw(r, "parts") {
					n := rapid.IntRange(0, 9000).Draw(r, "size")
					switch seed := rapid.Uint64Range(0, 3).Draw(r, "seed"); seed {
					case 0:
						content = append(content, make([]byte, n)...)
					case 1:
						content = append(content, noise(seed, n)...)
					default:
						content = append(content, text(seed, n)...)
					}
				}
				e = file(p, content)
				if rapid.Bool().Draw(r, "aligned") {
					e.AlignTo = 1 << rapid.IntRange(0, 14).Draw(r, "align")
					e.Plain = rapid.Bool().Draw(r, "plain")
				}
			}
			e.Mode |= fs.FileMode(rapid.IntRange(0, 0o777).Draw(r, "mode"))
			e.UID = rapid.Uint32Range(0, 3).Draw(r, "uid")
			entries = append(entries, e)
		}
		image, _ := pack(t, entries, opt)
		files := unpack(t, image)
		wantSame(t, entriesOf(files), entries)
		for _, e := range entries {
			for _, f := range files {
				if f.Path == e.Path && e.AlignTo > 0 && (f.Start%e.AlignTo != 0 || f.Stored == 0 && f.Start != 0) {
					r.Fatalf("%s at %d, want a multiple of %d", f.Path, f.Start, e.AlignTo)
				}
			}
		}
	})
}

package vmdk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// blocks are the kinds of grain that a disk consists of.
var blocks = map[string]func(r *rand.Rand, p []byte){
	"zero": func(_ *rand.Rand, p []byte) { clear(p) },
	"text": func(r *rand.Rand, p []byte) {
		for i := 0; i < len(p); {
			i += copy(p[i:], []string{"zone ", "controller ", "router\n", "meeting ", "0123"}[r.IntN(5)])
		}
	},
	"noise": func(r *rand.Rand, p []byte) {
		for i := 0; i+8 <= len(p); i += 8 {
			binary.LittleEndian.PutUint64(p[i:], r.Uint64())
		}
	},
	"first": func(_ *rand.Rand, p []byte) { clear(p); p[0] = 1 },
	"last":  func(_ *rand.Rand, p []byte) { clear(p); p[len(p)-1] = 1 },
}

// mixed makes a disk whose grains are of the given kinds in turn.
func mixed(seed uint64, capacity int64, kinds ...string) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, capacity)
	for i := 0; i < len(b); i += grainSize {
		blocks[kinds[r.IntN(len(kinds))]](r, b[i:i+grainSize])
	}
	return b
}

func write(t testing.TB, disk io.ReaderAt, capacity int64, opt Options) ([]byte, Result) {
	t.Helper()
	if opt.ExtentName == "" {
		opt.ExtentName = "disk.vmdk"
	}
	var b bytes.Buffer
	res, err := Write(t.Context(), &b, disk, capacity, opt)
	if err != nil {
		t.Fatal(err)
	}
	if res.Size != int64(b.Len()) || res.SHA256 != sha256.Sum256(b.Bytes()) {
		t.Fatalf("result says %d bytes, %x; the file has %d, %x", res.Size, res.SHA256, b.Len(), sha256.Sum256(b.Bytes()))
	}
	return b.Bytes(), res
}

// TestRoundTrip writes disks of random grains and reads them back.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(seed, 2))
		capacity := []int64{1, 2, 3, 5, 33}[seed%5] * mib
		kinds := []string{"zero", "text", "noise", "first", "last"}
		r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		disk := mixed(seed, capacity, kinds[:1+r.IntN(3)]...)
		opt := Options{Level: []int{0, 1, 6}[r.IntN(3)], Workers: 1 + r.IntN(4)}
		file, res := write(t, bytes.NewReader(disk), capacity, opt)
		img, err := Open(bytes.NewReader(file), res.Size)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if img.Capacity() != capacity || img.Grains() != res.Grains || img.CID() != res.CID || img.ExtentName() != "disk.vmdk" {
			t.Errorf("seed %d: read %d bytes, %d grains, CID %x, %q; wrote %d, %+v",
				seed, img.Capacity(), img.Grains(), img.CID(), img.ExtentName(), capacity, res)
		}
		if res.Grains+res.ZeroGrains != capacity/grainSize {
			t.Errorf("seed %d: %d and %d grains of %d", seed, res.Grains, res.ZeroGrains, capacity/grainSize)
		}
		if err := img.Verify(t.Context(), bytes.NewReader(disk)); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		off := r.Int64N(capacity + 1)
		p := make([]byte, r.IntN(3*grainSize))
		n, err := img.ReadAt(p, off)
		want := min(int64(len(p)), capacity-off)
		if int64(n) != want || !bytes.Equal(p[:n], disk[off:off+want]) || (n < len(p)) != (err == io.EOF) {
			t.Errorf("seed %d: ReadAt(%d bytes, %d): %d, %v", seed, len(p), off, n, err)
		}
	}
}

// TestSameWhateverWorkers: neither the number of workers nor a slow one changes a byte.
func TestSameWhateverWorkers(t *testing.T) {
	const capacity = 33 * mib
	disk := mixed(3, capacity, "zero", "zero", "zero", "text", "noise")
	want, _ := write(t, bytes.NewReader(disk), capacity, Options{Workers: 1})
	for _, workers := range []int{0, 3, 8} {
		var done []int64
		got, _ := write(t, bytes.NewReader(disk), capacity, Options{Workers: workers, Progress: func(d, total int64) {
			if total != capacity {
				t.Errorf("progress of %d", total)
			}
			done = append(done, d)
		}})
		if !bytes.Equal(got, want) {
			t.Errorf("%d workers give another file", workers)
		}
		for i := 1; i < len(done); i++ {
			if done[i] < done[i-1] {
				t.Errorf("progress goes back from %d to %d", done[i-1], done[i])
			}
		}
		if len(done) == 0 || done[len(done)-1] != capacity {
			t.Error("progress does not end at the capacity")
		}
	}
}

// TestForm looks at what importers are particular about.
func TestForm(t *testing.T) {
	const capacity = 4 * mib
	disk := mixed(4, capacity, "zero", "text")
	hash := sha256.Sum256([]byte("content"))
	file, res := write(t, bytes.NewReader(disk), capacity, Options{ExtentName: "parley controller.vmdk", ContentHash: hash})
	le := binary.LittleEndian
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"magic", uint64(le.Uint32(file)), 0x564d444b},
		{"version", uint64(le.Uint32(file[4:])), 3},
		{"flags", uint64(le.Uint32(file[8:])), 0x30001},
		{"capacity", le.Uint64(file[12:]), capacity / 512},
		{"grain", le.Uint64(file[20:]), 128},
		{"descriptor", le.Uint64(file[28:]), 1},
		{"entries per table", uint64(le.Uint32(file[44:])), 512},
		{"directory", le.Uint64(file[56:]), 1<<64 - 1},
		{"newline bytes", uint64(le.Uint32(file[73:])), 0x0a0d200a},
		{"compression", uint64(le.Uint16(file[77:])), 1},
	} {
		if c.got != c.want {
			t.Errorf("%s is %#x, want %#x", c.name, c.got, c.want)
		}
	}
	first := le.Uint64(file[64:]) * 512
	if size := le.Uint32(file[first+8:]); size == 0 || file[first+12] != 0x78 {
		t.Errorf("overHead %d does not point at a grain with a zlib stream", first)
	}
	if n := len(file); !bytes.Equal(file[n-512:], make([]byte, 512)) || le.Uint32(file[n-1536+12:]) != markerFooter {
		t.Error("the file does not end with footer and end-of-stream sector")
	}
	if le.Uint32(file[len(file)-1024:]) != 0x564d444b {
		t.Error("the footer is not the third sector from the end")
	}
	text, _, _ := strings.Cut(string(file[512:]), "\x00")
	for _, line := range []string{
		"CID=" + "%CID", "parentCID=ffffffff", `createType="streamOptimized"`, `RW 8192 SPARSE "parley controller.vmdk"`,
		`ddb.adapterType = "lsilogic"`, `ddb.geometry.heads = "255"`, `ddb.geometry.sectors = "63"`,
		`ddb.toolsVersion = "2147483647"`, `ddb.toolsInstallType = "4"`, `ddb.longContentID = "%ID"`,
	} {
		id := newContentID(hash)
		line = strings.NewReplacer("%CID", hex.EncodeToString(id[12:]), "%ID", hex.EncodeToString(id[:])).Replace(line)
		if !strings.Contains(text, line+"\n") {
			t.Errorf("descriptor lacks %q:\n%s", line, text)
		}
	}
	if res.CID != binary.BigEndian.Uint32(hash[12:16]) {
		t.Errorf("CID %x is not taken from the hash", res.CID)
	}
}

// TestContentIdentity: the same disk has the same CID wherever zeros are holes, another disk another one.
func TestContentIdentity(t *testing.T) {
	const capacity = 5 * mib
	disk := mixed(5, capacity, "zero", "text")
	_, a := write(t, bytes.NewReader(disk), capacity, Options{})
	f := sparseFile(t, capacity)
	for i := 0; i < len(disk); i += grainSize {
		if g := disk[i : i+grainSize]; !bytes.Equal(g, make([]byte, grainSize)) {
			if _, err := f.WriteAt(g, int64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, b := write(t, f, capacity, Options{}); a != b {
		t.Errorf("holes change the result: %+v, %+v", a, b)
	}
	disk[capacity-1] ^= 1
	if _, b := write(t, bytes.NewReader(disk), capacity, Options{}); a.CID == b.CID {
		t.Error("another disk has the same CID")
	}
	_, zero1 := write(t, bytes.NewReader(make([]byte, mib)), mib, Options{})
	_, zero2 := write(t, bytes.NewReader(make([]byte, 2*mib)), 2*mib, Options{})
	if zero1.CID == zero2.CID {
		t.Error("empty disks of two sizes have the same CID")
	}
	if newContentID([32]byte{12: 0xff, 13: 0xff, 14: 0xff, 15: 0xff}) == [16]byte{12: 0xff, 13: 0xff, 14: 0xff, 15: 0xff} {
		t.Error("a CID of ffffffff would mean a disk without identity")
	}
}

func sparseFile(t testing.TB, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRename(t *testing.T) {
	const capacity = 3 * mib
	disk := mixed(6, capacity, "zero", "text")
	opt := Options{ContentHash: sha256.Sum256(disk), ExtentName: "a.vmdk"}
	a, resA := write(t, bytes.NewReader(disk), capacity, opt)
	opt.ExtentName = "longer-name.vmdk"
	want, resB := write(t, bytes.NewReader(disk), capacity, opt)
	var got bytes.Buffer
	res, err := Rename(t.Context(), &got, bytes.NewReader(a), resA.Size, opt.ExtentName)
	if err != nil {
		t.Fatal(err)
	}
	if res != resB || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("renamed: %+v, written under that name: %+v", res, resB)
	}
	if _, err := Rename(t.Context(), io.Discard, bytes.NewReader(a), resA.Size, "../x"); err == nil {
		t.Error("a path passed as extent name")
	}
	if _, err := Rename(t.Context(), io.Discard, bytes.NewReader(disk), capacity, "x"); err == nil {
		t.Error("a raw disk passed as VMDK")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Rename(ctx, io.Discard, bytes.NewReader(a), resA.Size, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}

func TestWrongArguments(t *testing.T) {
	disk := bytes.NewReader(make([]byte, 4*mib))
	for name, c := range map[string]struct {
		capacity int64
		opt      Options
	}{
		"not whole MiB":  {3*mib + 512, Options{ExtentName: "a"}},
		"zero":           {0, Options{ExtentName: "a"}},
		"negative":       {-mib, Options{ExtentName: "a"}},
		"too large":      {MaxCapacity + mib, Options{ExtentName: "a"}},
		"no name":        {mib, Options{}},
		"name with path": {mib, Options{ExtentName: "a/b"}},
		"quote in name":  {mib, Options{ExtentName: `a"b`}},
		"line in name":   {mib, Options{ExtentName: "a\nb"}},
		"long name":      {mib, Options{ExtentName: strings.Repeat("a", 256)}},
		"level":          {mib, Options{ExtentName: "a", Level: 10}},
	} {
		if _, err := Write(t.Context(), io.Discard, disk, c.capacity, c.opt); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestShortDisk: the disk ends before the capacity, as a reader and as a file, with and without the hashing pass.
func TestShortDisk(t *testing.T) {
	b := bytes.Repeat([]byte{1}, 3*mib-1)
	for _, hash := range [][32]byte{{}, {1}} {
		opt := Options{ExtentName: "a", ContentHash: hash}
		if _, err := Write(t.Context(), io.Discard, bytes.NewReader(b), 3*mib, opt); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("reader: got %v, want an unexpected end", err)
		}
		// The end of a sparse file looks like a hole, so its size has to be compared.
		for _, size := range []int64{3*mib - 1, 3*mib + 1} {
			if _, err := Write(t.Context(), io.Discard, sparseFile(t, size), 3*mib, opt); err == nil {
				t.Errorf("file of %d bytes: no error", size)
			}
		}
	}
}

// touching is a disk that somebody else writes to while it is read.
type touching struct {
	*os.File
	t testing.TB
}

func (d touching) ReadAt(p []byte, off int64) (int, error) {
	if err := os.Chtimes(d.Name(), time.Time{}, time.Unix(1234, off)); err != nil {
		d.t.Error(err)
	}
	return d.File.ReadAt(p, off)
}

func TestDiskChangedDuringRead(t *testing.T) {
	f := sparseFile(t, mib)
	_, err := Write(t.Context(), io.Discard, touching{f, t}, mib, Options{ExtentName: "a"})
	if err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("got %v, want that the disk changed", err)
	}
}

// failing fails to write, or cancels, once n bytes have passed.
type failing struct {
	n    int64
	then func() error
}

var errFull = errors.New("no space")

func (w *failing) Write(p []byte) (int, error) {
	if w.n -= int64(len(p)); w.n < 0 {
		if err := w.then(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func TestWriteErrorAndCancel(t *testing.T) {
	const capacity = 64 * mib
	disk := bytes.NewReader(mixed(7, capacity, "noise"))
	for _, after := range []int64{0, 100 << 10, 20 * mib, capacity + mib} {
		w := &failing{after, func() error { return errFull }}
		_, err := Write(t.Context(), w, disk, capacity, Options{ExtentName: "a", ContentHash: [32]byte{1}})
		if wantErr := after < capacity; wantErr != errors.Is(err, errFull) {
			t.Errorf("full after %d: %v", after, err)
		}
	}
	for _, after := range []int64{0, 100 << 10, 20 * mib} {
		ctx, cancel := context.WithCancel(t.Context())
		w := &failing{after, func() error { cancel(); return nil }}
		if _, err := Write(ctx, w, disk, capacity, Options{ExtentName: "a", ContentHash: [32]byte{1}}); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled after %d: %v", after, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, io.Discard, disk, capacity, Options{ExtentName: "a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled before: %v", err)
	}
}

// TestNoAllocationPerGrain holds the writers' reuse.
func TestNoAllocationPerGrain(t *testing.T) {
	enc, err := newEncoder(DefaultLevel)
	if err != nil {
		t.Fatal(err)
	}
	disk := bytes.NewReader(mixed(8, chunkSize, "text", "noise", "zero"))
	c := &chunk{n: chunkGrains}
	if n := testing.AllocsPerRun(5, func() {
		if err := enc.encode(c, disk); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations per chunk", n)
	}
}

func BenchmarkWrite(b *testing.B) {
	const capacity = 32 * mib
	disk := bytes.NewReader(mixed(9, capacity, "zero", "text", "noise"))
	b.SetBytes(capacity)
	for b.Loop() {
		if _, err := Write(b.Context(), io.Discard, disk, capacity, Options{ExtentName: "a", ContentHash: [32]byte{1}}); err != nil {
			b.Fatal(err)
		}
	}
}

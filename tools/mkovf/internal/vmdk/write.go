package vmdk

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"runtime"

	"github.com/klauspost/compress/zlib"
	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/tools/mkovf/internal/diskformat/sparse"
)

// DefaultLevel is the compressor's level: the cheapest whose output on ordinary files stays within 6 % of zlib's
// level 6 (about 4 % above it at a quarter of its time). Incompressible grains cost little at every level up to 6.
const DefaultLevel = 5

const (
	// chunkSize is what one worker reads and compresses at a time. It divides a grain table's span, so the grains of
	// a chunk share one table.
	chunkSize   = 1 << 20
	chunkGrains = chunkSize / grainSize
)

// Options say how a disk is written.
type Options struct {
	// ExtentName is the name the file will have; it stands in the descriptor and importers look for it.
	ExtentName string
	// ContentHash identifies the disk's contents; CID and longContentID are made of it. It has to be known before the
	// first byte goes out, because the descriptor is in front of the data, so who built the disk and hashed it then
	// passes the hash. If it is zero, Write reads the disk twice: patching the descriptor later would need more than
	// an io.Writer and a second pass over the output for its SHA-256.
	ContentHash [32]byte
	// Workers compress in parallel; 0 means one per processor. Memory is about 4 MiB per worker.
	Workers int
	// Level is the compression level 1 to 9; 0 means DefaultLevel.
	Level int
	// Progress, if not nil, is called from one goroutine with bytes of the disk done, ascending, at last with total.
	Progress func(done, total int64)
}

// Result describes a finished file.
type Result struct {
	Size       int64 // bytes
	SHA256     [32]byte
	CID        uint32
	Grains     int64 // stored
	ZeroGrains int64 // omitted
}

// Write writes the first capacity bytes of disk to w as a streamOptimized VMDK. The disk is read once, in pieces of
// 1 MiB, from Workers goroutines; holes are skipped where the file system knows them.
//
// A regular file has to be exactly capacity bytes long and must not change meanwhile (size and modification time are
// compared at the end). After an error, w holds an unfinished file.
func Write(ctx context.Context, w io.Writer, disk io.ReaderAt, capacity int64, opt Options) (Result, error) {
	if err := checkCapacity(capacity); err != nil {
		return Result{}, fmt.Errorf("vmdk: %w", err)
	}
	if err := checkExtentName(opt.ExtentName); err != nil {
		return Result{}, fmt.Errorf("vmdk: %w", err)
	}
	if opt.Level == 0 {
		opt.Level = DefaultLevel
	}
	if opt.Level < 1 || opt.Level > 9 {
		return Result{}, fmt.Errorf("vmdk: level %d, want 1 to 9", opt.Level)
	}
	if opt.Workers <= 0 {
		opt.Workers = runtime.GOMAXPROCS(0)
	}
	changed, err := sparse.Snapshot(disk, capacity)
	if err != nil {
		return Result{}, fmt.Errorf("vmdk: %w", err)
	}
	if opt.ContentHash == [32]byte{} {
		if opt.ContentHash, err = hashContent(ctx, disk, capacity); err != nil {
			return Result{}, fmt.Errorf("vmdk: hash disk: %w", err)
		}
	}
	d := descriptor{newContentID(opt.ContentHash), opt.ExtentName, capacity}
	f := newFile(w, capacity)
	if err := f.put(d.front()); err != nil {
		return Result{}, fmt.Errorf("vmdk: %w", err)
	}
	if err := compress(ctx, f, disk, capacity, opt); err != nil {
		return Result{}, fmt.Errorf("vmdk: %w", err)
	}
	if err := f.finish(); err != nil {
		return Result{}, fmt.Errorf("vmdk: %w", err)
	}
	if err := changed(); err != nil {
		return Result{}, fmt.Errorf("vmdk: %w", err)
	}
	if opt.Progress != nil {
		opt.Progress(capacity, capacity)
	}
	return f.result(d), nil
}

// hashContent identifies a disk by its capacity and its non-zero grains with their numbers, so that zeros cost nothing.
func hashContent(ctx context.Context, disk io.ReaderAt, capacity int64) (sum [32]byte, err error) {
	h := sha256.New()
	var number [8]byte
	put := func(v int64) {
		binary.LittleEndian.PutUint64(number[:], uint64(v))
		h.Write(number[:])
	}
	put(capacity)
	buf := make([]byte, chunkSize)
	for e, err := range sparse.Extents(disk, capacity, grainSize) {
		if err != nil {
			return sum, err
		}
		for off := e.Off; off < e.Off+e.Len; off += chunkSize {
			if err := ctx.Err(); err != nil {
				return sum, err
			}
			b := buf[:min(chunkSize, e.Off+e.Len-off)]
			if err := sparse.ReadFull(disk, b, off); err != nil {
				return sum, err
			}
			for i := 0; i < len(b); i += grainSize {
				if g := b[i : i+grainSize]; !sparse.IsZero(g) {
					put((off + int64(i)) / grainSize)
					h.Write(g)
				}
			}
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}

// chunk is a run of grains on its way through the pipeline. It has one owner at a time: free list, producer, worker
// (until done is signalled), file.
type chunk struct {
	first int64 // grain number
	n     int   // grains
	out   []byte
	at    [chunkGrains]int32 // sector in out of each grain, -1 for a zero one
	err   error
	done  chan struct{}
}

// compress runs producer, workers and file side by side. Chunks enter both queues in the disk's order; the file waits
// for each in that order, so a slow chunk holds back the others, bounded by the number of chunks there are.
func compress(ctx context.Context, f *file, disk io.ReaderAt, capacity int64, opt Options) error {
	depth := 2*opt.Workers + 2
	free := make(chan *chunk, depth)
	order := make(chan *chunk, depth)
	jobs := make(chan *chunk, depth)
	for range depth {
		free <- &chunk{done: make(chan struct{}, 1)}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(order)
		defer close(jobs)
		for e, err := range sparse.Extents(disk, capacity, grainSize) {
			if err != nil {
				return err
			}
			for off, end := e.Off, e.Off+e.Len; off < end; {
				next := min(end, off/chunkSize*chunkSize+chunkSize)
				select {
				case <-ctx.Done():
					return ctx.Err()
				case c := <-free:
					c.first, c.n = off/grainSize, int((next-off)/grainSize)
					order <- c // never blocks: there are depth chunks
					jobs <- c
				}
				off = next
			}
		}
		return nil
	})
	for range opt.Workers {
		g.Go(func() error {
			enc, err := newEncoder(opt.Level)
			if err != nil {
				return err
			}
			for c := range jobs {
				if ctx.Err() == nil {
					c.err = enc.encode(c, disk)
				}
				c.done <- struct{}{}
			}
			return nil
		})
	}
	g.Go(func() error {
		for c := range order {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-c.done:
			}
			if c.err != nil {
				return c.err
			}
			if err := f.chunk(c); err != nil {
				return err
			}
			if opt.Progress != nil {
				opt.Progress((c.first+int64(c.n))*grainSize, capacity)
			}
			free <- c
		}
		return ctx.Err()
	})
	return g.Wait()
}

// encoder is a worker's compressor with its buffers; after warming up it allocates nothing.
type encoder struct {
	in  []byte
	out appender
	z   *zlib.Writer
}

// appender is an io.Writer over a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

func newEncoder(level int) (*encoder, error) {
	e := &encoder{in: make([]byte, chunkSize)}
	var err error
	e.z, err = zlib.NewWriterLevel(&e.out, level)
	return e, err
}

// encode reads c's grains and fills c.out with what goes into the file for them: marker, zlib stream, padding.
func (e *encoder) encode(c *chunk, disk io.ReaderAt) error {
	in := e.in[:c.n*grainSize]
	if err := sparse.ReadFull(disk, in, c.first*grainSize); err != nil {
		return err
	}
	e.out.b = c.out[:0]
	for i := range c.n {
		g := in[i*grainSize : (i+1)*grainSize]
		if sparse.IsZero(g) {
			c.at[i] = -1
			continue
		}
		start := len(e.out.b)
		c.at[i] = int32(start / sectorSize)
		var marker [grainMarkerSize]byte
		binary.LittleEndian.PutUint64(marker[:], uint64(c.first+int64(i))*grainSectors)
		e.out.b = append(e.out.b, marker[:]...)
		e.z.Reset(&e.out)
		if _, err := e.z.Write(g); err != nil {
			return err
		}
		if err := e.z.Close(); err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(e.out.b[start+8:], uint32(len(e.out.b)-start-grainMarkerSize))
		e.out.b = append(e.out.b, zeroSector[:-len(e.out.b)&(sectorSize-1)]...)
	}
	c.out = e.out.b
	return nil
}

var zeroSector [sectorSize]byte

// file is the output in writing: its hash, its length, and the tables for the end.
type file struct {
	w        io.Writer
	hash     hash.Hash
	size     int64 // bytes
	capacity int64
	gd       []uint32
	gt       [gtEntries]uint32
	table    int // the grain table that gt belongs to, -1 before the first grain
	grains   int64
}

func newFile(w io.Writer, capacity int64) *file {
	return &file{w: w, hash: sha256.New(), capacity: capacity, gd: make([]uint32, tablesFor(capacity)), table: -1}
}

func (f *file) put(b []byte) error {
	if f.size+int64(len(b)) > 1<<32*sectorSize {
		return fmt.Errorf("file passes %d bytes, where 32-bit sector numbers end", int64(1<<32*sectorSize))
	}
	if _, err := f.w.Write(b); err != nil {
		return fmt.Errorf("write at %d: %w", f.size, err)
	}
	f.hash.Write(b)
	f.size += int64(len(b))
	return nil
}

func (f *file) sector() int64 { return f.size / sectorSize }

func (f *file) chunk(c *chunk) error {
	if len(c.out) == 0 {
		return nil
	}
	if t := int(c.first / gtEntries); t != f.table {
		if err := f.flushTable(); err != nil {
			return err
		}
		f.table = t
	}
	for i, at := range c.at[:c.n] {
		if at >= 0 {
			f.gt[(c.first+int64(i))%gtEntries] = uint32(f.sector() + int64(at))
			f.grains++
		}
	}
	return f.put(c.out)
}

func (f *file) flushTable() error {
	if f.table < 0 {
		return nil
	}
	if err := f.put(metaMarker(gtSectors, markerGT)); err != nil {
		return err
	}
	f.gd[f.table] = uint32(f.sector())
	b, _ := binary.Append(make([]byte, 0, gtSize), binary.LittleEndian, f.gt[:])
	clear(f.gt[:])
	return f.put(b)
}

// finish writes what follows the last grain.
func (f *file) finish() error {
	if err := f.flushTable(); err != nil {
		return err
	}
	n := gdSectors(len(f.gd))
	if err := f.put(metaMarker(uint64(n), markerGD)); err != nil {
		return err
	}
	gdOffset := f.sector()
	b := make([]byte, n*sectorSize)
	for i, sector := range f.gd {
		binary.LittleEndian.PutUint32(b[i*4:], sector)
	}
	b = append(b, metaMarker(1, markerFooter)...)
	b = append(b, newHeader(f.capacity, uint64(gdOffset)).sector()...)
	b = append(b, metaMarker(0, markerEOS)...)
	return f.put(b)
}

func (f *file) result(d descriptor) Result {
	r := Result{Size: f.size, CID: d.cid(), Grains: f.grains, ZeroGrains: f.capacity/grainSize - f.grains}
	f.hash.Sum(r.SHA256[:0])
	return r
}

// Rename copies the VMDK of size bytes in src to w under another extent name, without compressing again: two
// appliances from one disk differ in nothing else. The source is checked as Open checks it, its grains are not.
func Rename(ctx context.Context, w io.Writer, src io.ReaderAt, size int64, extentName string) (Result, error) {
	if err := checkExtentName(extentName); err != nil {
		return Result{}, fmt.Errorf("vmdk: %w", err)
	}
	img, err := Open(src, size)
	if err != nil {
		return Result{}, err
	}
	d := img.desc
	d.extent = extentName
	f := newFile(w, d.capacity)
	f.grains = img.grains
	if err := f.put(d.front()); err != nil {
		return Result{}, fmt.Errorf("vmdk: %w", err)
	}
	buf := make([]byte, chunkSize)
	for f.size < size {
		if err := ctx.Err(); err != nil {
			return Result{}, fmt.Errorf("vmdk: %w", err)
		}
		b := buf[:min(chunkSize, size-f.size)]
		if err := sparse.ReadFull(src, b, f.size); err != nil {
			return Result{}, fmt.Errorf("vmdk: %w", err)
		}
		if err := f.put(b); err != nil {
			return Result{}, fmt.Errorf("vmdk: %w", err)
		}
	}
	return f.result(d), nil
}

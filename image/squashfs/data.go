package squashfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"golang.org/x/sync/errgroup"
)

// dataWriter packs the contents of files:
//
//	read (one goroutine) ─┬─> work ──> compress (Workers goroutines) ─┐
//	                      └─> order ─────────────────────────> store (one goroutine)
//
// read decides everything that shapes the image except positions, store waits
// for the blocks in read's order; so the result does not depend on timing. The
// blocks come from a fixed stock, which bounds memory.
type dataWriter struct {
	opt   Options
	out   *output
	files []*node

	stock, work, order chan *block

	// Of read.
	tail       *block // the fragment block being filled, nil before its first byte
	tails      uint32 // fragment blocks begun
	seen       map[contentKey]*node
	twins      map[sizeKey]int // large files by size
	zero       []byte
	done       int64
	total      int64
	duplicates int
	holes      int

	// Of store.
	fragments []fragment
	blocks    int
}

// block is a data or fragment block on its way.
type block struct {
	plain, packed []byte // BlockSize bytes each
	n             int    // of plain
	stored        []byte // what goes into the image, in plain or packed
	smaller       bool   // stored is compressed
	ready         chan error

	file  *node // of a data block; nil says fragment block
	index int   // in the file's block list
	first bool  // the file's first stored block
}

type fragment struct {
	start int64
	size  uint32 // with blockStored
}

// sizeKey has what two files must share before they are worth comparing.
type sizeKey struct {
	size, align int64
	plain       bool
}

type contentKey struct {
	sizeKey
	sum [sha256.Size]byte
}

func newDataWriter(out *output, opt Options, files []*node) *dataWriter {
	d := &dataWriter{
		opt: opt, out: out, files: files,
		seen: map[contentKey]*node{}, twins: map[sizeKey]int{}, zero: make([]byte, opt.BlockSize),
	}
	for _, f := range files {
		d.total += f.Size
		if !d.inFragment(f) {
			d.twins[f.sizeKey()]++
		}
	}
	return d
}

func (n *node) sizeKey() sizeKey { return sizeKey{n.Size, n.AlignTo, n.Plain} }

// inFragment says that f has no block of its own.
func (d *dataWriter) inFragment(f *node) bool { return f.AlignTo == 0 && f.Size < d.opt.BlockSize }

func (d *dataWriter) run(ctx context.Context) error {
	stock := 2*d.opt.Workers + 2 // every worker busy, one block each in wait, one being read, one fragment
	d.stock = make(chan *block, stock)
	d.work = make(chan *block, stock)
	d.order = make(chan *block, stock)
	for range stock {
		d.stock <- &block{ready: make(chan error, 1)}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(d.order)
		defer close(d.work)
		return d.read(ctx)
	})
	for range d.opt.Workers {
		g.Go(func() error { d.compress(); return nil })
	}
	g.Go(func() error { return d.store(ctx) })
	return g.Wait()
}

// compress ends when read closes work.
func (d *dataWriter) compress() {
	c := newCompressor(d.opt.Level)
	for b := range d.work {
		var err error
		if b.file != nil && b.file.Plain {
			b.stored, b.smaller = b.plain[:b.n], false
		} else {
			b.stored, b.smaller, err = c.block(b.packed, b.plain[:b.n])
		}
		b.ready <- err
	}
}

// store writes the blocks in order and records where they are.
func (d *dataWriter) store(ctx context.Context) error {
	for b := range d.order {
		select {
		case err := <-b.ready:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if b.first && b.file.AlignTo > 0 {
			if err := d.out.align(b.file.AlignTo); err != nil {
				return err
			}
		}
		size := uint32(len(b.stored))
		if !b.smaller {
			size |= blockStored
		}
		if b.file == nil {
			d.fragments = append(d.fragments, fragment{d.out.pos, size})
		} else {
			d.blocks++
			b.file.data.blocks[b.index] = size
			if b.first {
				b.file.data.start = d.out.pos
			}
		}
		if err := d.out.write(b.stored); err != nil {
			return err
		}
		d.stock <- b // has room for all
	}
	return nil
}

// take waits for an empty block.
func (d *dataWriter) take(ctx context.Context) (*block, error) {
	select {
	case b := <-d.stock:
		if b.plain == nil {
			b.plain, b.packed = make([]byte, d.opt.BlockSize), make([]byte, d.opt.BlockSize)
		}
		b.n, b.file, b.first = 0, nil, false
		return b, ctx.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// give sends a full block on; both queues have room for the whole stock.
func (d *dataWriter) give(b *block) {
	d.order <- b
	d.work <- b
}

func (d *dataWriter) read(ctx context.Context) error {
	for _, f := range d.files {
		if err := d.readFile(ctx, f); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("squashfs: file %q: %w", f.Path, err)
		}
		d.progress(0)
	}
	if d.tail != nil && d.tail.n > 0 {
		d.give(d.tail)
	}
	return nil
}

func (d *dataWriter) progress(n int64) {
	d.done += n
	d.opt.Progress(d.done, d.total)
}

func (d *dataWriter) readFile(ctx context.Context, f *node) (err error) {
	if f.Size == 0 {
		return nil
	}
	var sum hash.Hash // of a file that was read once already
	var key contentKey
	if !d.inFragment(f) && d.twins[f.sizeKey()] > 1 {
		if key, err = d.contentOf(ctx, f); err != nil {
			return err
		}
		if d.isDuplicate(f, key) {
			d.progress(f.Size)
			return nil
		}
		sum = sha256.New()
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()

	blockSize := d.opt.BlockSize
	blocks := f.Size / blockSize
	if f.AlignTo > 0 {
		blocks = (f.Size + blockSize - 1) / blockSize
	}
	f.data.blocks = make([]uint32, blocks)
	first := true
	for i := range f.data.blocks {
		b, err := d.take(ctx)
		if err != nil {
			return err
		}
		at := int64(i) * blockSize
		b.n = int(min(blockSize, f.Size-at))
		if err := readFull(r, b.plain[:b.n], at, f.Size); err != nil {
			return err
		}
		if sum != nil {
			sum.Write(b.plain[:b.n])
		}
		if bytes.Equal(b.plain[:b.n], d.zero[:b.n]) {
			f.data.sparse += int64(b.n)
			d.holes++
			d.stock <- b
		} else {
			b.file, b.index, b.first = f, i, first
			first = false
			d.give(b)
		}
		d.progress(int64(b.n))
	}
	if at := blocks * blockSize; at < f.Size {
		if err := d.readTail(ctx, f, r, at, sum); err != nil {
			return err
		}
	}
	if n, err := io.ReadFull(r, make([]byte, 1)); n > 0 {
		return fmt.Errorf("has grown past its %d bytes", f.Size)
	} else if err != io.EOF {
		return err
	}
	if sum != nil && key.sum != [sha256.Size]byte(sum.Sum(nil)) {
		return errors.New("has changed while it was read")
	}
	return nil
}

// readTail puts f's bytes from at on into the fragment block.
func (d *dataWriter) readTail(ctx context.Context, f *node, r io.Reader, at int64, sum hash.Hash) error {
	n := int(f.Size - at)
	if d.tail != nil && d.tail.n+n > int(d.opt.BlockSize) {
		d.give(d.tail)
		d.tail = nil
	}
	if d.tail == nil {
		var err error
		if d.tail, err = d.take(ctx); err != nil {
			return err
		}
		d.tails++
		if d.tails == noFragment {
			return fmt.Errorf("more than %d fragment blocks", d.tails-1)
		}
	}
	p := d.tail.plain[d.tail.n:][:n]
	if err := readFull(r, p, at, f.Size); err != nil {
		return err
	}
	d.progress(int64(n))
	if sum != nil {
		sum.Write(p)
	}
	if at == 0 && d.isDuplicate(f, contentKey{f.sizeKey(), sha256.Sum256(p)}) {
		return nil
	}
	f.data.fragment, f.data.offset = d.tails-1, uint32(d.tail.n)
	d.tail.n += n
	return nil
}

// isDuplicate looks for an earlier file with f's content; without one, f is
// the one that later files find.
func (d *dataWriter) isDuplicate(f *node, key contentKey) bool {
	old := d.seen[key]
	if old == nil {
		d.seen[key] = f
		return false
	}
	f.data.same = old
	d.duplicates++
	return true
}

// contentOf reads f for its hash alone.
func (d *dataWriter) contentOf(ctx context.Context, f *node) (key contentKey, err error) {
	r, err := f.Open()
	if err != nil {
		return key, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b, err := d.take(ctx)
	if err != nil {
		return key, err
	}
	defer func() { d.stock <- b }()
	sum := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{io.LimitReader(r, f.Size+1)}, b.plain)
	if err != nil {
		return key, err
	}
	if n != f.Size {
		return key, fmt.Errorf("gives at least %d bytes, want %d", n, f.Size)
	}
	return contentKey{f.sizeKey(), [sha256.Size]byte(sum.Sum(nil))}, ctx.Err()
}

// readFull fills p with a file's bytes from at on.
func readFull(r io.Reader, p []byte, at, size int64) error {
	n, err := io.ReadFull(r, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("ends at %d of %d bytes", at+int64(n), size)
	}
	return err
}

func (d *dataWriter) fragmentTable() []byte {
	b := make([]byte, 0, 16*len(d.fragments))
	for _, f := range d.fragments {
		b = le.AppendUint64(b, uint64(f.start))
		b = le.AppendUint32(b, f.size)
		b = le.AppendUint32(b, 0)
	}
	return b
}

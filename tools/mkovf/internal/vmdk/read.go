package vmdk

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/parley-meet/parley/tools/mkovf/internal/diskformat/sparse"
)

// Image is an opened VMDK. Its methods may be called from several goroutines.
type Image struct {
	r      io.ReaderAt
	size   int64
	desc   descriptor
	tables []*[gtEntries]uint32 // nil: no grains
	grains int64

	mu     sync.Mutex
	cached int64 // number of the grain in buf, -1 for none
	buf    []byte
	in     []byte
	src    bytes.Reader
	z      io.ReadCloser
}

// Open reads header, descriptor and tables of the VMDK of size bytes in r, and walks its markers from the first grain
// to the last byte. Anything this package's writer would not have written is an error. Grains are not decompressed.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	m := &Image{r: r, size: size, cached: -1}
	if err := m.open(); err != nil {
		return nil, fmt.Errorf("vmdk: %w", err)
	}
	return m, nil
}

// Capacity is the size of the disk in bytes.
func (m *Image) Capacity() int64 { return m.desc.capacity }

// CID is the content identifier in the descriptor.
func (m *Image) CID() uint32 { return m.desc.cid() }

// ExtentName is the file name in the descriptor.
func (m *Image) ExtentName() string { return m.desc.extent }

// Grains is the number of stored grains.
func (m *Image) Grains() int64 { return m.grains }

func (m *Image) open() error {
	const tail = 3 // sectors: footer's marker, footer, end of stream
	if m.size%sectorSize != 0 || m.size < (overhead+2+tail)*sectorSize || m.size > 1<<32*sectorSize {
		return fmt.Errorf("size %d bytes is none a file can have", m.size)
	}
	front := make([]byte, overhead*sectorSize)
	if err := sparse.ReadFull(m.r, front, 0); err != nil {
		return err
	}
	capacity := binary.LittleEndian.Uint64(front[12:])
	if capacity > MaxCapacity/sectorSize {
		return fmt.Errorf("capacity %d sectors, want at most %d", capacity, int64(MaxCapacity/sectorSize))
	}
	if err := checkCapacity(int64(capacity) * sectorSize); err != nil {
		return err
	}
	m.desc.capacity = int64(capacity) * sectorSize
	if want := newHeader(m.desc.capacity, gdAtEnd).sector(); !bytes.Equal(front[:sectorSize], want) {
		return fmt.Errorf("header is %x, want %x", front[:79], want[:79])
	}
	area := front[descriptorSector*sectorSize:]
	d, err := parseDescriptor(area[:descriptorSectors*sectorSize], m.desc.capacity)
	if err != nil {
		return err
	}
	m.desc = d
	if !bytes.Equal(front, d.front()) {
		return errors.New("bytes between descriptor and first grain are not zero")
	}
	return m.walk()
}

// walk follows the markers. It is the only place that fills m.tables, and compares each table with the grains seen.
func (m *Image) walk() error {
	n := tablesFor(m.desc.capacity)
	m.tables = make([]*[gtEntries]uint32, n)
	gd := make([]byte, gdSectors(n)*sectorSize)
	var (
		sector  = int64(overhead)
		last    = int64(-1) // grain
		pending *[gtEntries]uint32
		buf     [sectorSize]byte
	)
	for {
		if err := sparse.ReadFull(m.r, buf[:], sector*sectorSize); err != nil {
			return err
		}
		value, length := binary.LittleEndian.Uint64(buf[:]), int64(binary.LittleEndian.Uint32(buf[8:]))
		if length == 0 {
			kind := binary.LittleEndian.Uint32(buf[12:])
			if !bytes.Equal(buf[:], metaMarker(value, kind)) {
				return fmt.Errorf("sector %d: marker has more than length and type", sector)
			}
			if kind != markerGT {
				if pending != nil {
					return fmt.Errorf("sector %d: marker of type %d before the last grain table", sector, kind)
				}
				return m.end(sector, gd)
			}
			if pending == nil || value != gtSectors {
				return fmt.Errorf("sector %d: grain table of %d sectors without grains or of the wrong length", sector, value)
			}
			if err := m.checkTable(sector+1, pending); err != nil {
				return err
			}
			t := last / gtEntries
			m.tables[t] = pending
			binary.LittleEndian.PutUint32(gd[t*4:], uint32(sector+1))
			pending = nil
			sector += 1 + gtSectors
			continue
		}
		grain := int64(value / grainSectors)
		if value%grainSectors != 0 || value >= uint64(m.desc.capacity/sectorSize) || grain <= last {
			return fmt.Errorf("sector %d: grain at disk sector %d after grain %d, capacity %d sectors",
				sector, value, last, m.desc.capacity/sectorSize)
		}
		if pending == nil {
			if last >= 0 && grain/gtEntries == last/gtEntries {
				return fmt.Errorf("sector %d: grain %d behind its grain table", sector, grain)
			}
			pending = new([gtEntries]uint32)
		} else if grain/gtEntries != last/gtEntries {
			return fmt.Errorf("sector %d: grain %d before the table of grain %d", sector, grain, last)
		}
		if length > maxCompressed {
			return fmt.Errorf("sector %d: compressed grain of %d bytes, want at most %d", sector, length, maxCompressed)
		}
		pending[grain%gtEntries] = uint32(sector)
		last = grain
		m.grains++
		sector += (grainMarkerSize + length + sectorSize - 1) / sectorSize
	}
}

func (m *Image) checkTable(sector int64, want *[gtEntries]uint32) error {
	b := make([]byte, gtSize)
	if err := sparse.ReadFull(m.r, b, sector*sectorSize); err != nil {
		return err
	}
	for i, w := range want {
		if got := binary.LittleEndian.Uint32(b[i*4:]); got != w {
			return fmt.Errorf("grain table at sector %d: entry %d is %d, the grain is at %d", sector, i, got, w)
		}
	}
	return nil
}

// end compares everything from the grain directory's marker with what the grains before it demand.
func (m *Image) end(sector int64, gd []byte) error {
	want := metaMarker(uint64(len(gd)/sectorSize), markerGD)
	want = append(want, gd...)
	want = append(want, metaMarker(1, markerFooter)...)
	want = append(want, newHeader(m.desc.capacity, uint64(sector+1)).sector()...)
	want = append(want, metaMarker(0, markerEOS)...)
	if end := sector*sectorSize + int64(len(want)); end != m.size {
		return fmt.Errorf("stream ends at %d, file at %d", end, m.size)
	}
	got := make([]byte, len(want))
	if err := sparse.ReadFull(m.r, got, sector*sectorSize); err != nil {
		return err
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d of directory and footer is %#x, want %#x", i, got[i], want[i])
		}
	}
	return nil
}

// ReadAt reads from the uncompressed disk (io.ReaderAt).
func (m *Image) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("vmdk: read at %d", off)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for n < len(p) {
		at := off + int64(n)
		if at >= m.desc.capacity {
			return n, io.EOF
		}
		grain, skip := at/grainSize, at%grainSize
		b := p[n:min(len(p), n+int(grainSize-skip))]
		if t := m.tables[grain/gtEntries]; t == nil || t[grain%gtEntries] == 0 {
			clear(b)
		} else {
			if err := m.loadLocked(grain, int64(t[grain%gtEntries])); err != nil {
				return n, fmt.Errorf("vmdk: grain %d: %w", grain, err)
			}
			copy(b, m.buf[skip:])
		}
		n += len(b)
	}
	return n, nil
}

// loadLocked decompresses a grain into m.buf and checks its checksum, its length and its padding.
func (m *Image) loadLocked(grain, sector int64) error {
	if m.cached == grain {
		return nil
	}
	m.cached = -1
	if m.buf == nil {
		m.buf, m.in = make([]byte, grainSize), make([]byte, maxCompressed+sectorSize+grainMarkerSize)
	}
	if err := sparse.ReadFull(m.r, m.in[:grainMarkerSize], sector*sectorSize); err != nil {
		return err
	}
	length := int(binary.LittleEndian.Uint32(m.in[8:]))
	if length > maxCompressed {
		return fmt.Errorf("compressed length is now %d", length)
	}
	used := grainMarkerSize + length
	in := m.in[:(used+sectorSize-1)/sectorSize*sectorSize]
	if err := sparse.ReadFull(m.r, in, sector*sectorSize); err != nil {
		return err
	}
	m.src.Reset(in[grainMarkerSize:used])
	var err error
	if m.z == nil {
		m.z, err = zlib.NewReader(&m.src)
	} else {
		err = m.z.(zlib.Resetter).Reset(&m.src, nil)
	}
	if err != nil {
		return err
	}
	if n, err := io.ReadFull(m.z, m.buf); err != nil {
		return fmt.Errorf("%d of %d bytes: %w", n, grainSize, err)
	}
	var more [1]byte
	if n, err := m.z.Read(more[:]); n != 0 || err != io.EOF {
		return fmt.Errorf("stream is longer than a grain or has a wrong checksum: %w", err)
	}
	if m.src.Len() != 0 || !sparse.IsZero(in[used:]) {
		return fmt.Errorf("%d bytes behind the stream, or padding that is not zero", m.src.Len())
	}
	m.cached = grain
	return nil
}

// Verify decompresses every grain and compares the disk with raw, which holds Capacity bytes. Only stored grains are
// read from the VMDK; raw is read once. A difference is an error that names the grain.
func (m *Image) Verify(ctx context.Context, raw io.ReaderAt) error {
	got, want := make([]byte, grainSize), make([]byte, grainSize)
	next := int64(0) // first byte not compared yet
	for e, err := range sparse.Extents(raw, m.desc.capacity, grainSize) {
		if err != nil {
			return fmt.Errorf("vmdk: %w", err)
		}
		if err := m.verifyZero(ctx, next, e.Off, got); err != nil {
			return err
		}
		for next = e.Off; next < e.Off+e.Len; next += grainSize {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("vmdk: %w", err)
			}
			if err := sparse.ReadFull(raw, want, next); err != nil {
				return fmt.Errorf("vmdk: %w", err)
			}
			if _, err := m.ReadAt(got, next); err != nil {
				return err
			}
			if !bytes.Equal(got, want) {
				return fmt.Errorf("vmdk: grain %d differs from the disk", next/grainSize)
			}
		}
	}
	return m.verifyZero(ctx, next, m.desc.capacity, got)
}

// verifyZero checks that a hole of the raw disk is one here, or at least holds zeros.
func (m *Image) verifyZero(ctx context.Context, from, to int64, buf []byte) error {
	for off := from; off < to; off += grainSize {
		if m.tables[off/grainSize/gtEntries] == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("vmdk: %w", err)
		}
		if _, err := m.ReadAt(buf, off); err != nil {
			return err
		}
		if !sparse.IsZero(buf) {
			return fmt.Errorf("vmdk: grain %d holds data, the disk has a hole", off/grainSize)
		}
	}
	return nil
}

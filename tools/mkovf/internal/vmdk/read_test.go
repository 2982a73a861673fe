package vmdk

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// small is a file with two grain tables, one empty between them, and what a reader meets.
func small(t testing.TB) (file, disk []byte) {
	const capacity = 70 * mib
	disk = make([]byte, capacity)
	copy(disk, "first grain")
	copy(disk[grainSize:], bytes.Repeat([]byte("second "), 20000))
	copy(disk[capacity-10:], "last grain")
	file, _ = write(t, bytes.NewReader(disk), capacity, Options{})
	return file, disk
}

// readAll is what any caller may do with an image; nothing of it may panic.
func readAll(img *Image) error {
	p := make([]byte, grainSize+1)
	for t, table := range img.tables {
		if table == nil {
			continue
		}
		for i, sector := range table {
			if sector != 0 {
				if _, err := img.ReadAt(p[:1], int64(t*gtEntries+i)*grainSize); err != nil {
					return err
				}
			}
		}
	}
	_, _ = img.ReadAt(p, img.Capacity()-grainSize)
	return nil
}

// TestEveryByteCounts flips each byte of the front, the markers and the tables, cuts and extends the file: the strict
// reader must notice every time, if not at Open then when the grain is read.
func TestEveryByteCounts(t *testing.T) {
	file, _ := small(t)
	check := func(what string, at int, b []byte) {
		t.Helper()
		img, err := Open(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			err = readAll(img)
		}
		if err == nil {
			t.Errorf("%s %d went unnoticed", what, at)
		}
	}
	for at := range file {
		if padding := (1 + descriptorSectors) * sectorSize; at > padding && at < overhead*sectorSize && at%509 != 0 {
			continue // one long run of zeros: a sample will do
		}
		b := bytes.Clone(file)
		b[at] ^= 0x41
		if at >= 512 && at < 512+descriptorSectors*sectorSize && unconstrained(file, at) {
			continue
		}
		check("flipped byte", at, b)
	}
	for n := 0; n < len(file); n += 512 {
		check("cut at", n, file[:n])
	}
	check("cut at", len(file)-1, file[:len(file)-1])
	check("extended by", 512, append(bytes.Clone(file), make([]byte, 512)...))
	check("extended by", 64512, append(bytes.Clone(file), make([]byte, 64512)...))
}

// unconstrained says that the descriptor's byte belongs to the extent name, which may be anything.
func unconstrained(file []byte, at int) bool {
	name := bytes.Index(file[:2048], []byte(`"disk.vmdk"`))
	return at > name && at <= name+len("disk.vmdk")
}

// TestWrongTables builds files that are wrong in ways a flipped byte is not.
func TestWrongTables(t *testing.T) {
	file, _ := small(t)
	le := binary.LittleEndian
	for name, edit := range map[string]func(b []byte){
		"capacity of 2^63 sectors":  func(b []byte) { le.PutUint64(b[12:], 1<<63) },
		"capacity not whole MiB":    func(b []byte) { le.PutUint64(b[12:], 70*2048+1) },
		"grain of 4 GiB":            func(b []byte) { le.PutUint32(b[overhead*512+8:], 1<<32-1) },
		"grain beyond the disk":     func(b []byte) { le.PutUint64(b[overhead*512:], 70*2048) },
		"grain number that wraps":   func(b []byte) { le.PutUint64(b[overhead*512:], 1<<64-128) },
		"grain twice":               func(b []byte) { le.PutUint64(b[(overhead+1)*512:], 0) },
		"version 1":                 func(b []byte) { le.PutUint32(b[4:], 1) },
		"end of stream at once":     func(b []byte) { copy(b[overhead*512:], make([]byte, 512)) },
		"compressed length of zero": func(b []byte) { le.PutUint32(b[overhead*512+8:], 0) },
	} {
		b := bytes.Clone(file)
		edit(b)
		if img, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			if err := readAll(img); err == nil {
				t.Errorf("%s went unnoticed", name)
			}
		}
	}
}

func TestVerifyNoticesDifference(t *testing.T) {
	file, disk := small(t)
	img, err := Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if err := img.Verify(t.Context(), bytes.NewReader(disk)); err != nil {
		t.Error(err)
	}
	for _, at := range []int{0, grainSize, 40 * mib, len(disk) - 1} {
		b := bytes.Clone(disk)
		b[at] ^= 1
		if err := img.Verify(t.Context(), bytes.NewReader(b)); err == nil {
			t.Errorf("byte %d differs, not noticed", at)
		}
	}
	// An empty sparse file exercises the holes' side.
	if err := img.Verify(t.Context(), sparseFile(t, int64(len(disk)))); err == nil {
		t.Error("an empty disk passed")
	}
	if err := img.Verify(t.Context(), bytes.NewReader(disk[:mib])); err == nil {
		t.Error("a short disk passed")
	}
}

// FuzzOpen puts any bytes behind a good header and descriptor (which are compared as a whole and have nothing to get
// lost in): no grain, table or footer makes the reader panic. What Open takes is of this writer's form, so renaming it
// to its own name changes nothing. Give it -fuzzminimizetime 5x: the files are long, and Go would rather spend its time
// on shortening them.
func FuzzOpen(f *testing.F) {
	d := descriptor{extent: "disk.vmdk", contentID: newContentID([32]byte{12: 1})}
	add := func(disk []byte) {
		file, _ := write(f, bytes.NewReader(disk), int64(len(disk)), Options{})
		f.Add(uint16(len(disk)/mib), file[overhead*sectorSize:])
	}
	_, disk := small(f)
	add(disk)
	add(make([]byte, mib))
	add(mixed(1, mib, "zero", "first", "last"))
	f.Fuzz(func(t *testing.T, capacity uint16, body []byte) {
		d := d
		d.capacity = int64(capacity) * mib
		b := append(d.front(), body...)
		img, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		_ = readAll(img)
		var again bytes.Buffer
		if _, err := Rename(t.Context(), &again, bytes.NewReader(b), int64(len(b)), img.ExtentName()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Bytes(), b) {
			t.Error("renaming to the same name changes the file")
		}
	})
}

// FuzzDescriptor: what passes is a text that this package would write, with the values read from it.
func FuzzDescriptor(f *testing.F) {
	d := descriptor{extent: "disk.vmdk", contentID: newContentID([32]byte{12: 1}), capacity: 7 * mib}
	f.Add(append([]byte(d.text()), 0))
	f.Add([]byte("version=1\x00"))
	f.Fuzz(func(t *testing.T, area []byte) {
		got, err := parseDescriptor(area, d.capacity)
		if err != nil {
			return
		}
		if text := got.text(); !bytes.HasPrefix(area, append([]byte(text), 0)) {
			t.Errorf("%q was read as %q", area, text)
		}
	})
}

package squashfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"
)

// seedImage is a small image whose metadata and data are not compressed, so
// that a changed byte reaches the decoder and not a checksum.
func seedImage(t testing.TB, level int) []byte {
	t.Helper()
	entries := []Entry{
		file("a/text", text(1, int(MinBlockSize)+5)), file("a/tail", text(2, 100)), file("empty", nil),
		file("zero", make([]byte, 2*MinBlockSize)), link("link", "a/text"), dir("d"),
		{Path: "null", Mode: 0o666 | 1<<26 | 1<<21, Major: 1, Minor: 3},
	}
	opt, err := Options{ModTime: testTime, BlockSize: MinBlockSize, PadTo: 1}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	opt.Level = level
	var d disk
	if _, err := write(t.Context(), &d, entries, opt); err != nil {
		t.Fatal(err)
	}
	return d.b
}

// readAll reads what there is, at most a few megabytes of content.
func readAll(image []byte) error {
	im, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return err
	}
	files, err := im.List()
	if err != nil {
		return err
	}
	left := int64(4 << 20)
	for _, f := range files {
		if !f.Mode.IsRegular() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		n, err := io.CopyN(io.Discard, r, min(f.Size, left))
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// Cutting an image short or changing any one byte must not panic, and a cut
// must be seen.
func TestDamage(t *testing.T) {
	for _, level := range []int{0, 9} {
		image := seedImage(t, level)
		if err := readAll(image); err != nil {
			t.Fatal(err)
		}
		for n := range image {
			if err := readAll(image[:n]); err == nil {
				t.Fatalf("the first %d of %d bytes pass", n, len(image))
			}
		}
		tables := int(le.Uint64(image[64:]))
		for i := range image {
			if i >= superSize && i < tables {
				continue // content
			}
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				b := bytes.Clone(image)
				b[i] ^= flip
				readAll(b)
			}
		}
	}
}

func TestSuperblockErrors(t *testing.T) {
	image := seedImage(t, 9)
	for name, change := range map[string]func(*superblock){
		"magic":        func(s *superblock) { s.Magic++ },
		"version":      func(s *superblock) { s.Major = 3 },
		"compressor":   func(s *superblock) { s.Compressor = 6 },
		"block size":   func(s *superblock) { s.BlockSize *= 2 },
		"block log":    func(s *superblock) { s.BlockSize, s.BlockLog = 1<<21, 21 },
		"used":         func(s *superblock) { s.Used++ },
		"no inodes":    func(s *superblock) { s.Inodes = 0 },
		"few inodes":   func(s *superblock) { s.Inodes = 3 },
		"many inodes":  func(s *superblock) { s.Inodes = math.MaxUint32 },
		"no owners":    func(s *superblock) { s.IDs = 0 },
		"owners":       func(s *superblock) { s.IDs = math.MaxUint16 },
		"owner table":  func(s *superblock) { s.IDTable = math.MaxUint64 },
		"fragments":    func(s *superblock) { s.Fragments = math.MaxUint32 },
		"no fragments": func(s *superblock) { s.Fragments = 0 },
		"export":       func(s *superblock) { s.ExportTable = 96 },
		"attributes":   func(s *superblock) { s.XattrTable = 96 },
		"root":         func(s *superblock) { s.Root = math.MaxUint64 },
		"root file":    func(s *superblock) { s.Root = 0 },
		"inode table":  func(s *superblock) { s.InodeTable = s.DirTable },
		"dir table":    func(s *superblock) { s.DirTable = s.InodeTable },
	} {
		var sb superblock
		if _, err := binary.Decode(image, le, &sb); err != nil {
			t.Fatal(err)
		}
		change(&sb)
		b, err := binary.Append(nil, le, &sb)
		if err != nil {
			t.Fatal(err)
		}
		if err := readAll(append(b, image[superSize:]...)); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A directory that contains itself ends.
func TestDirectoryLoop(t *testing.T) {
	image := seedImage(t, 0)
	var sb superblock
	if _, err := binary.Decode(image, le, &sb); err != nil {
		t.Fatal(err)
	}
	// The first entry of directory "a" becomes a directory: "a"'s own inode is
	// found by its listing, which the root's first entry points at.
	im, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	root, err := im.inode(metaRef(sb.Root))
	if err != nil {
		t.Fatal(err)
	}
	list := image[sb.DirTable+2+uint64(root.listing.offset()):]
	inode := le.Uint16(list[dirHeaderSize:]) // of "a"
	a := image[sb.InodeTable+2+uint64(inode):]
	le.PutUint16(a[24:], uint16(root.dirSize))
	le.PutUint16(a[26:], uint16(root.listing.offset()))
	if err := readAll(image); !errors.Is(err, errCorrupt) {
		t.Fatal(err)
	}
}

// FuzzOpen reads any bytes. Give it -fuzzminimizetime 5x: the images are long,
// and Go would rather spend its time on shortening them.
func FuzzOpen(f *testing.F) {
	f.Add(seedImage(f, 0))
	f.Add(seedImage(f, 9))
	var empty disk
	if _, err := Write(f.Context(), &empty, nil, Options{ModTime: testTime, PadTo: 1}); err != nil {
		f.Fatal(err)
	}
	f.Add(empty.b)
	f.Fuzz(func(t *testing.T, image []byte) { readAll(image) })
}

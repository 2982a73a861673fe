package sparse

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestIsZero(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := make([]byte, rapid.IntRange(0, 20000).Draw(t, "len"))
		if !IsZero(p) {
			t.Fatalf("%d zeros are not zero", len(p))
		}
		if len(p) == 0 {
			return
		}
		at := rapid.IntRange(0, len(p)-1).Draw(t, "at")
		p[at] = 1
		if IsZero(p) {
			t.Fatalf("byte %d of %d overlooked", at, len(p))
		}
	})
}

func collect(t *testing.T, r io.ReaderAt, size, align int64) []Extent {
	t.Helper()
	var got []Extent
	for e, err := range Extents(r, size, align) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	return got
}

// TestExtentsCoverData writes blocks at random places and asks that each lies in an extent, that extents are aligned,
// ascending and apart, and that on Linux most of an almost empty file is skipped.
func TestExtentsCoverData(t *testing.T) {
	const size, align = 64<<20 + 512, 64 << 10
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, f, size, align); runtime.GOOS == "linux" && len(got) != 0 {
		t.Skipf("file system knows no holes: %v", got)
	}
	places := []int64{0, 70 << 10, 1 << 20, 1<<20 + 100<<10, 40 << 20, size - 512}
	for _, off := range places {
		if _, err := f.WriteAt(bytes.Repeat([]byte{7}, 512), off); err != nil {
			t.Fatal(err)
		}
	}
	got := collect(t, f, size, align)
	var sum, last int64 = 0, -1
	for _, e := range got {
		if e.Off%align != 0 || (e.Off+e.Len)%align != 0 && e.Off+e.Len != size {
			t.Errorf("extent %+v is not aligned to %d", e, int64(align))
		}
		if e.Off <= last {
			t.Errorf("extent %+v touches its predecessor, which ends at %d", e, last)
		}
		last = e.Off + e.Len
		sum += e.Len
	}
	for _, off := range places {
		found := false
		for _, e := range got {
			found = found || off >= e.Off && off+512 <= e.Off+e.Len
		}
		if !found {
			t.Errorf("data at %d is in no extent of %v", off, got)
		}
	}
	if runtime.GOOS == "linux" && sum > size/8 {
		t.Errorf("%d of %d bytes are called data", sum, int64(size))
	}
	for range Extents(f, size, align) {
		break // stopping early must not panic
	}
}

func TestExtentsWithoutHoles(t *testing.T) {
	got := collect(t, bytes.NewReader(make([]byte, 1000)), 1000, 512)
	if len(got) != 1 || got[0] != (Extent{0, 1000}) {
		t.Errorf("got %v, want the whole reader", got)
	}
	if got := collect(t, bytes.NewReader(nil), 0, 512); len(got) != 0 {
		t.Errorf("got %v of an empty reader", got)
	}
}

func TestExtentsError(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("no system call to fail")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, err := range Extents(f, 10, 1) {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("got %v, want a closed file", err)
		}
		return
	}
	t.Error("a closed file gave no error")
}

func TestSnapshot(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, 100), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int64{99, 101} {
		if _, err := Snapshot(f, size); err == nil {
			t.Errorf("100 bytes passed for %d", size)
		}
	}
	changed, err := Snapshot(f, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := changed(); err != nil {
		t.Errorf("nothing changed, got %v", err)
	}
	if err := os.Chtimes(name, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if changed() == nil {
		t.Error("a new modification time was overlooked")
	}
	changed, err = Snapshot(bytes.NewReader(nil), 5)
	if err != nil || changed() != nil {
		t.Error("a reader without Stat must pass")
	}
}

func TestReadFull(t *testing.T) {
	r := bytes.NewReader([]byte("0123456789"))
	p := make([]byte, 4)
	if err := ReadFull(r, p, 6); err != nil || string(p) != "6789" {
		t.Errorf("got %q, %v", p, err)
	}
	if err := ReadFull(r, p, 7); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want an unexpected end", err)
	}
}

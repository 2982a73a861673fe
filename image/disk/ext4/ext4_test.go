package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

func params(size int64, zeroed bool) Params {
	return Params{
		Size: size, UUID: [16]byte{0x50, 0x41, 0x52, 0x4c, 15: 5}, Label: "perm",
		Time: time.Unix(1_700_000_000, 0), Zeroed: zeroed,
	}
}

// memory is a sparse device: blocks that were written.
type memory map[int64][]byte

func (m memory) WriteAt(b []byte, off int64) (int, error) {
	if off%BlockSize != 0 || len(b)%BlockSize != 0 {
		return 0, fmt.Errorf("write of %d bytes at %d is not of whole blocks", len(b), off)
	}
	for i := 0; i < len(b); i += BlockSize {
		m[off/BlockSize+int64(i/BlockSize)] = bytes.Clone(b[i : i+BlockSize])
	}
	return len(b), nil
}

func format(t testing.TB, p Params) memory {
	t.Helper()
	m := memory{}
	if err := Format(m, p); err != nil {
		t.Fatal(err)
	}
	return m
}

// The same arguments give the same bytes, in whichever zone the time is told.
func TestDeterministic(t *testing.T) {
	p := params(gib, true)
	one := format(t, p)
	p.Time = p.Time.In(time.FixedZone("", -9*3600)).Add(999 * time.Millisecond)
	two := format(t, p)
	if len(one) != len(two) {
		t.Errorf("%d blocks, then %d", len(one), len(two))
	}
	for n, b := range one {
		if !bytes.Equal(b, two[n]) {
			t.Errorf("block %d differs", n)
		}
	}
}

// On a device that held something else, everything that Zeroed leaves out and
// somebody reads is written.
func TestNotZeroed(t *testing.T) {
	zeroed, dirty := format(t, params(gib, true)), format(t, params(gib, false))
	g := newGeometry(gib / BlockSize)
	for n := g.journal; n < g.journal+g.journalBlocks; n++ {
		if dirty[n] == nil {
			t.Fatalf("block %d of the journal is left as it was", n)
		}
	}
	for n, b := range zeroed {
		switch d := dirty[n]; {
		case d == nil:
			t.Errorf("block %d is not written", n)
		case n == g.journal && !bytes.Equal(b, d):
			t.Error("the journal's superblock differs")
		}
	}
	for g, d := range dirty[1][:8*descriptorSize] {
		if g%descriptorSize == 0x12 && d&tableZeroed != 0 {
			t.Errorf("descriptor at %d says its inode table is zero", g)
		}
	}
}

func TestSparse(t *testing.T) {
	blocks := format(t, params(1400*mib, true))
	if n := len(blocks) * BlockSize; n > 2*mib {
		t.Errorf("%d bytes are written for 1400 MiB", n)
	}
}

func TestGeometry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.Int64Range(MinSize/BlockSize, 100*gib/BlockSize).Draw(t, "blocks")
		if rapid.Bool().Draw(t, "huge") {
			blocks = rapid.Int64Range(MinSize/BlockSize, MaxSize/BlockSize).Draw(t, "blocks")
		}
		g := newGeometry(blocks)
		if g.blocks > blocks || blocks-g.blocks > 8*mib/BlockSize {
			t.Fatalf("%d of %d blocks used", g.blocks, blocks)
		}
		if g.descriptors*groupsPerBlock < g.groups || g.free() <= 0 || g.overhead()+g.free() > g.blocks {
			t.Fatalf("%+v", g)
		}
		for _, group := range []int64{0, 1, g.groups / 2, g.groups - 1} {
			if group < g.groups && g.used(group) >= g.groupBlocks(group) {
				t.Fatalf("group %d of %d blocks uses %d", group, g.groupBlocks(group), g.used(group))
			}
		}
	})
}

func TestBackupGroups(t *testing.T) {
	var got []int64
	for g := range int64(400) {
		if hasBackup(g) {
			got = append(got, g)
		}
	}
	if want := []int64{0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestBadArguments(t *testing.T) {
	for name, bad := range map[string]func(p *Params){
		"small":    func(p *Params) { p.Size = MinSize - 1 },
		"large":    func(p *Params) { p.Size = MaxSize + 1 },
		"negative": func(p *Params) { p.Size = -1 },
		"label":    func(p *Params) { p.Label = strings.Repeat("x", MaxLabel+1) },
		"1969":     func(p *Params) { p.Time = time.Unix(-1, 0) },
		"zero":     func(p *Params) { p.Time = time.Time{} },
		"2500":     func(p *Params) { p.Time = time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		p, m := params(gib, true), memory{}
		bad(&p)
		if err := Format(m, p); err == nil || len(m) > 0 {
			t.Errorf("%s: %v, %d blocks written", name, err, len(m))
		}
	}
}

// journaled is a device that fails, and notes in which order it is used.
type journaled struct {
	memory
	fail   int // the write or sync that fails, from 1
	events int
	syncs  []int
}

var errFault = errors.New("fault")

func (j *journaled) WriteAt(b []byte, off int64) (int, error) {
	if j.events++; j.events == j.fail {
		return 0, errFault
	}
	return j.memory.WriteAt(b, off)
}

func (j *journaled) Sync() error {
	if j.events++; j.events == j.fail {
		return errFault
	}
	j.syncs = append(j.syncs, j.events)
	return nil
}

// Wherever Format is interrupted, neither the old nor a half-made file system
// can be mounted afterwards.
func TestInterrupted(t *testing.T) {
	old := format(t, params(64*mib, true))
	whole := &journaled{memory: memory{}}
	p := params(64*mib, false)
	if err := Format(whole, p); err != nil {
		t.Fatal(err)
	}
	if want := []int{2, whole.events - 2, whole.events}; !slices.Equal(whole.syncs, want) {
		t.Errorf("synced at %v of %d, want %v", whole.syncs, whole.events, want)
	}
	for n := 2; n <= whole.events; n++ {
		m := memory{0: old[0]}
		if err := Format(&journaled{memory: m, fail: n}, p); !errors.Is(err, errFault) {
			t.Errorf("event %d of %d fails: %v", n, whole.events, err)
		}
		magic := le.Uint16(m[0][superblockOffset+0x38:])
		if last := n == whole.events; (magic != 0) != last {
			t.Errorf("event %d of %d fails: magic %#x", n, whole.events, magic)
		}
	}
}

package vmdk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/parley-meet/parley/internal/judge"
)

// disks are raw files of the sizes and contents that writers get wrong.
var disks = []struct {
	name     string
	capacity int64
	fill     func(t testing.TB, f *os.File, r *rand.Rand)
}{
	{"one MiB", mib, func(t testing.TB, f *os.File, r *rand.Rand) { put(t, f, r, 0, "text") }},
	{"empty", 7 * mib, func(testing.TB, *os.File, *rand.Rand) {}},
	{"empty, large", 3 << 30, func(testing.TB, *os.File, *rand.Rand) {}},
	{"incompressible", 48 * mib, func(t testing.TB, f *os.File, r *rand.Rand) {
		for g := range int64(48 * 16) {
			put(t, f, r, g, "noise")
		}
	}},
	{"sparse, large", 5<<30 + mib, func(t testing.TB, f *os.File, r *rand.Rand) {
		for _, g := range []int64{0, 1, 511, 512, 1023, 40000, 65535, 65536, (5<<30+mib)/grainSize - 1} {
			put(t, f, r, g, []string{"text", "noise", "first", "last"}[r.IntN(4)])
		}
	}},
	{"zeros that are no holes", 33 * mib, func(t testing.TB, f *os.File, r *rand.Rand) {
		for g := range int64(33 * 16) {
			put(t, f, r, g, []string{"zero", "zero", "zero", "text"}[r.IntN(4)])
		}
	}},
}

func put(t testing.TB, f *os.File, r *rand.Rand, grain int64, kind string) {
	t.Helper()
	b := make([]byte, grainSize)
	blocks[kind](r, b)
	if _, err := f.WriteAt(b, grain*grainSize); err != nil {
		t.Fatal(err)
	}
}

// TestForeignReaders gives each disk to qemu-img, libvmdk and 7-Zip.
func TestForeignReaders(t *testing.T) {
	for _, d := range disks {
		t.Run(d.name, func(t *testing.T) {
			raw := sparseFile(t, d.capacity)
			d.fill(t, raw, rand.New(rand.NewPCG(1, 2)))
			name := filepath.Join(t.TempDir(), "disk.vmdk")
			f, err := os.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			res, err := Write(t.Context(), f, raw, d.capacity, Options{ExtentName: "disk.vmdk"})
			if err != nil {
				t.Fatal(err)
			}
			img, err := Open(f, res.Size)
			if err != nil {
				t.Fatal(err)
			}
			if err := img.Verify(t.Context(), raw); err != nil {
				t.Error(err)
			}
			t.Run("qemu-img", func(t *testing.T) {
				judge.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "vmdk", raw.Name(), name)
				judge.Run(t, "qemu-img", "check", "-f", "vmdk", name)
				info := judge.Run(t, "qemu-img", "info", "--output=json", name)
				for _, want := range []string{
					fmt.Sprintf(`"virtual-size": %d`, d.capacity), `"create-type": "streamOptimized"`, `"compressed": true`,
					fmt.Sprintf(`"cid": %d`, res.CID),
				} {
					if !strings.Contains(info, want) {
						t.Errorf("qemu-img info lacks %s:\n%s", want, info)
					}
				}
			})
			t.Run("vmdkinfo", func(t *testing.T) {
				out := judge.Run(t, "vmdkinfo", name)
				for _, want := range []string{strconv.FormatInt(d.capacity, 10) + " bytes", fmt.Sprintf("0x%08x", res.CID)} {
					if !strings.Contains(out, want) {
						t.Errorf("vmdkinfo lacks %q:\n%s", want, out)
					}
				}
			})
			t.Run("7zz", func(t *testing.T) {
				if d.capacity > 1<<30 && testing.Short() {
					t.Skip("reads the whole disk")
				}
				out := judge.Run(t, "7zz", "t", name)
				if !strings.Contains(out, "Everything is Ok") || strings.Contains(out, "WARNING") || strings.Contains(out, "There are data after") {
					t.Errorf("7zz:\n%s", out)
				}
			})
		})
	}
}

// TestPartitionsSeen lets the sleuth kit find a partition table through the VMDK.
func TestPartitionsSeen(t *testing.T) {
	const capacity = 8 * mib
	disk := make([]byte, capacity)
	entry := disk[446:]
	entry[4] = 0x83              // Linux
	entry[8], entry[9] = 0, 8    // first sector 2048
	entry[12], entry[13] = 0, 16 // 4096 sectors
	disk[510], disk[511] = 0x55, 0xaa
	file, _ := write(t, bytes.NewReader(disk), capacity, Options{})
	name := filepath.Join(t.TempDir(), "disk.vmdk")
	if err := os.WriteFile(name, file, 0o644); err != nil {
		t.Fatal(err)
	}
	if out := judge.Run(t, "mmls", name); !strings.Contains(out, "0000002048   0000006143   0000004096   Linux (0x83)") {
		t.Errorf("mmls:\n%s", out)
	}
}

package ova

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	govmomi "github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/vapi/library"

	"github.com/parley-meet/parley/internal/judge"
	"github.com/parley-meet/parley/tools/mkovf/internal/ovf"
	"github.com/parley-meet/parley/tools/mkovf/internal/vmdk"
)

func member(name, text string) Member {
	return Member{name, int64(len(text)), strings.NewReader(text)}
}

func TestArchive(t *testing.T) {
	members := []Member{member("a.ovf", "<Envelope/>"), member("a.mf", "SHA256(a.ovf)= 00\n"), member("a.vmdk", strings.Repeat("x", 3<<20))}
	var b, again bytes.Buffer
	res, err := Write(t.Context(), &b, members)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), &again, members); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Errorf("the second archive differs, %v", err)
	}
	if res.Size != int64(b.Len()) || res.SHA256 != sha256.Sum256(b.Bytes()) {
		t.Errorf("result %+v of %d bytes", res, b.Len())
	}
	r := tar.NewReader(bytes.NewReader(b.Bytes()))
	for i, m := range members {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != m.Name || h.Size != m.Size || h.Mode != 0o644 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" ||
			!h.ModTime.Equal(modTime) || h.Format != tar.FormatUSTAR {
			t.Errorf("header %+v", h)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, m.Size)
		if _, err := m.R.ReadAt(want, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) || !bytes.Equal(b.Bytes()[res.Offsets[i]:res.Offsets[i]+m.Size], want) {
			t.Errorf("%s: wrong contents or offset", m.Name)
		}
	}
	if want := res.Offsets[2] + members[2].Size + 1024; res.Size != want || !bytes.Equal(b.Bytes()[b.Len()-1024:], make([]byte, 1024)) {
		t.Errorf("the archive ends at %d, want two zero blocks up to %d", res.Size, want)
	}
}

func TestWrongMembers(t *testing.T) {
	o, m := member("a.ovf", "o"), member("a.mf", "m")
	for name, members := range map[string][]Member{
		"none":           {},
		"only OVF":       {o},
		"manifest first": {m, o},
		"path":           {o, m, member("d/a.vmdk", "x")},
		"parent":         {o, m, member("..", "x")},
		"long name":      {o, m, member(strings.Repeat("a", 101), "x")},
		"no name":        {o, m, member("", "x")},
		"twice":          {o, m, m},
		"negative":       {o, m, {"a.vmdk", -1, strings.NewReader("")}},
		"9 GiB":          {o, m, {"a.vmdk", 9 << 30, strings.NewReader("")}},
		"short":          {o, m, {"a.vmdk", 10, strings.NewReader("123456789")}},
	} {
		if _, err := Write(t.Context(), io.Discard, members); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

var errFull = errors.New("no space")

type full int

func (f *full) Write(p []byte) (int, error) {
	if *f -= full(len(p)); *f < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteErrorAndCancel(t *testing.T) {
	members := []Member{member("a.ovf", "o"), member("a.mf", "m"), member("a.vmdk", strings.Repeat("x", 5<<20))}
	var b bytes.Buffer
	if _, err := Write(t.Context(), &b, members); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 512, 1500, 3 << 20, b.Len() - 1} {
		f := full(n)
		if _, err := Write(t.Context(), &f, members); !errors.Is(err, errFull) {
			t.Errorf("full after %d: %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, io.Discard, members); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}

// pack builds a whole appliance around a small disk, as the command does.
func pack(t *testing.T) (raw, file string, res Result) {
	t.Helper()
	const capacity = 65 << 20
	dir := t.TempDir()
	raw = filepath.Join(dir, "disk.raw")
	disk := make([]byte, capacity)
	r := rand.New(rand.NewPCG(1, 1))
	for range 40 {
		off := r.IntN(capacity - 4096)
		for i := range 4096 {
			disk[off+i] = byte(r.UintN(256))
		}
	}
	if err := os.WriteFile(raw, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	var v, o bytes.Buffer
	vres, err := vmdk.Write(t.Context(), &v, bytes.NewReader(disk), capacity, vmdk.Options{ExtentName: "appliance.vmdk"})
	if err != nil {
		t.Fatal(err)
	}
	if err := ovf.Write(&o, ovf.Spec{
		ID: "appliance", Name: "Appliance", Product: "Parley", Vendor: "Parley", Version: "1", FullVersion: "1.0.0",
		CPUs: 2, MemoryMiB: 512, Firmware: ovf.EFI, Serial: true, Properties: ovf.Properties(ovf.Controller),
		Disk: ovf.Disk{File: "appliance.vmdk", Size: vres.Size, CapacityMiB: capacity >> 20},
	}); err != nil {
		t.Fatal(err)
	}
	mf, err := ovf.Manifest([]ovf.Digest{{Name: "appliance.ovf", SHA256: sha256.Sum256(o.Bytes())}, {Name: "appliance.vmdk", SHA256: vres.SHA256}})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "appliance.ova")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err = Write(t.Context(), f, []Member{
		{"appliance.ovf", int64(o.Len()), bytes.NewReader(o.Bytes())},
		{"appliance.mf", int64(len(mf)), bytes.NewReader(mf)},
		{"appliance.vmdk", vres.Size, bytes.NewReader(v.Bytes())},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw, file, res
}

// TestVirtV2V lets virt-v2v read descriptor and manifest; with a damaged disk its manifest check has to fail, or it
// would prove nothing.
func TestVirtV2V(t *testing.T) {
	_, file, res := pack(t)
	out := judge.Run(t, "virt-v2v", "-i", "ova", "--print-source", file)
	for _, want := range []string{
		"source name: appliance", "memory: 536870912", "nr vCPUs: 2", "firmware: uefi", "[sata]", "e1000", "cd-rom [ide]",
	} {
		if !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
			t.Errorf("virt-v2v lacks %q:\n%s", want, out)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[res.Offsets[2]+70000] ^= 1
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := judge.Try(t, "virt-v2v", "-i", "ova", "--print-source", file); err == nil {
		t.Errorf("virt-v2v passes a wrong checksum:\n%s", out)
	}
}

// TestQemuInside reads the disk where it lies in the archive.
func TestQemuInside(t *testing.T) {
	raw, file, res := pack(t)
	size := res.Size - 1024 - res.Offsets[2]
	inside := fmt.Sprintf(`json:{"driver":"vmdk","file":{"driver":"raw","offset":%d,"size":%d,"file":{"driver":"file","filename":%q}}}`,
		res.Offsets[2], size, file)
	if out := judge.Run(t, "qemu-img", "info", inside); !strings.Contains(out, "virtual size: 65 MiB") {
		t.Errorf("qemu-img info:\n%s", out)
	}
	judge.Run(t, "qemu-img", "compare", "-F", "raw", inside, raw)
}

func TestArchivers(t *testing.T) {
	_, file, _ := pack(t)
	out := judge.Run(t, "7zz", "t", "-ttar", file)
	if !strings.Contains(out, "Everything is Ok") || strings.Contains(out, "WARNING") {
		t.Errorf("7zz:\n%s", out)
	}
	if out := judge.Run(t, "tar", "-tvf", file); strings.Count(out, "\n") != 3 || strings.Contains(out, "tar:") {
		t.Errorf("tar:\n%s", out)
	}
}

// TestGovmomiArchive reads the archive as govc imports it: Go's tar, govmomi's manifest and descriptor.
func TestGovmomiArchive(t *testing.T) {
	_, file, _ := pack(t)
	open := func(name string) io.Reader {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		for r := tar.NewReader(f); ; {
			h, err := r.Next()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if h.Name == name {
				return r
			}
		}
	}
	env, err := govmomi.Unmarshal(open("appliance.ovf"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := env.ToConfigSpecWithOptions(govmomi.ToConfigSpecOptions{Strict: true}); err != nil {
		t.Fatal(err)
	}
	sums, err := library.ReadManifest(open("appliance.mf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"appliance.ovf", env.References[0].Href} {
		h := sha256.New()
		if _, err := io.Copy(h, open(name)); err != nil {
			t.Fatal(err)
		}
		sum := sums[name]
		if got := fmt.Sprintf("%x", h.Sum(nil)); sum == nil || sum.Algorithm != "SHA256" || sum.Checksum != got {
			t.Errorf("%s: %s, manifest says %+v", name, got, sum)
		}
	}
}

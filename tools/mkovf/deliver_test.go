package main

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	govmomi "github.com/vmware/govmomi/ovf"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/internal/judge"
	"github.com/parley-meet/parley/tools/mkovf/internal/vmdk"
)

// repo is the folder of go.mod, from this package's.
const repo = "../.."

// delivered is what a user gets from one run of the real program.
type delivery struct {
	dir string
	res result
}

var delivered = sync.OnceValues(func() (*delivery, error) {
	dir, err := os.MkdirTemp("", "mkovf-test-")
	if err != nil {
		return nil, err
	}
	shared = append(shared, dir)
	d := &delivery{dir: dir}
	return d, d.run(repo, nil, "-format", "raw,qcow2,vhd")
})

// run starts mkovf as its user does, in the checkout at from.
func (d *delivery) run(from string, env []string, args ...string) error {
	return d.start(exec.Command("go", append([]string{"run", "./tools/mkovf", "-o", d.dir, "-json"}, args...)...), from, env)
}

func (d *delivery) start(cmd *exec.Cmd, from string, env []string) error {
	cmd.Dir = from
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	return json.Unmarshal(out, &d.res)
}

// cleaner is the tests with what is shared removed behind them.
type cleaner struct{ m *testing.M }

func (c cleaner) Run() int {
	code := c.m.Run()
	for _, dir := range shared {
		os.RemoveAll(dir)
	}
	return code
}

// shared are folders that several tests use.
var shared []string

func TestMain(m *testing.M) {
	testscript.Main(cleaner{m}, map[string]func(){"mkovf": main})
}

func deliver(t *testing.T) *delivery {
	t.Helper()
	d, err := delivered()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *delivery) path(name string) string { return filepath.Join(d.dir, name) }

var variants = []string{"parley-controller", "parley-router"}

func TestFiles(t *testing.T) {
	d := deliver(t)
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := []string{"SOURCES.txt", "THIRD-PARTY-LICENSES.txt", "parley.cdx.json", "parley.qcow2", "parley.raw", "parley.vhd"}
	for _, v := range variants {
		want = append(want, v+".mf", v+".ova", v+".ovf", v+".vmdk")
	}
	sort.Strings(want)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the output folder holds %v, want %v", got, want)
	}
	for _, f := range d.res.Files {
		st, err := os.Stat(d.path(f.Name))
		if err != nil || st.Size() != f.Size {
			t.Errorf("%s: %v, the result says %d bytes", f.Name, err, f.Size)
		}
		if data, err := os.Open(d.path(f.Name)); err == nil {
			h, err := hashFile(data, f.Size)
			if err != nil || hex.EncodeToString(h[:]) != f.SHA256 {
				t.Errorf("%s: SHA-256 %x, the result says %s (%v)", f.Name, h, f.SHA256, err)
			}
			data.Close()
		}
	}
}

// maxOVA is what a download may weigh.
const maxOVA = 35e6

func TestArchive(t *testing.T) {
	d := deliver(t)
	judge.Need(t, "7zz")
	judge.Need(t, "virt-v2v")
	t.Setenv("LIBGUESTFS_BACKEND", "direct")
	for _, v := range variants {
		ova := d.path(v + ".ova")
		st, err := os.Stat(ova)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f MB", v, float64(st.Size())/1e6)
		if st.Size() > maxOVA {
			t.Errorf("%s.ova: %d bytes, want at most %.0f", v, st.Size(), maxOVA)
		}
		judge.Run(t, "7zz", "t", ova)
		// Reading the source, virt-v2v compares every file with the manifest.
		out := judge.Run(t, "virt-v2v", "-i", "ova", "--print-source", ova)
		for _, want := range []string{"memory: 2147483648 (bytes)", "nr vCPUs: 2", "0 [sata]", "CD-ROM [ide]", "[e1000]"} {
			if !strings.Contains(out, want) {
				t.Errorf("virt-v2v lacks %q:\n%s", want, out)
			}
		}
	}
}

// TestDisk compares every form of the disk with the raw one, by qemu-img.
func TestDisk(t *testing.T) {
	d := deliver(t)
	judge.Need(t, "qemu-img")
	judge.Need(t, "vmdkinfo")
	judge.Need(t, "mmls")
	raw := d.path("parley.raw")
	for _, v := range variants {
		name := d.path(v + ".vmdk")
		judge.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "vmdk", raw, name)
		judge.Run(t, "vmdkinfo", name)
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		// The strict reader ends at the end-of-stream marker and refuses a
		// byte behind it.
		if _, err := vmdk.Open(f, st.Size()); err != nil {
			t.Error(err)
		}
		offset := ovaOffset(t, d.path(v+".ova"), v+".vmdk")
		spec := fmt.Sprintf(`json:{"driver":"vmdk","file":{"driver":"raw","offset":%d,"size":%d,"file":{"driver":"file","filename":%q}}}`, offset, st.Size(), d.path(v+".ova"))
		judge.Run(t, "qemu-img", "compare", raw, spec)
	}
	judge.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, d.path("parley.qcow2"))
	judge.Run(t, "qemu-img", "check", d.path("parley.qcow2"))
	judge.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "vpc", raw, d.path("parley.vhd"))
	judge.Run(t, "mmls", raw)
}

func ovaOffset(t *testing.T, path, member string) int64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("%s in %s: %v", member, path, err)
		}
		if h.Name == member {
			off, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				t.Fatal(err)
			}
			return off
		}
	}
}

func TestDescriptor(t *testing.T) {
	d := deliver(t)
	judge.Need(t, "xmllint")
	for _, v := range variants {
		name := d.path(v + ".ovf")
		judge.Run(t, "xmllint", "--noout", "--nonet", "--schema", "internal/ovf/testdata/xsd/ovf-envelope.xsd", name)
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		env, err := govmomi.Unmarshal(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := env.ToConfigSpecWithOptions(govmomi.ToConfigSpecOptions{Strict: true}); err != nil {
			t.Errorf("%s: govmomi: %v", v, err)
		}
	}
}

// partition cuts a partition out of the delivered disk.
func partition(t *testing.T, d *delivery, number int) string {
	t.Helper()
	raw, err := os.Open(d.path("parley.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	parts, err := layout.Partitions(d.res.Disk)
	if err != nil {
		t.Fatal(err)
	}
	p := parts[number-1]
	out, err := os.Create(filepath.Join(t.TempDir(), p.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(raw, p.Start.Bytes(), p.Bytes())); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

func TestFileSystems(t *testing.T) {
	d := deliver(t)
	for _, tool := range []string{"sgdisk", "fsck.fat", "e2fsck", "unsquashfs"} {
		judge.Need(t, tool)
	}
	if out := judge.Run(t, "sgdisk", "-v", d.path("parley.raw")); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk:\n%s", out)
	}
	judge.Run(t, "fsck.fat", "-n", partition(t, d, layout.ESP))
	judge.Run(t, "e2fsck", "-fn", partition(t, d, layout.Perm))
}

// rootReasons says why each file of the root is there. Whatever is not in this
// list must not be in the root.
var rootReasons = map[string]string{
	"dev": "mount point", "proc": "mount point", "sys": "mount point", "run": "mount point", "tmp": "mount point", "perm": "mount point",
	"etc": "folder", "etc/parley": "folder", "services": "folder",
	"etc/hostname":           "gokrazy sets the host name from it",
	"etc/hosts":              "Go's resolver",
	"etc/resolv.conf":        "Go's resolver: a link into RAM",
	"etc/parley/config.json": "what PID 1 runs",
	"etc/parley/version":     "the version",
	"etc/parley/console.psf": "font with Cyrillic letters",
	"init":                   "PID 1, which also gives up privileges before a service starts",
	"services/appliance":     "the services' programs: network, consoles, zctrl, mmr",
}

// TestRoot lists every file of the root with a foreign reader: there is no
// shell, no busybox and no C program.
func TestRoot(t *testing.T) {
	d := deliver(t)
	judge.Need(t, "unsquashfs")
	dir := filepath.Join(t.TempDir(), "root")
	judge.Run(t, "unsquashfs", "-no-progress", "-d", dir, partition(t, d, layout.RootA))
	seen := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		seen[name] = true
		if rootReasons[name] == "" {
			t.Errorf("%s: nobody says why it is in the root", name)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			bi, err := buildinfo.ReadFile(path)
			if err != nil {
				t.Errorf("%s is executable and no Go program: %v", name, err)
				return nil
			}
			for _, s := range bi.Settings {
				if s.Key == "CGO_ENABLED" && s.Value != "0" {
					t.Errorf("%s is built with cgo", name)
				}
				if strings.HasPrefix(s.Key, "vcs") {
					t.Errorf("%s knows its commit (%s): a new commit would change it", name, s.Key)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range rootReasons {
		if !seen[name] {
			t.Errorf("%s is not in the root", name)
		}
	}
}

func TestBill(t *testing.T) {
	d := deliver(t)
	data, err := os.ReadFile(d.path(billName))
	if err != nil {
		t.Fatal(err)
	}
	bill := judge.CycloneDX(t, data)
	names := map[string]bool{}
	for _, c := range *bill.Components {
		names[c.Name] = true
		if c.Licenses == nil || len(*c.Licenses) == 0 {
			t.Errorf("%s has no licence", c.Name)
		}
	}
	// The bill says which files it is the bill of.
	told := map[string]string{}
	for _, r := range *bill.Metadata.Component.ExternalReferences {
		told[r.URL] = (*r.Hashes)[0].Value
	}
	for _, f := range d.res.Files {
		if ext := filepath.Ext(f.Name); (ext == ".ova" || ext == ".vmdk") && told[f.Name] != f.SHA256 {
			t.Errorf("%s has the SHA-256 %s, the bill says %q", f.Name, f.SHA256, told[f.Name])
		}
	}
	for _, want := range []string{"linux", "mbr-boot-loader", "systemd-boot", "gnu-efi", "uni2-fixed16.psf", "std", "/init", "/services/appliance", "github.com/gokrazy/gokrazy", "github.com/insomniacslk/dhcp", "github.com/vishvananda/netlink"} {
		if !names[want] {
			t.Errorf("the bill of materials lacks %s: %v", want, names)
		}
	}
	licences, err := os.ReadFile(d.path(licencesName))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nlinux ", "\nmbr-boot-loader ", "\nsystemd-boot ", "\ngnu-efi ", "\nGo go1", "Hewlett-Packard"} {
		if !bytes.Contains(licences, []byte(want)) {
			t.Errorf("%s lacks %q", licencesName, want)
		}
	}
}

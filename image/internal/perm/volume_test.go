package perm

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/disk/ext4"
	"github.com/parley-meet/parley/image/internal/stage"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, nil)) }

const mib = 1 << 20

// loop makes a block device of a file with our own file system in it.
func loop(t *testing.T, size int64) (v *Partition, image *os.File) {
	t.Helper()
	stage.Need(t)
	dir := t.TempDir()
	image, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Close() })
	if err := image.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := ext4.Format(image, ext4.Params{Size: size, UUID: [16]byte{1}, Label: "perm", Time: time.Unix(1_780_000_000, 0)}); err != nil {
		t.Fatal(err)
	}
	device := attach(t, image)
	target := filepath.Join(dir, "perm")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	v = &Partition{Device: device, Target: target}
	t.Cleanup(func() {
		if err := v.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return v, image
}

func attach(t *testing.T, image *os.File) string {
	t.Helper()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	// Another process may take the number in between.
	for range 100 {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		path := "/dev/loop" + strconv.Itoa(n)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_FD, int(image.Fd()))
		if errors.Is(err, unix.EBUSY) {
			f.Close()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
				t.Error(err)
			}
			f.Close()
		})
		return path
	}
	t.Fatal("no free loop device")
	return ""
}

// e2fsck judges an unmounted image.
func e2fsck(t *testing.T, image *os.File) {
	t.Helper()
	tool, err := exec.LookPath("e2fsck")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if out, err := exec.CommandContext(t.Context(), tool, "-fn", image.Name()).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

func quiet(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func TestPartition(t *testing.T) {
	v, image := loop(t, 64*mib)
	p := New(v, quiet(t))
	p.Up()
	want(t, p, control.PermReadWrite)
	if st := p.Status(); st.Size < 50*mib || st.Free > st.Size || st.Free < st.Size/2 {
		t.Errorf("%+v", st)
	}
	file := filepath.Join(v.Target, "file")
	if err := os.WriteFile(file, []byte("#!/bin/true\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(file).Run(); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a program on /perm: %v", err)
	}
	// In use: not unmounted, and nothing is lost.
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Unmount(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmounted although it is in use: %v", err)
	}
	if err := v.Format(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a mounted file system was formatted: %v", err)
	}
	if err := p.Down(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("%v, want that it could not be unmounted", err)
	}
	if err := os.WriteFile(file, nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("written after Down: %v", err)
	}
	f.Close()
	if err := p.Down(); err != nil {
		t.Error(err)
	}
	e2fsck(t, image)
}

// What ext4 does when it finds itself damaged is seen, and repaired by mounting
// again or by a format.
func TestKernelFindsDamage(t *testing.T) {
	v, image := loop(t, 64*mib)
	p := New(v, quiet(t))
	p.Up()
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(v.Device), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("test"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.Target, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Fatalf("the kernel goes on writing: %v", err)
	}
	p.Check()
	want(t, p, control.PermReadOnly, "the kernel found the file system damaged")
	if changed, err := p.Repair(control.RepairFormat + Confirmed); !changed || err != nil {
		t.Fatalf("%v, %v", changed, err)
	}
	want(t, p, control.PermReadWrite)
	if err := os.WriteFile(filepath.Join(v.Target, "x"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if err := p.Down(); err != nil {
		t.Error(err)
	}
	e2fsck(t, image)
}

// The rungs below, with damage as it was seen: a journal that cannot be
// replayed, and no superblock.
func TestDamagedPartition(t *testing.T) {
	v, image := loop(t, 64*mib)
	p := New(v, quiet(t))
	p.Up()
	kept := filepath.Join(v.Target, "kept")
	if err := os.WriteFile(kept, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Down(); err != nil {
		t.Fatal(err)
	}
	device, err := os.OpenFile(v.Device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	// Its superblock starts with the magic number of JBD2.
	all, err := os.ReadFile(image.Name())
	if err != nil {
		t.Fatal(err)
	}
	journal := bytes.Index(all, []byte{0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 4})
	if journal < 0 {
		t.Fatal("no journal found")
	}
	overwrite := func(at int64, n int) {
		if _, err := device.WriteAt(bytes.Repeat([]byte{0xa5}, n), at); err != nil {
			t.Fatal(err)
		}
		if err := device.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	overwrite(int64(journal), 4096)
	p.Up()
	want(t, p, control.PermReadOnly, "nothing is kept")
	if b, err := os.ReadFile(kept); string(b) != "kept" {
		t.Errorf("salvaged %q, %v", b, err)
	}
	if err := os.WriteFile(kept, nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("salvage is writable: %v", err)
	}
	changed, err := p.Repair(control.RepairRetry)
	if code(t, err, control.CodeFailed); !changed {
		t.Error("not mounted anew")
	}
	if err := p.Down(); err != nil {
		t.Fatal(err)
	}
	overwrite(0, 4096)
	p.Up()
	want(t, p, control.PermMissing, "RAM disk")
	if err := os.WriteFile(kept, []byte("for now"), 0o600); err != nil {
		t.Errorf("the stand-in takes no files: %v", err)
	}
	if changed, err := p.Repair(control.RepairFormat); !changed || err != nil {
		t.Fatalf("%v, %v", changed, err)
	}
	want(t, p, control.PermReadWrite)
	if _, err := os.Stat(kept); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stand-in's file is on the new file system: %v", err)
	}
	if err := p.Down(); err != nil {
		t.Fatal(err)
	}
	e2fsck(t, image)
}

func TestNoDevice(t *testing.T) {
	stage.Need(t)
	v := &Partition{Target: t.TempDir()}
	p := New(v, quiet(t))
	p.Up()
	want(t, p, control.PermMissing, ErrNoDisk.Error())
	_, err := p.Repair(control.RepairFormat)
	code(t, err, control.CodeFailed, ErrNoDisk.Error())
	want(t, p, control.PermMissing, "RAM disk")
	if err := p.Down(); err != nil {
		t.Error(err)
	}
	v.Target = "/nowhere"
	p.Up()
	want(t, p, control.PermMissing, "not even that (mount tmpfs: no such file")
	if err := p.Down(); err != nil {
		t.Errorf("what was never mounted: %v", err)
	}
}

// resource reports whether the tests have CAP_SYS_RESOURCE, which ext4 wants for
// growing and some hosts keep for themselves.
func resource(t *testing.T) bool {
	t.Helper()
	has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return has == 1
}

// Without the capability growing is refused, and what is held is that the file
// system works as before; the virtual machine's tests see it grow.
func TestPartitionGrows(t *testing.T) {
	v, image := loop(t, 64*mib)
	may := resource(t)
	p := New(v, quiet(t))
	p.Up()
	before := p.Status().Size
	p.Grow()
	if st := p.Status(); st.Size != before {
		t.Errorf("grown from %d to %d although the partition is as it was", before, st.Size)
	}
	for _, size := range []int64{65 * mib, 500 * mib, 2100*mib + 4096} {
		if err := image.Truncate(size); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(v.Device)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_CAPACITY, 0)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		p.Grow()
		p.Grow() // nothing is left to do
		if size < 64*mib+growStep*ext4.BlockSize || !may {
			if st := p.Status(); st.Size != before {
				t.Errorf("%d MiB: grown, it must not be", size/mib)
			}
			continue
		}
		if st := p.Status(); st.Size < size*9/10 || st.Size > size {
			t.Errorf("%d MiB: the file system has %d bytes", size/mib, st.Size)
		}
	}
	if err := os.WriteFile(filepath.Join(v.Target, "x"), make([]byte, mib), 0o600); err != nil {
		t.Error(err)
	}
	if err := p.Down(); err != nil {
		t.Fatal(err)
	}
	e2fsck(t, image)
}

func TestStopped(t *testing.T) {
	const line = "42 27 7:0 / /perm rw,relatime - ext4 /dev/sda5 rw,errors=remount-ro"
	for info, want := range map[string]bool{
		"": false, line + "\n": false, line + ",emergency_ro\n": true, line + ",shutdown": true,
		strings.Replace(line, "- ext4 /dev/sda5 rw", "- ext4 /dev/sda5 ro", 1):                 true,
		strings.Replace(line, "/perm", "/perm2", 1) + ",emergency_ro\n":                        false,
		line + ",emergency_ro\n" + strings.Replace(line, "ext4", "tmpfs", 1) + "\n":            false, // mounted over it
		strings.Replace(line, "relatime", "relatime shared:1 master:2", 1) + ",emergency_ro\n": true,
		"\n - \n42 27\n - ext4 x emergency_ro":                                                 false,
	} {
		if got := stopped(info, "/perm"); got != want {
			t.Errorf("%q: %v, want %v", info, got, want)
		}
	}
}

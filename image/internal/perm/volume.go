package perm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/disk/ext4"
)

// mountFlags of every mode: nothing on /perm is a program or a device.
const mountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME

// standInSize bounds the RAM disk.
const standInSize = "size=32m,mode=0755"

// Partition is the Volume of a real machine.
type Partition struct {
	Device string // "" when the disk was not found
	Target string // mount point

	mounted bool
}

// Mount implements Volume.
func (v *Partition) Mount(m Mode) error {
	var err error
	what := v.Device
	switch {
	case m == StandIn:
		what = "tmpfs"
		err = unix.Mount("tmpfs", v.Target, "tmpfs", mountFlags, standInSize)
	case v.Device == "":
		return ErrNoDisk
	case m == Salvage:
		err = unix.Mount(v.Device, v.Target, "ext4", mountFlags|unix.MS_RDONLY, "noload")
	default:
		err = unix.Mount(v.Device, v.Target, "ext4", mountFlags, "errors=remount-ro")
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", what, err)
	}
	v.mounted = true
	return nil
}

// Unmount implements Volume. It tries for a second.
func (v *Partition) Unmount() error {
	if !v.mounted {
		return nil
	}
	var err error
	for range 20 {
		if err = unix.Unmount(v.Target, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", v.Target, err)
	}
	v.mounted = false
	return nil
}

// MakeReadOnly implements Volume.
func (v *Partition) MakeReadOnly() error {
	if err := unix.Mount("", v.Target, "", unix.MS_REMOUNT|unix.MS_RDONLY|mountFlags, ""); err != nil {
		return fmt.Errorf("remount %s read-only: %w", v.Target, err)
	}
	return nil
}

// Format implements Volume. The UUID is random: this file system is no part of
// the image.
func (v *Partition) Format() error {
	if v.Device == "" {
		return ErrNoDisk
	}
	f, err := os.OpenFile(v.Device, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	p := ext4.Params{Size: size, Label: "perm", Time: time.Now()}
	rand.Read(p.UUID[:])
	p.UUID[6] = p.UUID[6]&0x0f | 0x40 // RFC 9562: version 4, variant 10
	p.UUID[8] = p.UUID[8]&0x3f | 0x80
	if err := ext4.Format(f, p); err != nil {
		return err
	}
	return f.Sync()
}

// Usage implements Volume.
func (v *Partition) Usage() (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(v.Target, &st); err != nil {
		return Usage{}, fmt.Errorf("statfs %s: %w", v.Target, err)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Usage{}, err
	}
	return Usage{
		Size:     int64(st.Blocks) * st.Bsize,
		Free:     int64(st.Bavail) * st.Bsize,
		ReadOnly: st.Flags&unix.ST_RDONLY != 0 || stopped(string(info), v.Target),
	}, nil
}

// stopped reports whether the file system that is mounted on target takes no
// writes any more although it counts as mounted read-write: since Linux 6.15
// that is what ext4 does when it finds itself damaged, and statfs does not say
// so. info is /proc/PID/mountinfo, of which the last line about target counts.
func stopped(info, target string) (yes bool) {
	for line := range strings.Lines(info) {
		mount, super, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(mount), strings.Fields(super)
		if !ok || len(f) < 5 || len(g) < 3 || f[4] != target {
			continue
		}
		yes = false
		for o := range strings.SplitSeq(g[2], ",") {
			yes = yes || o == "ro" || o == "emergency_ro" || o == "shutdown"
		}
	}
	return yes
}

// ext4ResizeFS is EXT4_IOC_RESIZE_FS of linux/ext4.h, _IOW('f', 16, __u64).
const ext4ResizeFS = 0x40086610

// Grow implements Volume: the kernel grows a mounted file system.
func (v *Partition) Grow() (bool, error) {
	dev, err := os.Open(v.Device)
	if err != nil {
		return false, err
	}
	defer dev.Close()
	size, err := dev.Seek(0, 2)
	if err != nil {
		return false, err
	}
	before, err := blocks(dev)
	if err != nil {
		return false, err
	}
	want := uint64(size / ext4.BlockSize)
	// A last block group of less than a few hundred blocks is not made: ext4 has
	// no room for its bitmaps and table in it.
	if want < before+growStep {
		return false, nil
	}
	top, err := os.Open(v.Target)
	if err != nil {
		return false, err
	}
	defer top.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, top.Fd(), ext4ResizeFS, uintptr(unsafe.Pointer(&want))); errno != 0 {
		return false, fmt.Errorf("grow %s to %d blocks: %w", v.Target, want, errno)
	}
	return true, nil
}

// growStep is the smallest growth in blocks that is worth a call: 16 MiB.
const growStep = 16 << 20 / ext4.BlockSize

// blocks reads the length of the file system from its superblock
// (s_blocks_count_lo and _hi of the kernel's Documentation/filesystems/ext4).
func blocks(dev *os.File) (uint64, error) {
	b := make([]byte, 1024)
	if _, err := dev.ReadAt(b, 1024); err != nil {
		return 0, fmt.Errorf("superblock of %s: %w", dev.Name(), err)
	}
	u32 := func(at int) uint64 {
		return uint64(b[at]) | uint64(b[at+1])<<8 | uint64(b[at+2])<<16 | uint64(b[at+3])<<24
	}
	return u32(4) | u32(0x150)<<32, nil
}

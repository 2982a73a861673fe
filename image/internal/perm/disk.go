package perm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/internal/gpt"
	"github.com/parley-meet/parley/image/layout"
)

// Disk is the whole disk, past the page cache: the kernel keeps a cache of its
// own for each partition and for the disk, and they do not know of each other.
type Disk struct {
	file    *os.File
	sectors int64
}

// OpenDisk opens a block device, or a file that stands in for one in tests.
func OpenDisk(path string) (*Disk, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	d := &Disk{file: os.NewFile(uintptr(fd), path)}
	size, err := d.file.Seek(0, 2)
	if err != nil {
		d.Close()
		return nil, err
	}
	d.sectors = size / layout.SectorSize
	return d, nil
}

// Close closes the disk.
func (d *Disk) Close() error { return d.file.Close() }

// Sectors implements gpt.Disk.
func (d *Disk) Sectors() int64 { return d.sectors }

// aligned returns a buffer of n bytes as O_DIRECT wants it: on a page boundary,
// which is what every device takes.
func aligned(n int) []byte {
	const page = 4096
	b := make([]byte, n+page)
	off := int(-uintptr(unsafe.Pointer(&b[0])) & (page - 1))
	return b[off : off+n : off+n]
}

// ReadSectors implements gpt.Disk.
func (d *Disk) ReadSectors(at layout.LBA, p []byte) error {
	b := aligned(len(p))
	if _, err := d.file.ReadAt(b, at.Bytes()); err != nil {
		return fmt.Errorf("read %d bytes at sector %d: %w", len(p), at, err)
	}
	copy(p, b)
	return nil
}

// WriteSectors implements gpt.Disk: the disk's own cache is flushed too.
func (d *Disk) WriteSectors(at layout.LBA, p []byte) error {
	b := aligned(len(p))
	copy(b, p)
	if _, err := d.file.WriteAt(b, at.Bytes()); err != nil {
		return fmt.Errorf("write %d bytes at sector %d: %w", len(p), at, err)
	}
	if err := d.file.Sync(); err != nil {
		return fmt.Errorf("flush after sector %d: %w", at, err)
	}
	return nil
}

// FindDisk returns the device file of the whole disk that the running root file
// system is on: the disk whose partition 1 has the GUID of layout, and of which
// "/" is a partition. sys and dev are /sys and /dev. Errors wrap ErrNoDisk.
//
// The root's device number decides, so a second disk that was copied from the
// first one and carries the same GUIDs is not taken by mistake.
func FindDisk(sys, dev string, rootMajor, rootMinor uint32) (string, error) {
	link := filepath.Join(sys, "dev/block", fmt.Sprintf("%d:%d", rootMajor, rootMinor))
	part, err := filepath.EvalSymlinks(link)
	if err != nil {
		return "", fmt.Errorf("%w: root's device %d:%d: %w", ErrNoDisk, rootMajor, rootMinor, err)
	}
	// A partition's folder is inside its disk's and has a file "partition".
	if _, err := os.Stat(filepath.Join(part, "partition")); err != nil {
		return "", fmt.Errorf("%w: root's device %s is no partition", ErrNoDisk, filepath.Base(part))
	}
	return filepath.Join(dev, filepath.Base(filepath.Dir(part))), nil
}

// PartitionPath returns the device file of a disk's partition: a disk whose name
// ends in a digit (nvme0n1, mmcblk0) has a p in between.
func PartitionPath(disk string, number int) string {
	if c := disk[len(disk)-1]; c >= '0' && c <= '9' {
		disk += "p"
	}
	return disk + strconv.Itoa(number)
}

// GrowPartition lets partition layout.Perm reach the end of a disk that became
// longer, on the disk and in the kernel. It reports whether anything changed.
func GrowPartition(disk, sys string) (bool, error) {
	d, err := OpenDisk(disk)
	if err != nil {
		return false, err
	}
	defer d.Close()
	p, changed, err := gpt.Grow(d, layout.Perm)
	if err != nil {
		return false, err
	}
	// The kernel read the table before it was changed, perhaps in a boot whose
	// Grow was cut off; so what it believes is compared every time.
	name := filepath.Base(PartitionPath(disk, layout.Perm))
	b, err := os.ReadFile(filepath.Join(sys, "class/block", name, "size"))
	if err != nil {
		return changed, err
	}
	now, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return changed, fmt.Errorf("%s: size %q: %w", name, b, err)
	}
	if now >= p.Sectors {
		return changed, nil
	}
	return true, d.tell(p)
}

// blkpgArg and blkpgPartition are struct blkpg_ioctl_arg and struct
// blkpg_partition of linux/blkpg.h.
type blkpgArg struct {
	op, flags, length int32
	data              unsafe.Pointer
}

type blkpgPartition struct {
	start, length int64 // bytes
	number        int32
	_             [64 + 64]byte // names, unused
}

// tell resizes the partition in the kernel. It works while partitions of the
// disk are mounted.
func (d *Disk) tell(p gpt.Partition) error {
	part := blkpgPartition{start: p.Start.Bytes(), length: p.Bytes(), number: int32(p.Number)}
	arg := blkpgArg{op: unix.BLKPG_RESIZE_PARTITION, length: int32(unsafe.Sizeof(part)), data: unsafe.Pointer(&part)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.file.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("resize partition %d to %d sectors: %w", p.Number, p.Sectors, errno)
	}
	return nil
}

// RootDevice returns the device number of "/".
func RootDevice() (major, minor uint32, err error) {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		return 0, 0, errors.Join(ErrNoDisk, err)
	}
	return unix.Major(st.Dev), unix.Minor(st.Dev), nil
}

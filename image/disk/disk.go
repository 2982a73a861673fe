// Package disk assembles the appliance's disk as package layout says: boot
// code, command lines, partition table, EFI system partition, root A, /perm.
//
// The bytes depend on Spec alone: identifiers come from package layout and
// times from Spec.SourceDate. Slot B is empty: its kernel file is there with
// its full size, and all zero like root B.
//
// Limits: 512-byte sectors; x86-64 by BIOS and by UEFI (systemd-boot); only
// what is not zero is written, so the target has to read as zeros.
package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/parley-meet/parley/image/disk/ext4"
	"github.com/parley-meet/parley/image/disk/fat"
	"github.com/parley-meet/parley/image/disk/gpt"
	"github.com/parley-meet/parley/image/layout"
)

// Volume labels of the two file systems that are made here.
const (
	espLabel  = "PARLEY"
	permLabel = "perm"
)

// Spec describes a disk.
type Spec struct {
	Size       int64     // bytes, as layout.Partitions takes it
	SourceDate time.Time // of every file and file system, from 1980 on
	Version    string    // shown in the boot menu; one line

	// MBRCode is the BIOS boot loader, up to layout.MBRCodeSize bytes; the
	// kernel's and the command line's sector are filled in at
	// layout.MBRKernelLBAOffset and layout.MBRCmdlineLBAOffset. Nil makes a disk
	// that boots by UEFI only.
	MBRCode []byte

	// EFILoader is systemd-boot for x86-64. Nil makes a disk that boots by BIOS
	// only.
	EFILoader []byte

	Kernel *io.SectionReader // up to layout.KernelSize
	Root   *io.SectionReader // squashfs, up to layout.RootSize

	// Cmdline returns a slot's kernel command line: printable ASCII, up to
	// layout.MaxCmdline bytes.
	Cmdline func(layout.Slot) string
}

// Info says where an update finds what it overwrites in place.
type Info struct {
	KernelLBA [2]layout.LBA // by slot: layout.KernelSize bytes each
	EntryLBA  [2]layout.LBA // by slot: the systemd-boot entry, EntrySize bytes each
}

// Write writes the disk to w, which has to read as zeros up to spec.Size.
// progress, when not nil, is called with the bytes of kernel and root that are
// done, and their sum. It stops with ctx's error when ctx ends.
func Write(ctx context.Context, w io.WriterAt, spec Spec, progress func(done, total int64)) (Info, error) {
	parts, err := spec.check()
	if err != nil {
		return Info{}, err
	}
	c := &copier{ctx: ctx, w: w, progress: progress, total: spec.Kernel.Size() + spec.Root.Size()}
	info, err := writeESP(c, spec, parts[layout.ESP-1])
	if err != nil {
		return Info{}, fmt.Errorf("EFI system partition: %w", err)
	}
	if err := writeBoot(w, spec, parts, info); err != nil {
		return Info{}, err
	}
	if err := c.copy(spec.Root, parts[layout.RootA-1].Start.Bytes()); err != nil {
		return Info{}, fmt.Errorf("root %v: %w", layout.SlotA, err)
	}
	perm := parts[layout.Perm-1]
	uuid, err := gpt.ParseUUID(perm.GUID)
	if err != nil {
		return Info{}, err
	}
	err = ext4.Format(io.NewOffsetWriter(w, perm.Start.Bytes()), ext4.Params{
		Size: perm.Bytes(), UUID: uuid, Label: permLabel, Time: spec.SourceDate, Zeroed: true,
	})
	if err != nil {
		return Info{}, fmt.Errorf("/perm: %w", err)
	}
	return info, ctx.Err()
}

// check rejects what does not fit, before the first byte is written.
func (s *Spec) check() ([]layout.Partition, error) {
	parts, err := layout.Partitions(s.Size)
	if err != nil {
		return nil, err
	}
	if len(s.MBRCode) > layout.MBRCodeSize {
		return nil, fmt.Errorf("boot code of %d bytes, at most %d fit", len(s.MBRCode), layout.MBRCodeSize)
	}
	if s.MBRCode == nil && s.EFILoader == nil {
		return nil, errors.New("neither BIOS boot code nor an EFI loader: the disk would not boot")
	}
	if s.EFILoader != nil && len(s.EFILoader) == 0 {
		return nil, errors.New("the EFI loader is empty")
	}
	for _, f := range []struct {
		name    string
		content *io.SectionReader
		room    int64
	}{{"kernel", s.Kernel, layout.KernelSize}, {"root file system", s.Root, layout.RootSize}} {
		if f.content == nil {
			return nil, fmt.Errorf("no %s", f.name)
		}
		if n := f.content.Size(); n < 1 || n > f.room {
			return nil, fmt.Errorf("%s of %d bytes: want 1 to %d", f.name, n, f.room)
		}
	}
	if s.Cmdline == nil {
		return nil, errors.New("no kernel command line")
	}
	for _, slot := range slots {
		if err := checkLine("kernel command line of slot "+slot.String(), s.Cmdline(slot), layout.MaxCmdline); err != nil {
			return nil, err
		}
	}
	if err := checkLine("version", s.Version, maxVersion); err != nil {
		return nil, err
	}
	if y := s.SourceDate.UTC().Year(); y < 1980 || y > 2107 {
		return nil, fmt.Errorf("source date %v: want a year from 1980 to 2107", s.SourceDate)
	}
	return parts, nil
}

var slots = [2]layout.Slot{layout.SlotA, layout.SlotB}

func checkLine(what, line string, most int) error {
	if len(line) == 0 || len(line) > most {
		return fmt.Errorf("%s has %d bytes, want 1 to %d: %q", what, len(line), most, line)
	}
	for i, c := range []byte(line) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("%s: byte %#02x at %d is not printable ASCII: %q", what, c, i, line)
		}
	}
	return nil
}

// writeBoot writes what stands outside of the partitions.
func writeBoot(w io.WriterAt, spec Spec, parts []layout.Partition, info Info) error {
	var code []byte
	if spec.MBRCode != nil {
		code = make([]byte, layout.MBRCodeSize)
		copy(code, spec.MBRCode)
		binary.LittleEndian.PutUint32(code[layout.MBRKernelLBAOffset:], uint32(info.KernelLBA[layout.SlotA]))
		binary.LittleEndian.PutUint32(code[layout.MBRCmdlineLBAOffset:], uint32(layout.SlotA.Cmdline().Start))
	}
	mbr, err := gpt.MBR(spec.Size, code, layout.DiskSignature)
	if err != nil {
		return err
	}
	if _, err := w.WriteAt(mbr, 0); err != nil {
		return fmt.Errorf("MBR: %w", err)
	}
	if err := gpt.Write(w, spec.Size, layout.DiskGUID, parts); err != nil {
		return err
	}
	for _, slot := range slots {
		sector := make([]byte, slot.Cmdline().Bytes())
		copy(sector, spec.Cmdline(slot))
		if _, err := w.WriteAt(sector, slot.Cmdline().Start.Bytes()); err != nil {
			return fmt.Errorf("kernel command line of slot %v: %w", slot, err)
		}
	}
	return nil
}

// writeESP writes the EFI system partition. The small files come first, so that
// they and the metadata are in its first 2 MiB; the loader, which may grow, is
// behind the kernels.
func writeESP(c *copier, spec Spec, part layout.Partition) (Info, error) {
	var files []fat.File
	var contents []*io.SectionReader
	add := func(path string, size, align int64, content *io.SectionReader) {
		files = append(files, fat.File{Path: path, Size: size, Align: align})
		contents = append(contents, content)
	}
	for _, slot := range slots {
		add(EntryPath(slot), EntrySize, EntrySize, section(entry(slot, spec.Version, spec.Cmdline(slot))))
	}
	add(loaderConfPath, EntrySize, EntrySize, section(loaderConf(layout.SlotA)))
	add(layout.SlotA.KernelPath(), layout.KernelSize, layout.Alignment, spec.Kernel)
	add(layout.SlotB.KernelPath(), layout.KernelSize, layout.Alignment, nil)
	if spec.EFILoader != nil {
		add(loaderPath, int64(len(spec.EFILoader)), EntrySize, section(spec.EFILoader))
	}
	offsets, err := fat.Write(io.NewOffsetWriter(c.w, part.Start.Bytes()), fat.Params{
		Size: part.Bytes(), Label: espLabel, Serial: layout.DiskSignature, Hidden: uint32(part.Start), Time: spec.SourceDate,
	}, files)
	if err != nil {
		return Info{}, err
	}
	for i, content := range contents {
		at := part.Start.Bytes() + offsets[i]
		switch {
		case content == nil:
		case content == spec.Kernel:
			err = c.copy(content, at)
		default:
			err = c.place(content, at)
		}
		if err != nil {
			return Info{}, fmt.Errorf("%s: %w", files[i].Path, err)
		}
	}
	var info Info
	for i, f := range files {
		lba := part.Start + layout.LBA(offsets[i]/layout.SectorSize)
		for _, slot := range slots {
			switch f.Path {
			case slot.KernelPath():
				info.KernelLBA[slot] = lba
			case EntryPath(slot):
				info.EntryLBA[slot] = lba
			}
		}
	}
	return info, nil
}

// Package image builds the appliance's disk from config.json: it compiles
// PID 1 and the services, packs them into a squashfs root, and writes root,
// kernel and boot code where package layout says.
//
// It needs the Go toolchain and the modules of go.mod, nothing else: no root
// rights, no mkfs. What it writes depends on config.json and the commit alone:
// not on the folder, the time, the environment or the number of processors.
package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/disk"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/squashfs"
)

// Options say what is built.
type Options struct {
	Config *config.Config
	Go     *Toolchain // of the module; relative paths in config.json start at its folder
	Work   string     // folder for intermediate files, which the caller removes
	// Version is what the appliance calls itself.
	Version Version
	// Progress, if not nil, is called when a stage begins and as it goes on,
	// with done and total in bytes, or both 0 where that is not known.
	Progress func(stage string, done, total int64)
}

// Result describes a disk.
type Result struct {
	Size     int64    // bytes
	Content  [32]byte // identifies the contents
	Used     int64    // bytes that were written
	Root     squashfs.Stats
	Files    []File            // of the root file system
	Binaries map[string]string // paths in the root → files that were compiled
	Parts    Parts
}

// Parts are what came from elsewhere.
type Parts struct {
	Kernel    Part
	MBR, UEFI Part // Data is nil without the firmware
}

// Part is a file of another project.
type Part struct {
	Module, Version string // Go module that carried it, "" for a file of config.json
	Dir             string // the module's folder
	SHA256          [32]byte
	Data            []byte
}

// Disk is what the disk is written to: an empty file.
type Disk interface {
	io.WriterAt
	Truncate(size int64) error
}

// Build writes the disk to w.
func Build(ctx context.Context, w Disk, opt Options) (*Result, error) {
	b := &builder{Options: opt}
	if b.Progress == nil {
		b.Progress = func(string, int64, int64) {}
	}
	return b.build(ctx, w)
}

type builder struct {
	Options
}

func (b *builder) build(ctx context.Context, w Disk) (*Result, error) {
	res := &Result{Size: int64(b.Config.Hardware.DiskMiB) * layout.MiB}
	var err error
	if res.Parts, err = b.parts(ctx); err != nil {
		return nil, err
	}
	if res.Binaries, err = b.compile(ctx); err != nil {
		return nil, err
	}
	if res.Files, err = b.files(res.Binaries); err != nil {
		return nil, err
	}
	root, err := os.Create(filepath.Join(b.Work, "root.squashfs"))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	entries := make([]squashfs.Entry, len(res.Files))
	for i, f := range res.Files {
		entries[i] = f.Entry
	}
	res.Root, err = squashfs.Write(ctx, root, entries, squashfs.Options{
		ModTime:  b.Version.Time,
		MaxSize:  layout.RootSize,
		Progress: func(done, total int64) { b.Progress("root", done, total) },
	})
	if err != nil {
		return nil, fmt.Errorf("root file system: %w", err)
	}
	if err := w.Truncate(res.Size); err != nil {
		return nil, err
	}
	hw := &hashingWriter{w: w}
	spec := disk.Spec{
		Size:       res.Size,
		SourceDate: b.Version.Time,
		MBRCode:    res.Parts.MBR.Data,
		Kernel:     io.NewSectionReader(bytes.NewReader(res.Parts.Kernel.Data), 0, int64(len(res.Parts.Kernel.Data))),
		Cmdline:    func(s layout.Slot) string { return Cmdline(b.Config, s) },
		EFILoader:  res.Parts.UEFI.Data,
		Root:       io.NewSectionReader(root, 0, res.Root.Size),
		Version:    b.Version.String,
	}
	if _, err := disk.Write(ctx, hw, spec, func(done, total int64) { b.Progress("disk", done, total) }); err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	res.Content, res.Used = hw.sum(), hw.n
	return res, nil
}

// Cmdline is the kernel command line of a slot.
func Cmdline(c *config.Config, s layout.Slot) string {
	args := []string{
		"root=" + s.RootParameter(), "rootfstype=squashfs", "ro",
		// The kernel's default is to give up when the disk is late; a fixed
		// rootdelay would cost its time on every boot.
		"rootwait",
		"init=" + layout.InitPath,
		"panic=10", "oops=panic",
		// The last console is /dev/console: kernel panics and PID 1's words
		// reach both, recovery happens on the serial line.
		"console=tty1", fmt.Sprintf("console=%s,%d", c.Serial.Device, c.Serial.Baud),
		"parley.slot=" + s.String(),
	}
	return strings.Join(append(args, c.Kernel.Arguments...), " ")
}

// parts reads and checks the kernel and the boot loaders.
func (b *builder) parts(ctx context.Context) (Parts, error) {
	b.Progress("parts", 0, 0)
	var p Parts
	dir, mod, err := b.packageDir(ctx, b.Config.Kernel.Package)
	if err != nil {
		return p, fmt.Errorf("kernel.package: %w", err)
	}
	p.Kernel = Part{Module: mod.Path, Version: mod.Version, Dir: dir}
	if p.Kernel.Data, err = os.ReadFile(filepath.Join(dir, "vmlinuz")); err != nil {
		return p, fmt.Errorf("kernel.package %s: %w (the package's folder has to hold a vmlinuz)", b.Config.Kernel.Package, err)
	}
	p.Kernel.SHA256 = sha256.Sum256(p.Kernel.Data)
	if b.Config.HasFirmware(config.BIOS) {
		m := b.Config.Boot.MBR
		mod, err := b.module(ctx, m.Module)
		if err != nil {
			return p, fmt.Errorf("boot.mbr.module: %w", err)
		}
		p.MBR = Part{Module: mod.Path, Version: mod.Version, Dir: mod.Dir}
		if err := p.MBR.read(filepath.Join(mod.Dir, filepath.FromSlash(m.File)), m.SHA256); err != nil {
			return p, fmt.Errorf("boot.mbr: %w", err)
		}
		// The file is a whole sector; the partition table behind the code is
		// the disk's own.
		p.MBR.Data = p.MBR.Data[:min(len(p.MBR.Data), layout.MBRCodeSize)]
	}
	if b.Config.HasFirmware(config.UEFI) {
		u := b.Config.Boot.UEFI
		path := filepath.FromSlash(u.Path)
		if !filepath.IsAbs(path) {
			path = filepath.Join(b.Go.Dir, path)
		}
		if err := p.UEFI.read(path, u.SHA256); err != nil {
			return p, fmt.Errorf("boot.uefi: %w (or build for BIOS alone with -bios-only)", err)
		}
	}
	return p, nil
}

func (p *Part) read(path, want string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	p.Data, p.SHA256 = data, sha256.Sum256(data)
	if got := hex.EncodeToString(p.SHA256[:]); got != want {
		return fmt.Errorf("%s has SHA-256 %s, config.json wants %s", path, got, want)
	}
	return nil
}

// hashingWriter hashes what is written and where. The order is the disk
// writer's, which is the same every time.
type hashingWriter struct {
	w io.WriterAt
	h [32]byte
	n int64
}

func (h *hashingWriter) WriteAt(p []byte, off int64) (int, error) {
	s := sha256.New()
	s.Write(h.h[:])
	s.Write(binary.BigEndian.AppendUint64(nil, uint64(off)))
	s.Write(p)
	s.Sum(h.h[:0])
	h.n += int64(len(p))
	return h.w.WriteAt(p, off)
}

func (h *hashingWriter) sum() [32]byte { return h.h }

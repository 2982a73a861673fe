package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/parley-meet/parley/image"
	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/tools/mkovf/internal/diskformat"
	"github.com/parley-meet/parley/tools/mkovf/internal/ova"
	"github.com/parley-meet/parley/tools/mkovf/internal/ovf"
	"github.com/parley-meet/parley/tools/mkovf/internal/vmdk"
)

// diskName is the stem of files that are not of one variant.
const diskName = "parley"

// vmdkLevel compresses the disk for delivery. Against the package's default it is
// 2 % smaller, half of it in the kernel, for a tenth of a second; 9 would take ten
// times as long for another 0.3 %.
const vmdkLevel = 7

type packer struct {
	options
	cfg       *config.Config
	toolchain *image.Toolchain
	work      string
	version   image.Version
	files     []resultFile
}

func (p *packer) run(ctx context.Context, formats []diskformat.Format) (*result, error) {
	scratch, err := os.MkdirTemp(p.work, "build-")
	if err != nil {
		return nil, err
	}
	raw, err := os.Create(filepath.Join(scratch, "disk.raw"))
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	img, err := image.Build(ctx, raw, image.Options{
		Config: p.cfg, Go: p.toolchain, Work: scratch, Version: p.version, Progress: p.progress.update,
	})
	if err != nil {
		return nil, err
	}
	first := ""
	for _, v := range p.cfg.Variants {
		if err := p.variant(ctx, v, img, raw, first); err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name, err)
		}
		if first == "" {
			first = v.Name + ".vmdk"
		}
	}
	for _, f := range formats {
		p.progress.update("formats", 0, 0)
		if err := p.format(ctx, f, img, raw); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
	}
	p.progress.update("legal", 0, 0)
	if err := p.legal(ctx, img); err != nil {
		return nil, err
	}
	return &result{Version: p.version.String, Disk: img.Size, Files: p.files}, nil
}

// variant writes one appliance. Its VMDK is compressed for the first variant
// and copied under another name for the others: the disk is the same.
func (p *packer) variant(ctx context.Context, v config.Variant, img *image.Result, raw *os.File, first string) error {
	vmdkName := v.Name + ".vmdk"
	out, err := p.create(vmdkName)
	if err != nil {
		return err
	}
	defer out.Close()
	var res vmdk.Result
	if first == "" {
		res, err = vmdk.Write(ctx, out.File, raw, img.Size, vmdk.Options{
			ExtentName: vmdkName, ContentHash: img.Content, Level: vmdkLevel,
			Progress: func(done, total int64) { p.progress.update("vmdk", done, total) },
		})
	} else {
		var src *os.File
		if src, err = os.Open(filepath.Join(p.work, first)); err != nil {
			return err
		}
		defer src.Close()
		st, serr := src.Stat()
		if serr != nil {
			return serr
		}
		res, err = vmdk.Rename(ctx, out.File, src, st.Size(), vmdkName)
	}
	if err != nil {
		return err
	}
	if err := p.finish(vmdkName, out.File, res.Size, res.SHA256); err != nil {
		return err
	}

	p.progress.update("pack", 0, 0)
	var desc bytes.Buffer
	if err := ovf.Write(&desc, p.spec(v, img, vmdkName, res.Size)); err != nil {
		return err
	}
	ovfName, mfName, ovaName := v.Name+".ovf", v.Name+".mf", v.Name+".ova"
	if err := p.write(ovfName, desc.Bytes()); err != nil {
		return err
	}
	mf, err := ovf.Manifest([]ovf.Digest{
		{Name: ovfName, SHA256: sum(desc.Bytes())},
		{Name: vmdkName, SHA256: res.SHA256},
	})
	if err != nil {
		return err
	}
	if err := p.write(mfName, mf); err != nil {
		return err
	}
	archive, err := p.create(ovaName)
	if err != nil {
		return err
	}
	defer archive.Close()
	packed, err := ova.Write(ctx, archive.File, []ova.Member{
		{Name: ovfName, Size: int64(desc.Len()), R: bytes.NewReader(desc.Bytes())},
		{Name: mfName, Size: int64(len(mf)), R: bytes.NewReader(mf)},
		{Name: vmdkName, Size: res.Size, R: out.File},
	})
	if err != nil {
		return err
	}
	return p.finish(ovaName, archive.File, packed.Size, packed.SHA256)
}

var consoleIs = ovf.Text{
	EN: "The console is https://ADDRESS:5480; user name and password are shown on the machine's screen and on its serial line.",
	RU: "Консоль: https://АДРЕС:5480; имя и пароль показаны на экране и на последовательной линии машины.",
}

func (p *packer) spec(v config.Variant, img *image.Result, vmdkName string, size int64) ovf.Spec {
	cpus, memory := v.CPUs, v.MemoryMiB
	if cpus == 0 {
		cpus = p.cfg.Hardware.CPUs
	}
	if memory == 0 {
		memory = p.cfg.Hardware.MemoryMiB
	}
	// With both, BIOS: it is what VirtualBox takes whatever stands here.
	firmware := ovf.BIOS
	if !p.cfg.HasFirmware(config.BIOS) {
		firmware = ovf.EFI
	}
	what := ovf.Text{EN: "On-premise meeting connector. ", RU: "Локальный коннектор конференций. "}
	if v.Role == config.RolePortal {
		what = ovf.Text{EN: "Portal of the meeting connector. ", RU: "Портал коннектора конференций. "}
	}
	return ovf.Spec{
		ID: v.Name, Name: v.Title, Product: v.Title, Vendor: "Parley",
		Version: p.version.String, FullVersion: p.version.String,
		Annotation: ovf.Text{EN: what.EN + consoleIs.EN, RU: what.RU + consoleIs.RU},
		CPUs:       cpus, MemoryMiB: int64(memory),
		Disk:       ovf.Disk{File: vmdkName, Size: size, CapacityMiB: img.Size / layout.MiB, Populated: img.Used},
		Firmware:   firmware,
		Serial:     true,
		Properties: ovf.Properties(ovf.Role(v.Role)),
	}
}

func (p *packer) format(ctx context.Context, f diskformat.Format, img *image.Result, raw *os.File) error {
	name := diskName + "." + string(f)
	out, err := p.create(name)
	if err != nil {
		return err
	}
	defer out.Close()
	size, err := diskformat.Write(ctx, f, out.File, raw, img.Size, img.Content)
	if err != nil {
		return err
	}
	h, err := hashFile(out.File, size)
	if err != nil {
		return err
	}
	return p.finish(name, out.File, size, h)
}

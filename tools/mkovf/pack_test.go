package main

import (
	"os"
	"testing"

	"github.com/parley-meet/parley/image"
	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/tools/mkovf/internal/ovf"
)

// TestSpec: a variant's machine is config.json's, and its firmware one that the
// disk boots by.
func TestSpec(t *testing.T) {
	cfg := &config.Config{Hardware: config.Hardware{CPUs: 3, MemoryMiB: 1024}}
	p := &packer{options: options{progress: newProgress(os.Stderr)}, cfg: cfg, version: image.Unversioned}
	img := &image.Result{Size: 2 * layout.GiB, Used: 5}
	for _, c := range []struct {
		firmware []string
		variant  config.Variant
		want     ovf.Firmware
		cpus     int
		memory   int64
	}{
		{[]string{config.BIOS, config.UEFI}, config.Variant{}, ovf.BIOS, 3, 1024},
		{[]string{config.UEFI}, config.Variant{CPUs: 8}, ovf.EFI, 8, 1024},
		{[]string{config.BIOS}, config.Variant{MemoryMiB: 512}, ovf.BIOS, 3, 512},
	} {
		cfg.Boot.Firmware = c.firmware
		s := p.spec(c.variant, img, "x.vmdk", 7)
		if s.Firmware != c.want || s.CPUs != c.cpus || s.MemoryMiB != c.memory || s.Disk != (ovf.Disk{File: "x.vmdk", Size: 7, CapacityMiB: 2048, Populated: 5}) {
			t.Errorf("%v, %+v: %+v", c.firmware, c.variant, s)
		}
	}
}

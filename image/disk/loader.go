package disk

import (
	"bytes"
	"fmt"

	"github.com/parley-meet/parley/image/layout"
)

// EntrySize is the fixed length in bytes of the loader's configuration files.
// An update overwrites them in place; the end of a file is empty lines.
const EntrySize = 4 << 10

// maxVersion bounds the version in the menu so that an entry always fits.
const maxVersion = 100

// Files of systemd-boot in the EFI system partition (Boot Loader Specification
// and loader.conf(5)).
const (
	loaderPath     = "EFI/BOOT/BOOTX64.EFI"
	loaderConfPath = "loader/loader.conf"
)

func entryName(slot layout.Slot) string { return "slot-" + slot.String() + ".conf" }

// EntryPath returns the file with a slot's entry in the EFI system partition.
func EntryPath(slot layout.Slot) string { return "loader/entries/" + entryName(slot) }

// Entry returns the EntrySize bytes of a slot's entry. The version and the
// command line are held to the bounds of Spec.
func Entry(slot layout.Slot, version, cmdline string) ([]byte, error) {
	if err := checkLine("version", version, maxVersion); err != nil {
		return nil, err
	}
	if err := checkLine("kernel command line", cmdline, layout.MaxCmdline); err != nil {
		return nil, err
	}
	return entry(slot, version, cmdline), nil
}

func entry(slot layout.Slot, version, cmdline string) []byte {
	return filled(fmt.Sprintf("title Parley %s (slot %v)\nversion %s\nlinux /%s\noptions %s\n", version, slot, version, slot.KernelPath(), cmdline))
}

// loaderConf returns the configuration that starts a slot without a menu and
// lets nobody at the keyboard change its command line.
func loaderConf(slot layout.Slot) []byte {
	return filled(fmt.Sprintf("default %s\ntimeout 0\neditor no\nconsole-mode keep\n", entryName(slot)))
}

func filled(text string) []byte {
	return append([]byte(text), bytes.Repeat([]byte("\n"), EntrySize-len(text))...)
}

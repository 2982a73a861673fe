package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/parley-meet/parley/image"
	"github.com/parley-meet/parley/tools/mkovf/internal/sbom"
)

// part is a component of the disk that is no Go module.
type part struct {
	sbom.Component
	licence fs.FS  // nil for what is in the public domain
	offer   string // how the source is had, "" where the licence does not ask for it
}

// foreignParts describes what other projects compiled. dir is the folder of
// go.mod.
func foreignParts(parts image.Parts, dir string) ([]part, error) {
	texts := os.DirFS(filepath.Join(dir, "LICENSES"))
	kernel, err := kernelPart(parts.Kernel, texts)
	if err != nil {
		return nil, err
	}
	all := []part{kernel}
	if m := parts.MBR; m.Data != nil {
		all = append(all, mbrPart(m, texts))
	}
	if u := parts.UEFI; u.Data != nil {
		loader, err := uefiParts(u, texts)
		if err != nil {
			return nil, err
		}
		all = append(all, loader...)
	}
	return append(all, part{Component: sbom.Component{
		Type: "data", Name: "uni2-fixed16.psf", Version: "1.221", Licence: "LicenseRef-public-domain",
		PURL: "pkg:deb/debian/console-setup-linux@1.221?arch=all&distro=debian-12", Description: "console font",
	}}), nil
}

func kernelPart(k image.Part, texts fs.FS) (part, error) {
	release, err := kernelRelease(k.Data)
	if err != nil {
		return part{}, fmt.Errorf("kernel of %s: %w", k.Module, err)
	}
	p := part{
		Component: sbom.Component{
			Type: "operating-system", Name: "linux", Version: release, Licence: "GPL-2.0-only WITH Linux-syscall-note",
			PURL: modulePURL(k), CPE: "cpe:2.3:o:linux:linux_kernel:" + release + ":*:*:*:*:*:*:*", SHA256: k.SHA256,
			Description: "kernel, built by " + k.Module + " " + k.Version,
		},
		licence: only(texts, "GPL-2.0.txt"),
	}
	if holds(k.Dir, "LICENSE.linux") {
		p.licence = only(os.DirFS(k.Dir), "LICENSE.linux")
	}
	p.Source = kernelSource(release)
	var b strings.Builder
	fmt.Fprintf(&b, "Source: %s\nThe rest is in the Go module %s\n%s", p.Source, k.Module+"@"+k.Version, download(k))
	// gokrazy's kernel modules have these; who chose another kernel knows more.
	for _, f := range []struct{ name, what string }{
		{"_build/series", "the patches, in their order; they are beside it"},
		{"_build/config.addendum.txt", "what the configuration has beyond make defconfig"},
		{"README.md", "how its makers build it (gokr-rebuild-kernel, in a container)"},
	} {
		if holds(k.Dir, f.name) {
			fmt.Fprintf(&b, "  %-27s %s\n", f.name, f.what)
		}
	}
	b.WriteString("By hand: unpack the source, apply each patch with patch -p1, and write the\nconfiguration with scripts/extract-ikconfig VMLINUZ >.config; make olddefconfig\nbzImage then makes arch/x86/boot/bzImage, which is the module's vmlinuz.\n")
	p.offer = b.String()
	return p, nil
}

var plainRelease = regexp.MustCompile(`^([0-9]+)\.([0-9]+)(\.[0-9]+)?$`)

// kernelSource is where kernel.org has the source of a release. The name comes
// from the kernel itself: the address in gokrazy's module may be that of a
// release that was not built yet.
func kernelSource(release string) string {
	m := plainRelease.FindStringSubmatch(release)
	if m == nil {
		return "https://git.kernel.org/"
	}
	return "https://cdn.kernel.org/pub/linux/kernel/v" + m[1] + ".x/linux-" + strings.TrimSuffix(release, ".0") + ".tar.xz"
}

// kernelRelease reads the release out of a bzImage (Linux,
// Documentation/arch/x86/boot.rst: header at 0x202, kernel_version at 0x20e).
func kernelRelease(vmlinuz []byte) (string, error) {
	const setup, pointer, longest = 0x200, 0x20e, 128
	if len(vmlinuz) < pointer+2 || !bytes.Equal(vmlinuz[0x202:0x206], []byte("HdrS")) {
		return "", errors.New("vmlinuz is no bzImage")
	}
	at := int(binary.LittleEndian.Uint16(vmlinuz[pointer:])) + setup
	if at >= len(vmlinuz) {
		return "", fmt.Errorf("vmlinuz has its version at %d of %d bytes", at, len(vmlinuz))
	}
	text := vmlinuz[at:min(at+longest, len(vmlinuz))]
	end := bytes.IndexFunc(text, func(r rune) bool { return r == 0 || unicode.IsSpace(r) })
	if end <= 0 {
		return "", fmt.Errorf("vmlinuz calls its version %q", text)
	}
	return string(text[:end]), nil
}

func mbrPart(m image.Part, texts fs.FS) part {
	p := part{
		Component: sbom.Component{
			Type: "firmware", Name: "mbr-boot-loader", Version: m.Version, Licence: "GPL-3.0-or-later",
			PURL: modulePURL(m), SHA256: m.SHA256, Description: "BIOS boot code in the disk's first sector",
		},
		licence: only(texts, "GPL-3.0.txt"),
		offer:   "Source: in the Go module " + m.Module + "@" + m.Version + "\n" + download(m),
	}
	for _, f := range []struct{ name, what string }{
		{"mbr/bootloader.asm", "the source, in assembler"},
		{"mbr/Makefile", "how it is assembled (nasm, ld, objcopy)"},
	} {
		if holds(m.Dir, f.name) {
			p.offer += fmt.Sprintf("  %-19s %s\n", f.name, f.what)
		}
	}
	p.offer += "The image holds the first 440 of its bytes, with the two sector numbers filled in.\n"
	return p
}

// loaderInfo is how systemd-boot names itself in its own file.
var loaderInfo = regexp.MustCompile(`#### LoaderInfo: systemd-boot (([0-9]+)[0-9A-Za-z.+~-]*) ####`)

// gnuEFIUntil is the first version of systemd-boot that GNU EFI is not linked
// into.
const gnuEFIUntil = 254

func uefiParts(u image.Part, texts fs.FS) ([]part, error) {
	m := loaderInfo.FindSubmatch(u.Data)
	if m == nil {
		return nil, errors.New("boot.uefi: the file does not call itself systemd-boot; the licence and the source of another loader are not known here")
	}
	version := string(m[1])
	p := part{
		Component: sbom.Component{
			Type: "firmware", Name: "systemd-boot", Version: version, Licence: "LGPL-2.1-or-later",
			PURL: "pkg:github/systemd/systemd@v" + version, SHA256: u.SHA256, Description: "UEFI boot manager, unchanged",
		},
		licence: only(texts, "LGPL-2.1.txt"),
		offer:   "Source: https://github.com/systemd/systemd, tag v" + version + "\n",
	}
	debian := regexp.MustCompile(`~deb([0-9]+)u`).FindStringSubmatch(version)
	if debian != nil {
		p.PURL = "pkg:deb/debian/systemd-boot-efi@" + version + "?arch=amd64&distro=debian-" + debian[1]
		p.Source = "https://snapshot.debian.org/package/systemd/" + version + "/"
		p.offer = "Source: Debian's source package systemd " + version + " (how to build it is in its debian/rules)\n" + p.Source + "\n"
	}
	all := []part{p}
	if major, err := strconv.Atoi(string(m[2])); err == nil && major < gnuEFIUntil {
		all = append(all, part{
			Component: sbom.Component{
				Type: "library", Name: "gnu-efi", Version: "3.0", Licence: "BSD-3-Clause AND BSD-2-Clause",
				Description: "start-up code and library inside systemd-boot",
			},
			licence: only(texts, "LICENSE.gnu-efi.txt"),
		})
	}
	return all, nil
}

// sourceOffer is the offer of corresponding source that the GPL asks for.
func sourceOffer(version string, parts []part) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "Source of what the Parley appliance %s contains\n\n", version)
	b.WriteString("Parley itself and the Go modules named in " + billName + " are fetched by the Go\ntoolchain from the commit in the version. The parts below are under the GNU\nlicences in " + licencesName + ". Whoever got this appliance from somebody\ngets their complete corresponding source from the same party on request, for\nthree years and for no more than the cost of the copy; it is also here:\n")
	for _, f := range parts {
		if f.offer != "" {
			fmt.Fprintf(&b, "\n%s %s (%s)\n%s", f.Name, f.Version, f.Licence, f.offer)
		}
	}
	return []byte(b.String())
}

func modulePURL(p image.Part) string {
	return "pkg:golang/" + strings.ToLower(p.Module) + "@" + p.Version + "?type=module"
}

// download says how a module is had, with Go and without.
func download(p image.Part) string {
	return fmt.Sprintf("(go mod download %s@%s, or\n%s):\n", p.Module, p.Version, moduleZip(p.Module, p.Version))
}

// moduleZip is where Go's public proxy has a module: capital letters are spelled
// with an exclamation mark (Go Modules Reference, "GOPROXY protocol").
func moduleZip(module, version string) string {
	escape := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			if unicode.IsUpper(r) {
				b.WriteByte('!')
			}
			b.WriteRune(unicode.ToLower(r))
		}
		return b.String()
	}
	return "https://proxy.golang.org/" + escape(module) + "/@v/" + escape(version) + ".zip"
}

// holds reports whether the folder has the file, with something in it.
func holds(dir, name string) bool {
	st, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
	return err == nil && st.Size() > 0
}

// only shows one file of a folder.
func only(f fs.FS, name string) fs.FS { return oneFile{f, name} }

type oneFile struct {
	fs.FS
	name string
}

func (o oneFile) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." || path.Dir(o.name) != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	st, err := fs.Stat(o.FS, o.name)
	if err != nil {
		return nil, err
	}
	return []fs.DirEntry{fs.FileInfoToDirEntry(st)}, nil
}

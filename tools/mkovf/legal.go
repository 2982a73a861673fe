package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/parley-meet/parley/image"
	"github.com/parley-meet/parley/tools/mkovf/internal/sbom"
)

// Names of what is written beside the appliances.
const (
	billName     = diskName + ".cdx.json"
	licencesName = "THIRD-PARTY-LICENSES.txt"
	sourcesName  = "SOURCES.txt"
)

func sum(data []byte) [32]byte { return sha256.Sum256(data) }

// legal writes the bill of materials, the licence texts of everything on the
// disk, and where its source is.
func (p *packer) legal(ctx context.Context, img *image.Result) error {
	var bins []sbom.Binary
	for _, path := range slices.Sorted(maps.Keys(img.Binaries)) {
		b, err := readBinary(path, img.Binaries[path])
		if err != nil {
			return err
		}
		bins = append(bins, b)
	}
	mods := sbom.Modules(bins)
	dirs, err := p.moduleDirs(ctx, mods)
	if err != nil {
		return err
	}
	goroot, err := goroot(ctx, p.dir)
	if err != nil {
		return err
	}
	goVersion := bins[0].Info.GoVersion
	sources := []sbom.Source{
		{Name: "Parley", Version: p.version.String, Files: os.DirFS(p.dir), Top: true},
		{Name: "Go", Version: goVersion, Files: os.DirFS(goroot), Top: true},
	}
	licences := map[string]string{}
	for _, m := range mods {
		s := sbom.Source{Name: m.Path, Version: m.Version, Files: os.DirFS(dirs[m.Path])}
		sources = append(sources, s)
		id, err := sbom.Identify(s)
		if err != nil {
			return err
		}
		if id != "" {
			licences[m.Path] = id
		}
	}
	foreign := p.foreign(img)
	for _, f := range foreign {
		sources = append(sources, sbom.Source{Name: f.Name, Version: f.Version, Files: f.licence})
	}
	text, err := sbom.Collect("Licences of what the Parley appliance contains", sources)
	if err != nil {
		return err
	}
	if err := p.write(licencesName, text); err != nil {
		return err
	}
	if err := p.write(sourcesName, p.sources(foreign)); err != nil {
		return err
	}
	doc := sbom.Document{
		Name: "parley", Version: p.version.String, Image: img.Content, Time: p.version.Time,
		Binaries: bins, Licences: licences,
		Components: []sbom.Component{{
			Type: "library", Name: "go-standard-library", Version: strings.TrimPrefix(goVersion, "go"),
			Licence: "BSD-3-Clause", PURL: "pkg:golang/std@" + strings.TrimPrefix(goVersion, "go"),
		}},
	}
	for _, f := range foreign {
		doc.Components = append(doc.Components, f.Component)
	}
	out, err := p.create(billName)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := sbom.Write(out, doc); err != nil {
		return err
	}
	return p.finish(billName, out.File, out.n, [32]byte(out.h.Sum(nil)))
}

// part is a component that is no Go module.
type part struct {
	sbom.Component
	licence fs.FS
	offer   string // how the source is had
}

func (p *packer) foreign(img *image.Result) []part {
	k := img.Parts.Kernel
	texts := os.DirFS(filepath.Join(p.dir, "LICENSES"))
	parts := []part{{
		Component: sbom.Component{
			Type: "operating-system", Name: "linux", Version: k.Version, Licence: "GPL-2.0-only WITH Linux-syscall-note",
			PURL: "pkg:golang/" + k.Module + "@" + k.Version, SHA256: k.SHA256, Source: upstream(k.Dir),
			Description: "kernel, built by " + k.Module,
		},
		licence: only(os.DirFS(k.Dir), "LICENSE.linux"),
		offer: "Kernel source: " + upstream(k.Dir) + "\n" +
			"Configuration, patches and build script: the folder _build and the commands of the Go module\n" +
			k.Module + "@" + k.Version + " (go mod download " + k.Module + "@" + k.Version + ").",
	}}
	if m := img.Parts.MBR; m.Data != nil {
		parts = append(parts, part{
			Component: sbom.Component{
				Type: "firmware", Name: "mbr-boot-loader", Version: m.Version, Licence: "GPL-3.0-or-later",
				PURL: "pkg:golang/" + m.Module + "@" + m.Version, SHA256: m.SHA256,
				Description: "BIOS boot code in the disk's first sector",
			},
			licence: only(texts, "GPL-3.0.txt"),
			offer: "Assembler source: mbr/bootloader.asm in the Go module " + m.Module + "@" + m.Version + "\n" +
				"(go mod download " + m.Module + "@" + m.Version + "); assembled by the Makefile beside it.",
		})
	}
	if u := img.Parts.UEFI; u.Data != nil {
		parts = append(parts, part{
			Component: sbom.Component{
				Type: "firmware", Name: "systemd-boot", Version: "252.39-1~deb12u2", Licence: "LGPL-2.1-or-later",
				PURL: "pkg:deb/debian/systemd-boot-efi@252.39-1~deb12u2?arch=amd64&distro=debian-12", SHA256: u.SHA256,
				Description: "UEFI boot manager, unchanged from Debian",
			},
			licence: only(texts, "LGPL-2.1.txt"),
			offer:   "Source: Debian source package systemd, version 252.39-1~deb12u2\n(https://snapshot.debian.org/package/systemd/252.39-1~deb12u2/).",
		})
	}
	return parts
}

// sources is the offer of corresponding source that the GPL asks for.
func (p *packer) sources(parts []part) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "Source of what the Parley appliance %s contains\n\n", p.version.String)
	b.WriteString("Parley itself and the Go modules named in " + billName + " are fetched by the Go\ntoolchain from the commit in the version. The parts below are under the GNU\nlicences in " + licencesName + ". Whoever got this appliance from somebody gets\ntheir complete corresponding source from the same party on request, for three\nyears and for no more than the cost of the copy; it is also here:\n")
	for _, f := range parts {
		fmt.Fprintf(&b, "\n%s %s (%s)\n%s\n", f.Name, f.Version, f.Licence, f.offer)
	}
	return []byte(b.String())
}

// upstream is the kernel's source archive as the kernel module names it.
func upstream(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, "_build", "upstream-url.txt"))
	if err != nil {
		return "https://kernel.org/"
	}
	return strings.TrimSpace(string(data))
}

// only shows one file of a folder.
func only(f fs.FS, name string) fs.FS { return oneFile{f, name} }

type oneFile struct {
	fs.FS
	name string
}

func (o oneFile) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	st, err := fs.Stat(o.FS, o.name)
	if err != nil {
		return nil, err
	}
	return []fs.DirEntry{fs.FileInfoToDirEntry(st)}, nil
}

func readBinary(path, file string) (sbom.Binary, error) {
	f, err := os.Open(file)
	if err != nil {
		return sbom.Binary{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return sbom.Binary{}, err
	}
	return sbom.ReadBinary(path, f, st.Size())
}

// moduleDirs returns where the modules' files are.
func (p *packer) moduleDirs(ctx context.Context, mods []debug.Module) (map[string]string, error) {
	args := []string{"list", "-m", "-json=Path,Dir", "--"}
	for _, m := range mods {
		args = append(args, m.Path)
	}
	out, err := goCommand(ctx, p.dir, args...)
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var m struct{ Path, Dir string }
		if err := dec.Decode(&m); err != nil {
			return nil, fmt.Errorf("go list -m: %w", err)
		}
		dirs[m.Path] = m.Dir
	}
	for _, m := range mods {
		if dirs[m.Path] == "" {
			return nil, fmt.Errorf("module %s %s is in a program but not downloaded", m.Path, m.Version)
		}
	}
	return dirs, nil
}

func goroot(ctx context.Context, dir string) (string, error) {
	out, err := goCommand(ctx, dir, "env", "GOROOT")
	return strings.TrimSpace(string(out)), err
}

func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	return out, nil
}

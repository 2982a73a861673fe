package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
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
	goroot, err := p.goroot(ctx)
	if err != nil {
		return err
	}
	goVersion := bins[0].Info.GoVersion
	own := sbom.Source{Name: "Parley", Version: p.version.String, Files: os.DirFS(p.toolchain.Dir), Top: true}
	sources := []sbom.Source{
		own,
		{Name: "Go", Version: goVersion, Files: os.DirFS(goroot), Top: true},
	}
	licences := map[string]string{}
	if licences[bins[0].Info.Main.Path], err = sbom.Identify(own); err != nil {
		return err
	}
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
	foreign, err := foreignParts(img.Parts, p.toolchain.Dir)
	if err != nil {
		return err
	}
	for _, f := range foreign {
		if f.licence != nil {
			sources = append(sources, sbom.Source{Name: f.Name, Version: f.Version, Files: f.licence})
		}
	}
	text, err := sbom.Collect("Licences of what the Parley appliance contains", sources)
	if err != nil {
		return err
	}
	if err := p.write(licencesName, text); err != nil {
		return err
	}
	if err := p.write(sourcesName, sourceOffer(p.version.String, foreign)); err != nil {
		return err
	}
	doc := sbom.Document{
		Name: diskName, Version: p.version.String, Time: p.version.Time, Binaries: bins, Licences: licences,
	}
	for _, f := range p.files {
		if ext := filepath.Ext(f.Name); ext == ".ova" || ext == ".vmdk" {
			doc.Files = append(doc.Files, sbom.File{Name: f.Name, SHA256: f.sum})
		}
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
	out, err := p.toolchain.Run(ctx, args...)
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	dec := json.NewDecoder(bytes.NewReader(out))
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

func (p *packer) goroot(ctx context.Context) (string, error) {
	out, err := p.toolchain.Run(ctx, "env", "GOROOT")
	return strings.TrimSpace(string(out)), err
}

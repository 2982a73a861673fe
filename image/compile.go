package image

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/parley-meet/parley/image/layout"

	// The default kernel: its module has to stay in go.mod.
	_ "github.com/gokrazy/kernel.amd64"
)

// modulePath is this repository's module: what a package starting with ./
// in config.json is below.
const modulePath = "github.com/parley-meet/parley"

// initPackage is the program of the root that is not a service.
const initPackage = "./image/init"

// Module is a module as the go command tells it.
type Module struct {
	Path, Version, Dir string
	Replace            *Module
}

// packageDir returns the folder of a package of the build list and its module.
func (b *builder) packageDir(ctx context.Context, pkg string) (string, *Module, error) {
	out, err := b.Go.Run(ctx, "list", "-json=Dir,Module", "--", pkg)
	if err != nil {
		return "", nil, err
	}
	var p struct {
		Dir    string
		Module *Module
	}
	if err := json.Unmarshal(out, &p); err != nil {
		return "", nil, fmt.Errorf("go list %s: %w", pkg, err)
	}
	if p.Dir == "" || p.Module == nil {
		return "", nil, fmt.Errorf("go list %s: no folder", pkg)
	}
	return p.Dir, p.Module, nil
}

// module returns a module of the build list, downloaded.
func (b *builder) module(ctx context.Context, modPath string) (*Module, error) {
	out, err := b.Go.Run(ctx, "mod", "download", "-json", "--", modPath)
	if err != nil {
		return nil, err
	}
	var m struct {
		Module
		Error string
	}
	if err := json.Unmarshal(out, &m); err != nil {
		return nil, fmt.Errorf("go mod download %s: %w", modPath, err)
	}
	if m.Error != "" {
		return nil, fmt.Errorf("go mod download %s: %s", modPath, m.Error)
	}
	return &m.Module, nil
}

// compile builds every program and returns root path → file.
func (b *builder) compile(ctx context.Context) (map[string]string, error) {
	b.Progress("compile", 0, 0)
	out := filepath.Join(b.Work, "bin")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	paths := map[string]string{initPackage: layout.InitPath}
	packages := []string{initPackage}
	seen := map[string]string{path.Base(initPackage): initPackage}
	for _, s := range b.Config.Services {
		if _, ok := paths[s.Package]; ok {
			continue
		}
		base := path.Base(s.Package)
		if other, ok := seen[base]; ok {
			return nil, fmt.Errorf("services: the packages %s and %s would both become %s", other, s.Package, base)
		}
		seen[base] = s.Package
		paths[s.Package] = ServicePath(s.Package)
		packages = append(packages, s.Package)
	}
	// -buildid= and -buildvcs=false: no binary changes because another one did.
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out + string(filepath.Separator), "--"}, packages...)
	if _, err := b.Go.Run(ctx, args...); err != nil {
		return nil, err
	}
	bins := make(map[string]string, len(paths))
	for pkg, p := range paths {
		bins[p] = filepath.Join(out, path.Base(pkg))
	}
	return bins, nil
}

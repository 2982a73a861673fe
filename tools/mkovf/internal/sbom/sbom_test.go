package sbom

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/judge"
)

// info is the build information of a program with the given modules ("path@version").
func info(name string, deps ...string) *debug.BuildInfo {
	b := &debug.BuildInfo{GoVersion: "go1.26.8 X:noexp", Path: "example.com/app/" + name, Main: debug.Module{Path: "example.com/app", Version: "(devel)"}}
	for _, d := range deps {
		path, version, _ := strings.Cut(d, "@")
		b.Deps = append(b.Deps, &debug.Module{Path: path, Version: version, Sum: "h1:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="})
	}
	return b
}

func document() Document {
	return Document{
		Name: "Parley", Version: "1.2.3", Files: []File{{"parley.ova", [32]byte{1}}}, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("x", 3600)),
		Binaries: []Binary{
			{"router", [32]byte{2}, info("router", "github.com/Foo/Bar@v1.0.0", "example.com/b@v2.0.0+incompatible")},
			{"controller", [32]byte{3}, info("controller", "example.com/b@v2.0.0+incompatible", "example.com/c@v0.1.0")},
		},
		Components: []Component{
			{Type: "operating-system", Name: "linux", Version: "7.1", Licence: "GPL-2.0-only WITH Linux-syscall-note",
				SHA256: [32]byte{4}, Source: "https://example.com/linux.tar.xz", CPE: "cpe:2.3:o:linux:linux_kernel:7.1:*:*:*:*:*:*:*", Description: "kernel"},
			{Type: "firmware", Name: "boot", Version: "1", Licence: "GPL-3.0-or-later"},
		},
		Licences: map[string]string{"example.com/b": "MIT", "example.com/app": "BSD-3-Clause", "example.com/c": "MIT AND Apache-2.0"},
	}
}

func render(t testing.TB, d Document) ([]byte, bom) {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, d); err != nil {
		t.Fatal(err)
	}
	var b bom
	dec := json.NewDecoder(bytes.NewReader(out.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), b
}

func TestBill(t *testing.T) {
	_, b := render(t, document())
	if b.Format != "CycloneDX" || b.SpecVersion != "1.5" || b.Version != 1 || b.Metadata.Timestamp != "2026-01-02T02:04:05Z" {
		t.Errorf("head is %+v", b)
	}
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(b.SerialNumber) {
		t.Errorf("serial number %q", b.SerialNumber)
	}
	if got := b.Metadata.Component.References; len(got) != 1 || got[0].URL != "parley.ova" || got[0].Hashes[0].Content != "01"+strings.Repeat("00", 31) {
		t.Errorf("the appliance's files are %+v", got)
	}
	refs := map[string]component{}
	var order []string
	for _, c := range b.Components {
		refs[c.Ref] = c
		order = append(order, c.Ref)
	}
	want := []string{"binary:controller", "binary:router", "component:boot", "component:linux", "go:example.com/b@v2.0.0+incompatible",
		"go:example.com/c@v0.1.0", "go:github.com/Foo/Bar@v1.0.0", "go:std@1.26.8"}
	if !slices.Equal(order, want) {
		t.Errorf("components are %q, want %q", order, want)
	}
	if c := refs["go:example.com/b@v2.0.0+incompatible"]; c.PURL != "pkg:golang/example.com/b@v2.0.0%2Bincompatible?type=module" ||
		c.Licenses[0].License.ID != "MIT" || c.Hashes[0].Content != "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20" {
		t.Errorf("module is %+v", c)
	}
	if c := refs["go:github.com/Foo/Bar@v1.0.0"]; c.PURL != "pkg:golang/github.com/foo/bar@v1.0.0?type=module" || c.Licenses != nil {
		t.Errorf("module is %+v", c)
	}
	if c := refs["component:linux"]; c.Licenses[0].Expression != "GPL-2.0-only WITH Linux-syscall-note" || c.References[0].Comment != "source" || c.CPE == "" {
		t.Errorf("kernel is %+v", c)
	}
	// Every dependency leads to a component, and every component is reached from the appliance.
	edges := map[string][]string{}
	for _, d := range b.Dependencies {
		edges[d.Ref] = d.DependsOn
	}
	reached := map[string]bool{}
	var visit func(ref string)
	visit = func(ref string) {
		if _, ok := refs[ref]; !ok && ref != rootRef {
			t.Errorf("dependency on %q, which is no component", ref)
		}
		if !reached[ref] {
			reached[ref] = true
			for _, next := range edges[ref] {
				visit(next)
			}
		}
	}
	visit(rootRef)
	if len(reached) != len(refs)+1 {
		t.Errorf("%d of %d components are reached", len(reached)-1, len(refs))
	}
}

// TestSchema gives bills to the schema, good ones and, so that it is known to
// judge, spoiled ones.
func TestSchema(t *testing.T) {
	d := document()
	d.Components = append(d.Components, Component{Type: "data", Name: "font", Version: "1", Licence: "LicenseRef-own"})
	good, _ := render(t, d)
	if b := judge.CycloneDX(t, good); len(*b.Components) != 9 {
		t.Errorf("%d components", len(*b.Components))
	}
	for _, edit := range [][2]string{
		{`"BSD-3-Clause"`, `"BSD-33"`}, {`"bomFormat": "CycloneDX"`, `"bomFormat": "SPDX"`}, {`"type": "firmware"`, `"type": "rom"`},
		{`"alg": "SHA-256"`, `"alg": "SHA256"`}, {`urn:uuid:`, `uuid:`}, {`"bom-ref": "appliance"`, `"bomref": "appliance"`},
		{`2026-01-02T02:04:05Z`, `2026-01-02`}, {`"type": "distribution"`, `"type": "source-distribution"`},
	} {
		bad := strings.ReplaceAll(string(good), edit[0], edit[1])
		if bad == string(good) {
			t.Fatalf("%s is not in the bill", edit[0])
		}
		t.Run(edit[1], func(t *testing.T) { judge.InvalidCycloneDX(t, []byte(bad)) })
	}
}

// TestSameBytes: the order of the arguments does not matter, every fact does.
func TestSameBytes(t *testing.T) {
	want, wantBill := render(t, document())
	d := document()
	slices.Reverse(d.Binaries)
	slices.Reverse(d.Components)
	if got, _ := render(t, d); !bytes.Equal(got, want) {
		t.Error("another order gives another bill")
	}
	for name, edit := range map[string]func(d *Document){
		"image":   func(d *Document) { d.Files[0].SHA256[0]++ },
		"version": func(d *Document) { d.Version += ".1" },
		"licence": func(d *Document) { d.Licences["example.com/c"] = "MIT" },
		"binary":  func(d *Document) { d.Binaries[0].SHA256[0]++ },
		"no time": func(d *Document) { d.Time = time.Time{} },
	} {
		d := document()
		edit(&d)
		if _, b := render(t, d); b.SerialNumber == wantBill.SerialNumber {
			t.Errorf("%s: another bill has the same serial number", name)
		}
	}
}

func TestReplacedModule(t *testing.T) {
	b := info("x", "example.com/a@v1.0.0")
	b.Deps[0].Replace = &debug.Module{Path: "example.com/fork", Version: "v1.0.1"}
	got := Modules([]Binary{{Name: "x", Info: b}, {Name: "y", Info: b}})
	if len(got) != 1 || got[0].Path != "example.com/fork" || got[0].Version != "v1.0.1" {
		t.Errorf("modules are %+v, want the replacement once", got)
	}
}

// TestReadBinary reads the test program itself.
func TestReadBinary(t *testing.T) {
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadBinary("test", f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if b.SHA256 != sha256.Sum256(content) || b.Info.GoVersion != runtime.Version() {
		t.Errorf("read %x, %q", b.SHA256, b.Info.GoVersion)
	}
	d := document()
	d.Binaries = []Binary{b}
	render(t, d)
	if _, err := ReadBinary("test", f, st.Size()+1); err == nil {
		t.Error("a size beyond the end passed")
	}
	if _, err := ReadBinary("text", strings.NewReader("#!/bin/sh\n"), 10); err == nil {
		t.Error("a script passed as Go program")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestWrongDocument(t *testing.T) {
	for name, edit := range map[string]func(d *Document){
		"no name":              func(d *Document) { d.Name = "" },
		"no version":           func(d *Document) { d.Version = "" },
		"no file":              func(d *Document) { d.Files = nil },
		"no file name":         func(d *Document) { d.Files[0].Name = "" },
		"no file hash":         func(d *Document) { d.Files[0].SHA256 = [32]byte{} },
		"component no licence": func(d *Document) { d.Components[0].Licence = "" },
		"component no type":    func(d *Document) { d.Components[0].Type = "" },
		"component twice":      func(d *Document) { d.Components[1].Name = d.Components[0].Name },
		"binary twice":         func(d *Document) { d.Binaries[1].Name = d.Binaries[0].Name },
		"binary no name":       func(d *Document) { d.Binaries[1].Name = "" },
	} {
		d := document()
		edit(&d)
		if err := Write(&bytes.Buffer{}, d); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := Write(full{}, document()); err == nil {
		t.Error("a full disk gave no error")
	}
}

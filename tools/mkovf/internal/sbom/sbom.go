// Package sbom writes the bill of materials of an appliance (CycloneDX 1.5, JSON) and the collection of licence texts
// that has to travel with it.
//
// Everything comes in as arguments: build information of the Go binaries, components that are not Go modules, licences.
// The same arguments give the same bytes: no clock, and the serial number is made from the contents.
package sbom

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Document says what an appliance consists of.
type Document struct {
	Name    string // of the appliance
	Version string // of the appliance
	Files   []File // that are delivered, at least one
	// Time is when the described version was made (its commit's time, say). Zero leaves it out.
	Time       time.Time
	Binaries   []Binary
	Components []Component
	// Licences are SPDX expressions by module path; a module that is not in it has no licence in the bill.
	Licences map[string]string
}

// File is what is delivered.
type File struct {
	Name   string
	SHA256 [32]byte
}

// Binary is a Go program on the image.
type Binary struct {
	Name   string   // as on the image
	SHA256 [32]byte // of the file
	Info   *debug.BuildInfo
}

// Component is a part that is not a Go module.
type Component struct {
	Type        string   // CycloneDX: "operating-system", "firmware", "application", "library", "file", "data"
	Name        string   // unique within the document
	Version     string   //
	Licence     string   // SPDX expression, as "GPL-2.0-only WITH Linux-syscall-note"
	PURL        string   // package URL, may be empty
	CPE         string   // name in the database of vulnerabilities (CPE 2.3), may be empty
	SHA256      [32]byte // of the shipped file, zero if it is none
	Source      string   // URL of the corresponding source, may be empty
	Description string
}

// ReadBinary reads the build information and the hash of the program of size bytes in r.
func ReadBinary(name string, r io.ReaderAt, size int64) (Binary, error) {
	info, err := buildinfo.Read(r)
	if err != nil {
		return Binary{}, fmt.Errorf("build information of %q: %w", name, err)
	}
	h := sha256.New()
	if _, err := io.CopyN(h, io.NewSectionReader(r, 0, size), size); err != nil {
		return Binary{}, fmt.Errorf("hash %q of %d bytes: %w", name, size, err)
	}
	return Binary{Name: name, SHA256: [32]byte(h.Sum(nil)), Info: info}, nil
}

// Modules are the modules that went into the binaries, replacements applied, sorted by path and version, each once. The
// main modules are not among them.
func Modules(binaries []Binary) []debug.Module {
	var out []debug.Module
	for _, b := range binaries {
		for _, m := range b.Info.Deps {
			out = append(out, replaced(m))
		}
	}
	slices.SortFunc(out, func(a, b debug.Module) int { return strings.Compare(a.Path+"@"+a.Version, b.Path+"@"+b.Version) })
	return slices.Compact(out)
}

func replaced(m *debug.Module) debug.Module {
	if m.Replace != nil {
		m = m.Replace
	}
	return debug.Module{Path: m.Path, Version: m.Version, Sum: m.Sum}
}

// The JSON schema's objects, as far as they are used.
type (
	bom struct {
		Schema       string       `json:"$schema"`
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		SerialNumber string       `json:"serialNumber,omitempty"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp,omitempty"`
		Component component `json:"component"`
	}
	component struct {
		Type        string     `json:"type"`
		Ref         string     `json:"bom-ref"`
		Name        string     `json:"name"`
		Version     string     `json:"version"`
		Description string     `json:"description,omitempty"`
		Hashes      []hash     `json:"hashes,omitempty"`
		Licenses    []licence  `json:"licenses,omitempty"`
		CPE         string     `json:"cpe,omitempty"`
		PURL        string     `json:"purl,omitempty"`
		References  []external `json:"externalReferences,omitempty"`
		Properties  []property `json:"properties,omitempty"`
	}
	hash struct {
		Alg     string `json:"alg"`
		Content string `json:"content"`
	}
	licence struct {
		License    *licenceID `json:"license,omitempty"`
		Expression string     `json:"expression,omitempty"`
	}
	licenceID struct {
		ID string `json:"id"`
	}
	external struct {
		Type    string `json:"type"`
		URL     string `json:"url"`
		Comment string `json:"comment,omitempty"`
		Hashes  []hash `json:"hashes,omitempty"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

const rootRef = "appliance"

// Write writes the bill. A missing name or version, a component without licence, and two things of one name are errors.
func Write(w io.Writer, d Document) error {
	b, err := build(d)
	if err != nil {
		return fmt.Errorf("sbom: %w", err)
	}
	body, err := encode(b)
	if err != nil {
		return fmt.Errorf("sbom: %w", err)
	}
	b.SerialNumber = "urn:uuid:" + uuid(sha256.Sum256(body))
	if body, err = encode(b); err != nil {
		return fmt.Errorf("sbom: %w", err)
	}
	if _, err := w.Write(body); err != nil {
		return fmt.Errorf("sbom: write: %w", err)
	}
	return nil
}

func encode(b *bom) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(b)
	return out.Bytes(), err
}

// uuid is RFC 9562's version 8, whose bits are ours to choose.
func uuid(h [32]byte) string {
	h[6] = h[6]&0x0f | 0x80
	h[8] = h[8]&0x3f | 0x80
	s := hex.EncodeToString(h[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func build(d Document) (*bom, error) {
	if d.Name == "" || d.Version == "" || len(d.Files) == 0 {
		return nil, fmt.Errorf("name %q, version %q and files %v are all needed", d.Name, d.Version, d.Files)
	}
	var files []external
	for _, f := range d.Files {
		if f.Name == "" || f.SHA256 == [32]byte{} {
			return nil, fmt.Errorf("file %q with SHA-256 %x: want both", f.Name, f.SHA256)
		}
		files = append(files, external{Type: "distribution", URL: url.PathEscape(f.Name), Hashes: sha(f.SHA256)})
	}
	b := &bom{
		Schema: "http://cyclonedx.org/schema/bom-1.5.schema.json", Format: "CycloneDX", SpecVersion: "1.5", Version: 1,
		Metadata: metadata{Component: component{
			Type: "operating-system", Ref: rootRef, Name: d.Name, Version: d.Version, References: files,
		}},
	}
	if !d.Time.IsZero() {
		b.Metadata.Timestamp = d.Time.UTC().Format(time.RFC3339)
	}
	root := dependency{Ref: rootRef}
	for _, c := range d.Components {
		if c.Type == "" || c.Name == "" || c.Version == "" || c.Licence == "" {
			return nil, fmt.Errorf("component %+v lacks type, name, version or licence", c)
		}
		x := component{
			Type: c.Type, Ref: "component:" + c.Name, Name: c.Name, Version: c.Version, Description: c.Description,
			Hashes: sha(c.SHA256), Licenses: licences(c.Licence), CPE: c.CPE, PURL: c.PURL,
		}
		if c.Source != "" {
			x.References = []external{{Type: "distribution", URL: c.Source, Comment: "source"}}
		}
		b.Components = append(b.Components, x)
		root.DependsOn = append(root.DependsOn, x.Ref)
	}
	for _, m := range Modules(d.Binaries) {
		b.Components = append(b.Components, moduleComponent(m, d.Licences[m.Path]))
	}
	toolchains := map[string]bool{}
	for _, bin := range d.Binaries {
		if bin.Name == "" || bin.Info == nil {
			return nil, fmt.Errorf("binary %q lacks name or build information", bin.Name)
		}
		x := component{
			Type: "application", Ref: "binary:" + bin.Name, Name: bin.Name, Version: d.Version,
			Description: "Go program " + bin.Info.Path, Hashes: sha(bin.SHA256), Licenses: licences(d.Licences[bin.Info.Main.Path]),
		}
		std := "go:std@" + goVersion(bin.Info)
		uses := dependency{Ref: x.Ref, DependsOn: []string{std}}
		for _, m := range bin.Info.Deps {
			uses.DependsOn = append(uses.DependsOn, moduleRef(replaced(m)))
		}
		if !toolchains[std] {
			toolchains[std] = true
			b.Components = append(b.Components, component{
				Type: "library", Ref: std, Name: "std", Version: goVersion(bin.Info), Description: "Go standard library and runtime",
				Licenses: licences("BSD-3-Clause"), PURL: "pkg:golang/std@" + url.PathEscape(goVersion(bin.Info)),
			})
			b.Dependencies = append(b.Dependencies, dependency{Ref: std})
		}
		slices.Sort(uses.DependsOn)
		b.Components = append(b.Components, x)
		b.Dependencies = append(b.Dependencies, uses)
		root.DependsOn = append(root.DependsOn, x.Ref)
	}
	slices.Sort(root.DependsOn)
	b.Dependencies = append(b.Dependencies, root)
	slices.SortFunc(b.Components, func(x, y component) int { return strings.Compare(x.Ref, y.Ref) })
	slices.SortFunc(b.Dependencies, func(x, y dependency) int { return strings.Compare(x.Ref, y.Ref) })
	for i := 1; i < len(b.Components); i++ {
		if b.Components[i].Ref == b.Components[i-1].Ref {
			return nil, fmt.Errorf("two components are called %q", b.Components[i].Ref)
		}
	}
	return b, nil
}

func goVersion(info *debug.BuildInfo) string {
	v, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	return v
}

func moduleRef(m debug.Module) string { return "go:" + m.Path + "@" + m.Version }

func moduleComponent(m debug.Module, spdx string) component {
	c := component{
		Type: "library", Ref: moduleRef(m), Name: m.Path, Version: m.Version, Licenses: licences(spdx),
		// The package URL rules ask for lower case in Go's namespace and name.
		PURL: "pkg:golang/" + escapePath(strings.ToLower(m.Path)) + "@" + strings.ReplaceAll(url.PathEscape(m.Version), "+", "%2B") + "?type=module",
	}
	// go.sum's h1 is a SHA-256 over the list of the module's files with their hashes. Other writers of bills put it into
	// hashes too; the property says what it is.
	if sum, ok := strings.CutPrefix(m.Sum, "h1:"); ok {
		if raw, err := base64.StdEncoding.DecodeString(sum); err == nil && len(raw) == sha256.Size {
			c.Hashes = []hash{{"SHA-256", hex.EncodeToString(raw)}}
			c.Properties = []property{{"go:sum", m.Sum}}
		}
	}
	return c
}

func escapePath(p string) string {
	parts := strings.Split(path.Clean(p), "/")
	for i, s := range parts {
		parts[i] = url.PathEscape(s)
	}
	return strings.Join(parts, "/")
}

func sha(h [32]byte) []hash {
	if h == [32]byte{} {
		return nil
	}
	return []hash{{"SHA-256", hex.EncodeToString(h[:])}}
}

func licences(spdx string) []licence {
	switch {
	case spdx == "":
		return nil
	// An own name is valid in an expression alone.
	case strings.ContainsAny(spdx, " ()") || strings.HasPrefix(spdx, "LicenseRef-"):
		return []licence{{Expression: spdx}}
	}
	return []licence{{License: &licenceID{spdx}}}
}

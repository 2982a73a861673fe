package portaltest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/releases"
)

// Output writes a folder as mkovf does, with disks that are small and no disks,
// and returns it.
func (p *Portal) Output(version string) (dir string) {
	p.T.Helper()
	dir = p.T.TempDir()
	put := func(name string, b []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			p.T.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(b))
	}
	for _, v := range releases.Variants {
		disk := bytes.Repeat([]byte("KDMV "+v.Name+" "+version+"\n"), 4096)
		ovf := put(v.Prefix+".ovf", []byte(`<Envelope><ProductSection><FullVersion>`+version+`</FullVersion></ProductSection></Envelope>`))
		vmdk := put(v.Prefix+".vmdk", disk)
		put(v.Prefix+".mf", []byte("SHA256("+v.Prefix+".ovf)= "+ovf+"\nSHA256("+v.Prefix+".vmdk)= "+vmdk+"\n"))
		put(v.Prefix+".ova", append([]byte("tar"), disk...))
	}
	for _, name := range []string{"parley.cdx.json", "THIRD-PARTY-LICENSES.txt", "SOURCES.txt"} {
		put(name, []byte(name))
	}
	return dir
}

// Import makes a version of a folder, and publishes it unless hidden.
func (p *Portal) Import(dir, version string, hidden bool) {
	p.T.Helper()
	who := people.Actor{User: "o", Name: "Operator", Operator: true, Via: "command"}
	if hidden {
		if _, err := p.All.Releases.Begin(context.Background(), who, version, releases.Notes{}); err != nil {
			p.T.Fatal(err)
		}
		names, err := os.ReadDir(dir)
		if err != nil {
			p.T.Fatal(err)
		}
		for _, n := range names {
			b, err := os.ReadFile(filepath.Join(dir, n.Name()))
			if err != nil {
				p.T.Fatal(err)
			}
			if _, err := p.All.Releases.Put(context.Background(), version, n.Name(), int64(len(b)), bytes.NewReader(b), nil); err != nil {
				p.T.Fatal(err)
			}
		}
		return
	}
	if _, err := p.All.Releases.ImportDir(context.Background(), who, dir, version, releases.Notes{EN: "Notes", RU: "Заметки"}, nil); err != nil {
		p.T.Fatal(err)
	}
}

package portaltest

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Output writes a folder as mkovf does for a version, with disks of some bytes
// that say nothing.
func Output(t testing.TB, version string, disk int) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, b []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(b))
	}
	for _, v := range []string{"parley-controller", "parley-router"} {
		b := make([]byte, disk)
		if _, err := rand.Read(b); err != nil {
			t.Fatal(err)
		}
		ovf := put(v+".ovf", []byte(`<Envelope><ProductSection><FullVersion>`+version+`</FullVersion></ProductSection></Envelope>`))
		vmdk := put(v+".vmdk", b)
		put(v+".mf", []byte("SHA256("+v+".ovf)= "+ovf+"\nSHA256("+v+".vmdk)= "+vmdk+"\n"))
		put(v+".ova", append([]byte("tar"), b...))
	}
	for _, name := range []string{"parley.cdx.json", "THIRD-PARTY-LICENSES.txt", "SOURCES.txt"} {
		put(name, []byte(name))
	}
	return dir
}

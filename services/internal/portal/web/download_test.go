package web_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// An operator sees what a restored portal lacks, whoever downloads is told, and
// the upload puts it back.
func TestLostFile(t *testing.T) {
	p := portaltest.New(t)
	o := p.Client(p.Operator())
	dir := p.Output("1.4.0")
	p.Import(dir, "1.4.0", false)
	const path, name = "/download/1.4.0/parley-router.vmdk", "parley-router.vmdk"
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(p.Dir, "releases", fmt.Sprintf("%x", sha256.Sum256(b)))); err != nil {
		t.Fatal(err)
	}
	if a := o.Do("GET", path, nil); a.Status != http.StatusServiceUnavailable || !strings.Contains(string(a.Body), `"release-lost"`) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := o.Do("GET", "/operator/releases", nil); !strings.Contains(string(a.Body), "missing files: 1") || !strings.Contains(string(a.Body), "Files of 1.4.0 are missing") {
		t.Errorf("the page does not tell: %s", a.Body)
	}
	var begun struct{ Missing []string }
	o.JSON("POST", "/api/v1/operator/releases", map[string]any{"version": "1.4.0"}, &begun)
	if len(begun.Missing) != 1 || begun.Missing[0] != name {
		t.Errorf("%v", begun)
	}
	if a := o.Do("PUT", "/api/v1/operator/releases/1.4.0/files/"+name, []byte("other")); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("another file: %d %s", a.Status, a.Body)
	}
	if a := o.Do("PUT", "/api/v1/operator/releases/1.4.0/files/"+name, b); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := o.Do("GET", path, nil); a.Status != http.StatusOK || string(a.Body) != string(b) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

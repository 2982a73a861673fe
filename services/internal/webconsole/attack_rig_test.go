package webconsole

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
)

// writes are the endpoints that change something.
func writes(c *Console) []endpoint {
	return slices.DeleteFunc(slices.Clone(c.api), func(e endpoint) bool { return e.Method == http.MethodGet })
}

// concrete fills a pattern's parts in with names that the rig has, where it has
// any.
func concrete(pattern string) string {
	return strings.NewReplacer("{name}", "zctrl", "{service}", "zctrl", "{op}", "restart", "{verb}", "restart", "{id}", "0000", "{sha256}", strings.Repeat("0", 64)).Replace(pattern)
}

// call sends JSON to an endpoint; a nil body is none.
func (b *browser) call(method, path string, body []byte, header http.Header) answer {
	b.r.t.Helper()
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequest(method, b.r.base+path, r)
	if err != nil {
		b.r.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range b.header {
		req.Header[k] = v
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := b.Do(req)
	if err != nil {
		b.r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

// beginning returns what an endless answer begins with.
func (b *browser) beginning(path string) string {
	b.r.t.Helper()
	ctx, cancel := context.WithTimeout(b.r.t.Context(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", b.r.base+path, nil)
	if err != nil {
		b.r.t.Fatal(err)
	}
	resp, err := b.Do(req)
	if err != nil {
		b.r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body) // ends with the time
	return string(data)
}

// body returns one for the endpoint: every field with nothing in it, lists with
// one element; nil for an endpoint without a body.
func bodyOf(e endpoint) []byte {
	if e.Request == nil {
		return nil
	}
	return []byte(api.Sample(e.Request))
}

// tokenUsed is when a token was used last, which each use of it may change.
var tokenUsed = regexp.MustCompile(`,?\s*"used":\s*"[^"]*"`)

// failed reports whether the console did not cope.
func (a answer) failed() bool { return a.status >= 500 }

// snapshot is what is kept of files in folders: a change shows. Logs of what
// was refused may grow.
func snapshot(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.Contains(filepath.Base(path), "audit") || strings.HasSuffix(path, ".lock") || strings.HasSuffix(path, ".tmp") {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(tokenUsed.ReplaceAll(b, nil))
			found[path] = hex.EncodeToString(sum[:])
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// loginAs logs another user in.
func (r *rig) loginAs(name, password string) *browser {
	r.t.Helper()
	b := r.browser()
	if a := b.do("POST", "/login", url.Values{"name": {name}, "password": {password}}); a.status != http.StatusSeeOther {
		r.t.Fatalf("login of %s: %d\n%s", name, a.status, a.body)
	}
	return b
}

// kept is everything that an administrator could have changed: files, and what
// PID 1 and the network service were asked for.
func (r *rig) kept(t *testing.T) map[string]string {
	t.Helper()
	found := snapshot(t, r.dir, r.admin.ConnectorDir, r.store.RunDir)
	found["PID 1"] = fmt.Sprintf("%+v", r.server.Asked())
	found["network"] = fmt.Sprintf("%+v", r.admin.Network.Asked())
	return found
}

// unchanged fails the test when something of that is another.
func (r *rig) unchanged(t *testing.T, before map[string]string) {
	t.Helper()
	after := r.kept(t)
	for name, was := range before {
		if is := after[name]; is != was {
			t.Errorf("%s was changed: %.300s, was %.300s", name, is, was)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			t.Errorf("%s is new", name)
		}
	}
}

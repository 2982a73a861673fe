package look

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// AssetPrefix is the folder of the assets' addresses.
const AssetPrefix = "/assets/"

// assetTypes are the kinds of files that are served. The list is closed and
// does not ask the system's tables: a wrong type would be refused by browsers
// that are told not to guess.
var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// Assets are files whose names hold their hash, "/assets/style.0123456789ab.css":
// a browser keeps them for ever, and a new version has new names.
type Assets struct {
	paths map[string]string // name → address
	files map[string]asset  // address → file
}

type asset struct {
	name string
	data []byte
}

// NewAssets reads the files of this package's assets folder and of each fsys. A
// name that comes again replaces the one before.
func NewAssets(fsyss ...fs.FS) (*Assets, error) {
	a := &Assets{paths: map[string]string{}, files: map[string]asset{}}
	for _, fsys := range append([]fs.FS{sub(sharedAssets, "assets")}, fsyss...) {
		list, err := fs.ReadDir(fsys, ".")
		if err != nil {
			return nil, fmt.Errorf("assets: %w", err)
		}
		for _, e := range list {
			name := e.Name()
			ext := path.Ext(name)
			if assetTypes[ext] == "" {
				return nil, fmt.Errorf("asset %s: unknown type %q", name, ext)
			}
			data, err := fs.ReadFile(fsys, name)
			if err != nil {
				return nil, fmt.Errorf("asset %s: %w", name, err)
			}
			sum := sha256.Sum256(data)
			p := AssetPrefix + strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
			a.paths[name] = p
			a.files[p] = asset{name, data}
		}
	}
	return a, nil
}

// Path returns the address of the file of that name. An unknown name is a
// mistake in a template.
func (a *Assets) Path(name string) (string, error) {
	p, ok := a.paths[name]
	if !ok {
		return "", fmt.Errorf("there is no asset %q", name)
	}
	return p, nil
}

// ServeHTTP serves what is below AssetPrefix.
func (a *Assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", assetTypes[path.Ext(f.name)])
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
}

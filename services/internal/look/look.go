// Package look is what the product's faces share: design tokens and
// components (style.css), the frame of a page, security headers, the language
// that a browser asks for, and the dictionaries.
//
// Pages are rendered on the server. Style and script are files with their hash
// in the name, served by Assets, so that a page needs nothing inline and the
// content security policy can be strict.
package look

import (
	"embed"
	"io/fs"
)

//go:embed words/*.json
var sharedWords embed.FS

//go:embed assets
var sharedAssets embed.FS

//go:embed pages
var sharedPages embed.FS

// sub is fs.Sub for folders that the compiler has embedded.
func sub(fsys fs.FS, dir string) fs.FS {
	s, err := fs.Sub(fsys, dir)
	if err != nil {
		panic(err)
	}
	return s
}

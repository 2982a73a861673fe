// Package look is what the product's faces share: design tokens and
// components (style.css), the frame of a page, security headers, and the
// dictionaries.
//
// Pages are rendered on the server. Style and script are files with their hash
// in the name, served by Assets, so that a page needs nothing inline and the
// content security policy can be strict.
package look

import "embed"

//go:embed words/*.json
var sharedWords embed.FS

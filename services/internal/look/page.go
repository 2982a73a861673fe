package look

import (
	"bytes"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strings"
)

// Page is what the frame needs to know of a page; Data is the page's own.
type Page struct {
	*Words
	Title   string   // in the title bar and, unless the page has its own, the heading
	Host    string   // the machine's name; "" before login
	User    string   // who is logged in; "" shows no way out
	Path    string   // where the language switch comes back to
	Scripts []string // names of assets
	Refresh int      // load the page anew after so many seconds; 0 is never
	Narrow  bool     // a form and nothing else
	Data    any
}

// Switch lists the languages for the frame's switch.
func (Page) Switch() []Language { return Languages }

// Pages are templates inside the frame. They are safe for concurrent use.
type Pages struct {
	byName map[string]*template.Template
}

// NewPages parses each *.html of fsys, which defines "content", into the frame
// (frame.html of this package). Besides the standard functions a template has
// asset, the address of an asset by its name.
func NewPages(fsys fs.FS, assets *Assets) (*Pages, error) {
	frame, err := template.New("frame.html").Option("missingkey=error").
		Funcs(template.FuncMap{"asset": assets.Path}).ParseFS(sharedPages, "pages/frame.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(fsys, "*.html")
	if err != nil {
		return nil, err
	}
	p := &Pages{byName: map[string]*template.Template{}}
	for _, name := range names {
		t, err := frame.Clone()
		if err == nil {
			t, err = t.ParseFS(fsys, name)
		}
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", name, err)
		}
		p.byName[strings.TrimSuffix(name, ".html")] = t
	}
	return p, nil
}

// Render answers with the page of that name. A page that cannot be rendered is
// not sent in part.
func (p *Pages) Render(w http.ResponseWriter, status int, name string, page Page) error {
	t := p.byName[name]
	if t == nil {
		return fmt.Errorf("there is no page %q", name)
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "frame.html", page); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(page.Language()))
	h.Set("Vary", "Accept-Language, Cookie")
	w.WriteHeader(status)
	// A browser that went away is its own affair.
	_, _ = w.Write(b.Bytes())
	return nil
}

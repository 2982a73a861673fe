package look

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"reflect"
	"strings"
)

// Page is what the frame needs to know of a page; Data is the page's own.
type Page struct {
	*Words
	Title   string    // in the title bar and the heading
	Host    string    // the machine's name; "" before login
	User    string    // who is logged in; "" shows no way out
	Badge   string    // beside the user: what he may do
	Account string    // address of the user's own page; "" is none
	Nav     []Section // of the frame; none before login
	Path    string    // where the language switch comes back to
	Scripts []string  // names of assets
	Refresh int       // load the page anew after so many seconds; 0 is never
	Narrow  bool      // a form and nothing else
	Flash   *Flash    // shown above the content
	Operate bool      // whoever looks may change things
	Banner  *Banner   // above every page, until it is dealt with
	Data    any
}

// Section is an entry of the navigation, with the pages behind it.
type Section struct {
	Title   string
	Path    string
	Current bool   // one of its pages is shown
	Items   []Item // shown as tabs when there are several
}

// Item is a page of a section.
type Item struct {
	Title   string
	Path    string
	Current bool
}

// Banner tells of what waits for an answer until a moment.
type Banner struct {
	Title string
	Text  string
	Until string // RFC 3339; "" is no countdown
	Left  int    // seconds
	Yes   Action
	No    Action
}

// Action is a button that calls the API.
type Action struct {
	Label string
	API   string // "POST /api/v1/…"
	Body  string // JSON
	Done  string // told afterwards
}

// Switch lists the languages for the frame's switch.
func (Page) Switch() []Language { return Languages }

// Tabs returns the pages of the current section when there are several.
func (p Page) Tabs() []Item {
	for _, s := range p.Nav {
		if s.Current && len(s.Items) > 1 {
			return s.Items
		}
	}
	return nil
}

// Pages are templates inside the frame. They are safe for concurrent use.
type Pages struct {
	byName map[string]*template.Template
}

// args makes a map of pairs: what a component gets.
func args(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("args: a key without a value")
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		k, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("args: the key %v is no string", pairs[i])
		}
		m[k] = pairs[i+1]
	}
	return m, nil
}

// id makes an id of a field's name, which may have dots.
func id(parts ...any) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r == ' ' || r == ':' || r == '/' {
			return '-'
		}
		return r
	}, fmt.Sprint(parts...))
}

// NewPages parses each *.html of fsys, which defines "content", into the frame
// (frame.html and the components of this package's parts.html). Besides the
// standard functions a template has asset, the address of an asset by its name;
// args, which makes a map of pairs for a component; id, of a field's name; lines,
// which joins a list for a textarea; and hosts, for names in a narrow column.
func NewPages(fsys fs.FS, assets *Assets) (*Pages, error) {
	frame, err := template.New("frame.html").Option("missingkey=zero").
		Funcs(template.FuncMap{"asset": assets.Path, "args": args, "id": id, "lines": lines, "hosts": hosts}).ParseFS(sharedPages, "pages/*.html")
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

// hosts is a text with host names, which may be broken after a dot or a hyphen and
// are copied as they are.
func hosts(s string) template.HTML {
	return template.HTML(strings.NewReplacer(".", ".<wbr>", "-", "-<wbr>").Replace(template.HTMLEscapeString(s)))
}

// lines joins what a list's elements print, one a line.
func lines(list any) (string, error) {
	v := reflect.ValueOf(list)
	if !v.IsValid() {
		return "", nil
	}
	if v.Kind() != reflect.Slice {
		return "", fmt.Errorf("lines: %T is no list", list)
	}
	var b strings.Builder
	for i := range v.Len() {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprint(&b, v.Index(i).Interface())
	}
	return b.String(), nil
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

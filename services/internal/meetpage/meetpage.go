// Package meetpage is the page on which people meet: what a controller serves to
// browsers, and the scripts that run in it.
//
//	GET  /, /m                the page; its link's ticket is in the fragment (assets/kept.js)
//	GET  /assets/…            style and scripts, kept for ever: their names hold a hash
//	POST /language            the language switch; the visit goes on
//	GET  /signal?m=MEETING    not served here: the session's WebSocket, of package signal
//	POST /trial               not served here: {code, name} → {ticket}, of a trial meeting's link
//
// The scripts are ES modules without a build step:
//
//	page.js      from screen to screen: ready, waiting, in the meeting, over
//	kept.js      what the address brought, and what outlives a reload
//	link.js      WebSockets to this controller or another one of the zone
//	session.js   the session on them, as package signal says (pure)
//	devices.js   camera, microphone, loudspeaker, screen
//	media.js     the connection for sound and pictures
//	meet.js      one visit: what the router says goes to where it belongs
//	controls.js  switches and device lists, before the meeting and in it
//	room.js      the meeting as it is shown: tiles, people, notes
//	chat.js      the chat
//	stats.js     figures for the router (pure)
//	words.js     texts
package meetpage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/signal"
)

var (
	//go:embed assets
	assets embed.FS
	//go:embed pages
	pages embed.FS
	//go:embed words
	words embed.FS
)

// maxOrigins bounds how many other controllers a page is told.
const maxOrigins = 8

// Config is what the page needs to know.
type Config struct {
	// Origins are the other controllers of the zone as browsers reach them,
	// "https://HOST": where a page goes on when this one is lost. The page may talk
	// to no others, whatever its link says. nil: there are none.
	Origins func() []string
	// Portal is the portal's address, where people who are out go to join again.
	// nil, or what is no https address: there is none, as in standalone mode.
	Portal func() string
	Log    *slog.Logger
}

// page is the handler.
type page struct {
	cfg      Config
	template *template.Template
	words    look.Dictionary
	shared   *look.Assets
	folder   string // of the scripts' addresses, with their hash
	modules  []string
	files    map[string][]byte // by address
	texts    map[look.Language]json.RawMessage
}

// New returns the page's handler. It sets all headers that its answers need.
func New(cfg Config) http.Handler {
	p := &page{cfg: cfg, words: look.MustLoad(words, "words"), files: map[string][]byte{}, texts: map[look.Language]json.RawMessage{}}
	var err error
	if p.shared, err = look.NewAssets(); err != nil {
		panic(err) // embedded files, which tests have read
	}
	p.read()
	p.template, err = template.New("meet.html").Funcs(template.FuncMap{"asset": p.shared.Path}).ParseFS(pages, "pages/meet.html")
	if err != nil {
		panic(err)
	}
	for _, l := range look.Languages {
		p.texts[l] = texts(p.words[l])
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.page)
	mux.HandleFunc("GET /m", p.page)
	mux.HandleFunc("GET "+p.folder, p.file)
	mux.Handle("GET "+look.AssetPrefix, p.shared)
	mux.HandleFunc("POST /language", p.language)
	cross := http.NewCrossOriginProtection()
	return look.Recovered(cfg.Log, look.Secure(p.policy(cross.Handler(mux))))
}

// read takes the scripts and the style. They import each other by plain names, so
// all are in one folder whose name has the hash of all.
func (p *page) read() {
	list, err := fs.ReadDir(assets, "assets")
	if err != nil {
		panic(err)
	}
	sum := sha256.New()
	for _, e := range list {
		b, err := fs.ReadFile(assets, path.Join("assets", e.Name()))
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(sum, "%s %d\n", e.Name(), len(b))
		sum.Write(b)
		p.files[e.Name()] = b
		if path.Ext(e.Name()) == ".js" {
			p.modules = append(p.modules, e.Name())
		}
	}
	p.folder = look.AssetPrefix + "meet-" + hex.EncodeToString(sum.Sum(nil)[:6]) + "/"
}

// scriptKeys are those of the texts that scripts use, beside those of codes. They
// are listed when a page is made: on an appliance this package is in the processes
// of other services too.
var scriptKeys = sync.OnceValue(keysOfScripts)

// texts are those that scripts use, as JSON.
func texts(w *look.Words) json.RawMessage {
	m := map[string]string{}
	for _, c := range signal.Codes() {
		m["fault."+string(c)] = w.T("fault." + string(c))
	}
	for _, k := range scriptKeys() {
		m[k] = w.T(k)
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // a map of strings
	}
	return b
}

// keysOfScripts lists the keys "js.…" of the dictionary.
func keysOfScripts() []string {
	var m map[string]string
	b, err := words.ReadFile("words/en.json")
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		panic(err) // an embedded file, which a test has read
	}
	var keys []string
	for k := range m {
		if strings.HasPrefix(k, "js.") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// origins are the other controllers, as far as they are addresses of browsers. One
// that is an IPv6 address is left out: a policy cannot name it (CSP 3, 2.3.1).
func (p *page) origins() []string {
	var out []string
	if p.cfg.Origins == nil {
		return nil
	}
	for _, o := range p.cfg.Origins() {
		u, err := url.Parse(o)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.String() != "https://"+u.Host || strings.HasPrefix(u.Host, "[") || strings.ContainsAny(o, " ;,'\"*") {
			p.cfg.Log.Debug("a page cannot go on there", "origin", o)
			continue
		}
		if len(out) < maxOrigins {
			out = append(out, o)
		}
	}
	return out
}

// policy is look.Secure's with what a meeting needs: the device's camera,
// microphone and screen, and WebSockets to the zone's other controllers.
func (p *page) policy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Permissions-Policy", "camera=(self), microphone=(self), display-capture=(self), autoplay=(self), geolocation=(), usb=(), payment=()")
		var more strings.Builder
		for _, o := range p.origins() {
			more.WriteString(" wss" + strings.TrimPrefix(o, "https"))
		}
		h.Set("Content-Security-Policy", strings.Replace(h.Get("Content-Security-Policy"), "connect-src 'self'", "connect-src 'self'"+more.String(), 1))
		next.ServeHTTP(w, r)
	})
}

// data is what the template sees.
type data struct {
	*look.Words
	Languages []look.Language
	Folder    string
	Modules   []string
	Origins   []string
	Portal    string
	Texts     json.RawMessage
}

func (p *page) page(w http.ResponseWriter, r *http.Request) {
	l := look.RequestLanguage(r)
	d := data{Words: p.words[l], Languages: look.Languages, Folder: p.folder, Modules: p.modules, Origins: p.origins(), Texts: p.texts[l]}
	if p.cfg.Portal != nil {
		// In standalone mode what issues tickets is no address.
		if u, err := url.Parse(p.cfg.Portal()); err == nil && u.Scheme == "https" && u.Host != "" {
			d.Portal = u.String()
		}
	}
	var b bytes.Buffer
	if err := p.template.Execute(&b, d); err != nil {
		p.cfg.Log.Error("page", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(l))
	h.Set("Vary", "Accept-Language, Cookie")
	_, _ = w.Write(b.Bytes()) // a browser that went away is its own affair
}

// file serves a script or the style.
func (p *page) file(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, p.folder)
	b, ok := p.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	kind := "text/javascript; charset=utf-8"
	if path.Ext(name) == ".css" {
		kind = "text/css; charset=utf-8"
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// language keeps the chosen language and comes back to the page, which knows from
// its tab's storage where it was.
func (p *page) language(w http.ResponseWriter, r *http.Request) {
	const small = 1 << 10
	r.Body = http.MaxBytesReader(w, r.Body, small)
	l, ok := look.ParseLanguage(r.PostFormValue("language"))
	if !ok {
		http.Error(w, "language: want en or ru", http.StatusBadRequest)
		return
	}
	look.SetLanguage(w, l)
	http.Redirect(w, r, "/m", http.StatusSeeOther)
}

// Package webconsole is the administrator's console in a browser: https with a
// login, and a status page that stays fresh by itself.
//
//	GET  /login                       the form; everything below is behind it
//	POST /login, /logout, /language
//	GET  /                            status
//	GET  /events                      its changes, as server-sent events
//	POST /services/{name}/{op}        start, stop, restart
//	GET  /api/v1/status               the same in JSON
//	GET  /healthz, /assets/           for anybody
//
// Everything that a stranger can make grow is bounded: connections in all and
// per address, the size of a header and of a form, passwords that are checked
// at a time, sessions, streams, operations under way. Where a bound is reached
// the comment at the constant says who is turned away.
package webconsole

import (
	"context"
	"crypto/tls"
	"embed"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/nic"
)

//go:embed words/*.json
var words embed.FS

//go:embed assets
var assets embed.FS

//go:embed pages
var pages embed.FS

// Appliance is what the console asks PID 1; *control.Client is one.
type Appliance interface {
	Status(context.Context) (*control.Status, error)
	Do(context.Context, control.Request) error
}

// Certificate is the console's own; *certificate.Keeper is one.
type Certificate interface {
	Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Fingerprint() string
}

// Config is what a Console works with.
type Config struct {
	Appliance   Appliance
	Store       *credential.Store
	Hasher      *credential.Hasher
	Interfaces  func() ([]nic.Interface, error)
	Certificate Certificate
	// Cutting are the services whose stop or restart cuts the console off: its
	// own, and the network. They are asked about twice.
	Cutting []string
	Log     *slog.Logger
}

// Console is the web console.
type Console struct {
	cfg      Config
	face     func() *face
	sessions *sessions
	stranger *strangers
	guard    *guard
	source   *source
	handler  http.Handler
	streams  chan struct{} // holds a token for each
	ops      chan struct{} // likewise

	gate     *gate
	probe    *http.Client
	stopping chan struct{}
	later    sync.WaitGroup // operations that outlive their request
}

// face is what the console looks like.
type face struct {
	dict   look.Dictionary
	pages  *look.Pages
	assets *look.Assets
}

// newFace reads the embedded files, which tests have read before.
func newFace() *face {
	sub := func(fsys fs.FS, dir string) fs.FS {
		s, err := fs.Sub(fsys, dir)
		if err != nil {
			panic(err)
		}
		return s
	}
	a, err := look.NewAssets(sub(assets, "assets"))
	if err != nil {
		panic(err)
	}
	p, err := look.NewPages(sub(pages, "pages"), a)
	if err != nil {
		panic(err)
	}
	return &face{look.MustLoad(words, "words"), p, a}
}

// New returns a console. It starts nothing, and leaves to the first page what
// would make the appliance ready later.
func New(cfg Config) *Console {
	c := &Console{
		cfg: cfg, face: sync.OnceValue(newFace),
		sessions: newSessions(), stranger: newStrangers(cfg.Log), guard: newGuard(), source: newSource(cfg.Appliance, cfg.Interfaces),
		streams: make(chan struct{}, maxStreams), ops: make(chan struct{}, maxOps),
		gate: newGate(), stopping: make(chan struct{}),
	}
	c.probe = c.newProbe()
	c.handler = c.routes()
	return c
}

// ServeHTTP is the console without its listener.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.handler.ServeHTTP(w, r) }

func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", c.healthz)
	mux.HandleFunc("GET "+look.AssetPrefix, func(w http.ResponseWriter, r *http.Request) { c.face().assets.ServeHTTP(w, r) })
	mux.HandleFunc("GET /login", c.loginPage)
	mux.HandleFunc("POST /login", c.login)
	mux.HandleFunc("POST /logout", c.logout)
	mux.HandleFunc("POST /language", c.language)
	mux.HandleFunc("GET /{$}", c.inside(c.statusPage))
	mux.HandleFunc("GET /events", c.events)
	mux.HandleFunc("POST /services/{name}/{op}", c.inside(c.operate))
	mux.HandleFunc("GET /api/v1/status", c.apiStatus)
	mux.HandleFunc("/", c.notFound)
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(c.crossOrigin))
	return c.recovered(look.Secure(cross.Handler(mux)))
}

// recovered answers for a handler that panicked: net/http would log it where
// nobody looks.
func (c *Console) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				c.cfg.Log.Error("panic", "method", r.Method, "path", cut(r.URL.Path, 100), "panic", p)
				http.Error(w, "internal error", http.StatusInternalServerError)
			}
		}()
		if r.ContentLength != 0 {
			setWaits(r, true) // until the form is read
		}
		next.ServeHTTP(w, r)
	})
}

func (c *Console) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// words returns those of the request's language.
func (c *Console) words(r *http.Request) *look.Words { return c.face().dict[look.RequestLanguage(r)] }

func (c *Console) render(w http.ResponseWriter, status int, name string, p look.Page) {
	if err := c.face().pages.Render(w, status, name, p); err != nil {
		c.cfg.Log.Error("render", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

// message answers with a page of a heading and a sentence.
func (c *Console) message(w http.ResponseWriter, r *http.Request, status int, key string) {
	words := c.words(r)
	c.render(w, status, "message", look.Page{
		Words: words, Title: words.T(key + ".title"), Path: "/", Narrow: true,
		Data: messageData{Text: words.T(key)},
	})
}

type messageData struct {
	Text string
}

func (c *Console) notFound(w http.ResponseWriter, r *http.Request) {
	c.message(w, r, http.StatusNotFound, "not-found")
}

func (c *Console) crossOrigin(w http.ResponseWriter, r *http.Request) {
	c.stranger.line(slog.LevelWarn, "request from another site refused", "from", remote(r), "path", cut(r.URL.Path, 100), "origin", cut(r.Header.Get("Origin"), 200))
	c.message(w, r, http.StatusForbidden, "cross-origin")
}

// places are the pages that the language switch may come back to.
var places = map[string]bool{"/": true, "/login": true}

func (c *Console) language(w http.ResponseWriter, r *http.Request) {
	form, ok := c.form(w, r)
	if !ok {
		return
	}
	if l, ok := look.ParseLanguage(form.Get("language")); ok {
		look.SetLanguage(w, l)
	}
	to := form.Get("to")
	if !places[to] {
		to = "/"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// inside lets a request with a session through, and shows others the login.
func (c *Console) inside(next func(http.ResponseWriter, *http.Request, *session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, why := c.session(r, true)
		if s == nil {
			to := "/login"
			if why != "" {
				to += "?ended=" + string(why)
			}
			http.Redirect(w, r, to, http.StatusSeeOther)
			return
		}
		next(w, r, s)
	}
}

// session returns the request's session while it is good. A touch counts as the
// user's doing; what a page does by itself does not.
func (c *Console) session(r *http.Request, touch bool) (*session, ended) {
	token, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil, ""
	}
	cred, err := c.cfg.Store.Current()
	if err != nil {
		// Without the password's file nobody can say whether it still holds.
		c.sessions.endAll()
		return nil, endedPassword
	}
	return c.sessions.get(token.Value, cred, time.Now(), touch)
}

package webconsole

import (
	"context"
	"crypto/tls"
	"embed"
	"log/slog"
	"net/http"
	"sync"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/guard"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/nic"
	"github.com/parley-meet/parley/services/internal/portalctl"
)

//go:embed words/*.json
var words embed.FS

//go:embed assets
var assets embed.FS

//go:embed pages
var pages embed.FS

// Appliance tells how the machine is; *control.Client does.
type Appliance interface {
	Status(context.Context) (*control.Status, error)
}

// Certificate is the console's own; *certificate.Keeper is one.
type Certificate interface {
	Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Fingerprint() string
}

// Config is what a Console works with.
type Config struct {
	Admin       admin.Administrator
	Appliance   Appliance
	Interfaces  func() ([]nic.Interface, error)
	Certificate Certificate
	// Cutting are the services whose stop or restart cuts the console off: its
	// own, and the network. Their answer is sent before they are carried out.
	Cutting []string
	// Portal asks the portal that runs here.
	Portal func(context.Context, portalctl.Request) (portalctl.Answer, error)
	// Figures returns the unix socket on which a service says what it has measured;
	// nil: none does.
	Figures func(service string) string
	Log     *slog.Logger
}

// Console is the web console.
type Console struct {
	cfg      Config
	face     func() *look.Face
	sessions *look.Sessions
	steps    *steps
	stranger *guard.Strangers
	guard    *guard.Guard
	devices  *guard.Devices
	source   *source
	mux      *http.ServeMux
	api      []endpoint
	pages    []page
	byPath   map[string]page // pattern → page
	openapi  func() []byte
	handler  http.Handler
	streams  chan struct{} // holds a token for each
	ops      chan struct{} // likewise
	follows  chan struct{} // likewise
	reads    chan struct{} // likewise
	actors   guard.Tally   // of those

	gate     *gate
	probe    *http.Client
	stopping chan struct{}
	later    sync.WaitGroup // operations that outlive their request
}

// New returns a console. It starts nothing, and leaves to the first page what
// would make the appliance ready later.
func New(cfg Config) *Console {
	c := &Console{
		cfg: cfg, face: sync.OnceValue(func() *look.Face { return look.NewFace(words, pages, assets) }), sessions: look.NewSessions(sessionCookie, maxSessionStreams), steps: newSteps(),
		stranger: guard.NewStrangers(cfg.Log), guard: guard.New(guard.Console), devices: guard.NewDevices(), source: newSource(cfg.Appliance, cfg.Interfaces, cfg.Admin.Zone),
		streams: make(chan struct{}, maxStreams), ops: make(chan struct{}, maxOps),
		follows: make(chan struct{}, maxFollows), reads: make(chan struct{}, maxReads),
		gate: newGate(), stopping: make(chan struct{}), byPath: map[string]page{},
	}
	c.openapi = sync.OnceValue(c.describe)
	c.probe = c.newProbe()
	c.handler = c.routes()
	return c
}

// ServeHTTP is the console without its listener.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.handler.ServeHTTP(w, r) }

func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	c.mux = mux
	mux.HandleFunc("GET /healthz", c.healthz)
	mux.HandleFunc("GET "+look.AssetPrefix, func(w http.ResponseWriter, r *http.Request) { c.face().Assets.ServeHTTP(w, r) })
	mux.HandleFunc("GET /login", c.loginPage)
	mux.HandleFunc("POST /login", c.login)
	mux.HandleFunc("GET /login/code", c.codePage)
	mux.HandleFunc("POST /login/code", c.code)
	mux.HandleFunc("POST /logout", c.logout)
	mux.HandleFunc("POST /language", c.language)
	mux.HandleFunc("GET /events", c.events)
	c.pages = c.allPages()
	for _, p := range c.pages {
		c.byPath["GET "+p.pattern()] = p
		mux.HandleFunc("GET "+p.pattern(), c.page(p))
	}
	c.api = c.endpoints()
	for _, e := range c.api {
		mux.HandleFunc(e.Method+" "+e.Path, c.endpoint(e))
	}
	mux.HandleFunc("/api/", c.noEndpoint)
	mux.HandleFunc("/", c.notFound)
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(c.crossOrigin))
	return look.Recovered(c.cfg.Log, waiting(look.Secure(cross.Handler(mux))))
}

// waiting tells the gate that a request with a body waits for it.
func waiting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			setWaits(r, true) // until the body is read
		}
		next.ServeHTTP(w, r)
	})
}

func (c *Console) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// words returns those of the request's language.
func (c *Console) words(r *http.Request) *look.Words {
	return c.face().Dictionary[look.RequestLanguage(r)]
}

func (c *Console) render(w http.ResponseWriter, status int, name string, p look.Page) {
	if err := c.face().Pages.Render(w, status, name, p); err != nil {
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
	c.stranger.Line(slog.LevelWarn, "request from another site refused", "from", remote(r), "path", api.Cut(r.URL.Path, 100), "origin", api.Cut(r.Header.Get("Origin"), 200))
	c.message(w, r, http.StatusForbidden, "cross-origin")
}

func (c *Console) language(w http.ResponseWriter, r *http.Request) {
	form, ok := c.form(w, r)
	if !ok {
		return
	}
	if l, ok := look.ParseLanguage(form.Get("language")); ok {
		look.SetLanguage(w, l)
	}
	http.Redirect(w, r, c.place(form.Get("to")), http.StatusSeeOther)
}

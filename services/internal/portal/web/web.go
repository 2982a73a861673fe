// Package web is the portal in a browser, and its HTTP API: pages that are
// rendered on the server, and a table of endpoints that the pages themselves
// use. doc.go of package webconsole describes pages, forms and components; what
// differs here:
//
//   - a page and an endpoint say who may: needNobody, needPerson (signed in),
//     needMember, needAdmin, needOwner (of an account), needOperator (of the
//     portal); an endpoint also has a Scope, "meetings:read" or
//     "meetings:write", that a token must have, or NoToken;
//   - no request names an account; what an endpoint reaches is the actor's own
//     (package people). Operators' endpoints are below /api/v1/operator/.
//
// A topic has its file TOPIC.go with the pages' loaders, api_TOPIC.go with the
// endpoints, pages/*.html, words/en-TOPIC.json and words/ru-TOPIC.json.
package web

import (
	"context"
	"embed"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/edge"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/mail"
	"github.com/parley-meet/parley/services/internal/portal/meetings"
	"github.com/parley-meet/parley/services/internal/portal/names"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/releases"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

//go:embed words/*.json
var words embed.FS

//go:embed assets
var assets embed.FS

//go:embed pages
var pages embed.FS

// sessionCookie holds a session's token. It is Lax: whoever comes by a link in an
// e-mail is signed in already. Requests that change something are protected by
// their origin (http.CrossOriginProtection).
const sessionCookie = "__Host-parley-portal"

// Config is what a Portal works with.
type Config struct {
	DB       *store.DB
	Vault    *vault.Vault
	Zones    *zones.Service
	Names    *names.Service
	Live     *live.Service
	Releases *releases.Service
	// URL is the portal's own address as people and appliances use it,
	// "https://portal.example.com".
	URL  *url.URL
	Mail *mail.Box
	Log  *slog.Logger
	// Directory is the accounts and who is in them.
	Directory *directory.Service
	// Upcoming lists the actor's next meetings for the overview, the soonest
	// first; nil is none.
	Upcoming func(context.Context, people.Actor) ([]Upcoming, error)
	// Meetings keeps meetings and lets people in.
	Meetings *meetings.Service
}

// Portal is the portal's HTTP side.
type Portal struct {
	cfg     Config
	face    func() *look.Face
	mux     *http.ServeMux
	pages   []page
	byPath  map[string]page // pattern → page
	api     []endpoint
	openapi func() []byte
	handler http.Handler
	id      *signing
	stop    chan struct{}
	once    sync.Once
	brand   brand
}

// New returns a portal. It starts nothing.
func New(cfg Config) *Portal {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Portal{cfg: cfg, face: sync.OnceValue(func() *look.Face { return look.NewFace(words, pages, assets) }), byPath: map[string]page{}, stop: make(chan struct{})}
	p.id = newSigning(cfg)
	p.openapi = sync.OnceValue(p.describe)
	p.handler = p.routes()
	return p
}

// ServeHTTP is the portal without its listener.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// Stop ends the streams that pages hold, before the server is shut down.
func (p *Portal) Stop() { p.once.Do(func() { close(p.stop) }) }

func (p *Portal) routes() http.Handler {
	mux := http.NewServeMux()
	p.mux = mux
	edge.Health(mux, p.cfg.DB, p.cfg.Log)
	mux.HandleFunc("GET "+look.AssetPrefix, func(w http.ResponseWriter, r *http.Request) { p.face().Assets.ServeHTTP(w, r) })
	mux.HandleFunc("POST /language", p.language)
	mux.HandleFunc("POST /logout", p.logout)
	mux.Handle("GET /link", p.cfg.Live)
	p.downloads(mux)
	mux.HandleFunc("GET /connector/monitor/events", p.monitorEvents())
	p.loginRoutes(mux)
	p.pages = p.allPages()
	for _, q := range p.pages {
		p.byPath["GET "+q.pattern()] = q
		mux.HandleFunc("GET "+q.pattern(), p.page(q))
	}
	p.api = p.endpoints()
	for _, e := range p.api {
		mux.HandleFunc(e.Method+" "+e.Path, p.endpoint(e))
	}
	mux.HandleFunc("/api/", p.noEndpoint)
	mux.HandleFunc("/", p.notFound)
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(p.crossOrigin))
	return look.Recovered(p.cfg.Log, look.Secure(cross.Handler(mux)))
}

// words returns those of the request's language.
func (p *Portal) words(r *http.Request) *look.Words {
	return p.face().Dictionary[look.RequestLanguage(r)]
}

// brand is the portal's name as its operators have set it. It is read again
// after brandFor: other instances see a change a little later.
type brand struct {
	mu   sync.Mutex
	name string
	at   time.Time
}

const (
	brandFor   = 5 * time.Second
	brandLimit = 2 * time.Second
)

func (p *Portal) portalName() string {
	b := &p.brand
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := time.Now(); now.Sub(b.at) >= brandFor {
		ctx, cancel := context.WithTimeout(context.Background(), brandLimit)
		defer cancel()
		name, err := p.cfg.Directory.PortalName(ctx)
		if err != nil { // a page without the name is better than none
			p.cfg.Log.Warn("portal's name", "error", err)
		} else {
			b.name = name
		}
		b.at = now
	}
	return b.name
}

func (p *Portal) render(w http.ResponseWriter, status int, name string, page look.Page) {
	page.Host = p.portalName()
	if err := p.face().Pages.Render(w, status, name, page); err != nil {
		p.cfg.Log.Error("render", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

type messageData struct{ Text string }

// message answers with a page of a heading and a sentence, the texts KEY.title
// and KEY.
func (p *Portal) message(w http.ResponseWriter, r *http.Request, status int, key string) {
	words := p.words(r)
	p.render(w, status, "message", look.Page{Words: words, Title: words.T(key + ".title"), Path: "/", Narrow: true, Data: messageData{words.T(key)}})
}

func (p *Portal) notFound(w http.ResponseWriter, r *http.Request) {
	p.message(w, r, http.StatusNotFound, "not-found")
}

func (p *Portal) crossOrigin(w http.ResponseWriter, r *http.Request) {
	p.message(w, r, http.StatusForbidden, "cross-origin")
}

// remote returns the address that the request came from.
func remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// setCookie gives the browser a session's token; "" takes it away.
func setCookie(w http.ResponseWriter, token string) {
	c := &http.Cookie{Name: sessionCookie, Value: token, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// token returns the request's session token, or "".
func token(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil || len(c.Value) > 64 {
		return ""
	}
	return c.Value
}

func (p *Portal) logout(w http.ResponseWriter, r *http.Request) {
	if t := token(r); t != "" {
		if err := people.EndSession(r.Context(), p.cfg.DB, t); err != nil {
			p.cfg.Log.Error("logout", "error", err)
			p.message(w, r, http.StatusServiceUnavailable, "failed")
			return
		}
	}
	setCookie(w, "")
	http.Redirect(w, r, "/login?ended=logout", http.StatusSeeOther)
}

func (p *Portal) language(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 8<<10)
	if l, ok := look.ParseLanguage(r.PostFormValue("language")); ok {
		look.SetLanguage(w, l)
	}
	http.Redirect(w, r, p.place(r.PostFormValue("to")), http.StatusSeeOther)
}

package web

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/guard"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/identity"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Bounds of sign-ins.
const (
	maxForm   = 8 << 10 // bytes of a form
	checkWait = 20 * time.Second
	maxAgent  = 200 // characters of what a browser calls itself
)

// signing is what the pages of signing in work with. Throttling is in memory:
// each instance counts for itself, so N instances let N times as much through.
type signing struct {
	people  *identity.Service
	guard   *guard.Guard
	devices *guard.Devices
	log     *guard.Strangers
	// operated is set once somebody operates the portal.
	operated atomic.Bool
}

func newSigning(cfg Config) *signing {
	id := &signing{people: identity.New(cfg.DB, cfg.Vault, cfg.Log), guard: guard.New(guard.Portal), log: guard.NewStrangers(cfg.Log)}
	var key [32]byte
	if cfg.Vault != nil { // one key for all instances: each knows the others' marks
		copy(key[:], cfg.Vault.Derive("device marks"))
	} else {
		rand.Read(key[:])
	}
	id.devices = guard.NewDevicesOf(key)
	return id
}

func (p *Portal) loginRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /login", p.loginPage)
	mux.HandleFunc("POST /login", p.login)
	mux.HandleFunc("GET /login/oidc/{id}", p.goAway)
	mux.HandleFunc("GET /login/oidc/{id}/callback", p.comeBack)
	mux.HandleFunc("GET /login/code", p.codePage)
	mux.HandleFunc("POST /login/code", p.code)
	mux.HandleFunc("GET /login/enrol", p.enrolPage)
	mux.HandleFunc("POST /login/enrol", p.enrol)
}

// readForm reads a form as browsers send one without files.
func (p *Portal) readForm(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	status := http.StatusOK
	if !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		status = http.StatusUnsupportedMediaType
	} else {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			status = http.StatusBadRequest
			var long *http.MaxBytesError
			if errors.As(err, &long) {
				status = http.StatusRequestEntityTooLarge
			}
		}
	}
	if status != http.StatusOK {
		p.message(w, r, status, "bad-form")
		return nil, false
	}
	return r.PostForm, true
}

type loginData struct {
	Email  string
	Error  string // of this attempt
	Hint   string // what may be to do about it
	Notice string // of what came before it
	Good   bool   // the notice is good news
	To     string // page to go on to
	Open   bool   // somebody may sign up
	Others []identity.Provider
}

// goodEnds are notices that tell of something that has worked.
var goodEnds = map[string]bool{"logout": true, "reset": true, "email": true, "verified": true}

func (p *Portal) loginPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	to := p.place(q.Get("to"))
	if k, _, _ := p.caller(w, r, true); k != nil && k.session != nil {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	// Whoever has proven his address and must set up a second factor comes here on
	// the way to any page.
	if t := stepToken(r); t != "" && q.Get("ended") == "" {
		if _, err := p.id.people.GetStep(r.Context(), identity.NeedEnrol, t); err == nil {
			http.Redirect(w, r, "/login/enrol", http.StatusSeeOther)
			return
		}
	}
	words := p.words(r)
	d := loginData{To: to}
	why := q.Get("ended")
	if key := "ended." + why; words.Has(key) {
		d.Notice, d.Good = words.T(key), goodEnds[why]
	}
	if d.Notice == "" {
		if has, err := p.hasOperator(r.Context()); err == nil && !has {
			d.Notice = words.T("login.new-portal")
		}
	}
	p.showLogin(w, r, http.StatusOK, d)
}

// hasOperator reports whether somebody operates the portal; once somebody does,
// it is not asked again.
func (p *Portal) hasOperator(ctx context.Context) (has bool, err error) {
	if p.id.operated.Load() {
		return true, nil
	}
	err = p.cfg.DB.Read(ctx, func(tx *store.Tx) error { has, err = people.HasOperator(tx); return err })
	if has {
		p.id.operated.Store(true)
	}
	return has, err
}

func (p *Portal) showLogin(w http.ResponseWriter, r *http.Request, status int, d loginData) {
	words := p.words(r)
	mode, err := p.id.people.SignupMode(r.Context())
	if err != nil {
		p.cfg.Log.Error("sign-up mode", "error", err)
	}
	if d.Open = mode == identity.SignupOpen; mode == identity.SignupClosed {
		d.Hint = ""
	}
	if d.Others, err = p.id.people.Providers(r.Context()); err != nil {
		p.cfg.Log.Error("providers", "error", err)
	}
	p.render(w, status, "login", look.Page{Words: words, Title: words.T("login.title"), Path: "/login", Scripts: []string{"reveal.js"}, Narrow: true, Data: d})
}

func (p *Portal) login(w http.ResponseWriter, r *http.Request) {
	form, ok := p.readForm(w, r)
	if !ok {
		return
	}
	words, from := p.words(r), remote(r)
	email, password := strings.TrimSpace(form.Get("email")), form.Get("password")
	d := loginData{Email: api.Cut(email, 254), To: p.place(form.Get("to"))}
	refuse := func(status int, text string) {
		d.Error = text
		p.showLogin(w, r, status, d)
	}
	wait := func(status int, after time.Duration) {
		w.Header().Set("Retry-After", strconv.Itoa(api.Seconds(after)))
		refuse(status, words.T("login.wait", api.Seconds(after)))
	}
	after, done := p.id.guard.Enter(from, email, p.id.devices.Known(r, email), false, time.Now())
	if done == nil {
		p.id.log.Line(slog.LevelInfo, "sign-in delayed", "from", from, "wait", after.Round(time.Millisecond))
		wait(http.StatusTooManyRequests, after)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkWait)
	defer cancel()
	u, err := p.id.people.CheckPassword(ctx, email, password)
	done(err == nil || errors.Is(err, identity.ErrUnverified) || errors.Is(err, identity.ErrSuspended), time.Now())
	switch {
	case err == nil:
		p.admit(w, r, u, d.To, refuse)
	case errors.Is(err, identity.ErrWrong):
		p.id.log.Line(slog.LevelWarn, "sign-in failed", "from", from) // what was typed may be a password
		// The same for an address that nobody has, one that is not confirmed and a
		// wrong password: who has an account here is not told.
		d.Hint = words.T("login.wrong.hint")
		refuse(http.StatusForbidden, words.T("login.wrong"))
	default:
		p.refuseEntry(w, r, err, refuse)
	}
}

// refuseEntry tells one who has proven who he is why he cannot come in.
func (p *Portal) refuseEntry(w http.ResponseWriter, r *http.Request, err error, refuse func(int, string)) {
	words := p.words(r)
	switch {
	case errors.Is(err, identity.ErrUnverified):
		refuse(http.StatusForbidden, words.T("login.unverified"))
	case errors.Is(err, identity.ErrSuspended):
		refuse(http.StatusForbidden, words.T("login.suspended"))
	default:
		p.id.log.Line(slog.LevelError, "sign-in not checked", "from", remote(r), "error", err)
		w.Header().Set("Retry-After", strconv.Itoa(api.Seconds(guard.BusyWait)))
		refuse(http.StatusServiceUnavailable, words.T("login.wait", api.Seconds(guard.BusyWait)))
	}
}

// admit lets a person in who has proven who he is, or asks for what is missing.
func (p *Portal) admit(w http.ResponseWriter, r *http.Request, u people.User, to string, refuse func(int, string)) {
	next, err := p.next(w, r, u, to)
	if err != nil {
		p.refuseEntry(w, r, err, refuse)
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// next signs a person in and returns to, or else the page of what is missing.
func (p *Portal) next(w http.ResponseWriter, r *http.Request, u people.User, to string) (string, error) {
	need, err := p.id.people.Needs(r.Context(), u.ID)
	if err != nil {
		return "", err
	}
	if need != identity.NeedNothing {
		t, err := p.id.people.BeginStep(r.Context(), need, u.ID, to)
		setStep(w, t)
		return "/login/" + string(need), err
	}
	return to, p.enter(w, r, u)
}

// enter gives the browser a new session of the person; the one that it had
// ends.
func (p *Portal) enter(w http.ResponseWriter, r *http.Request, u people.User) error {
	from := remote(r)
	t, err := p.id.people.Enter(r.Context(), u.ID, people.Actor{From: from.String(), Via: "web"}, agent(r), token(r))
	if err != nil {
		return err
	}
	p.cfg.Log.Info("sign-in", "from", from, "user", u.ID)
	setCookie(w, t)
	p.id.devices.Mark(w, r, u.Email)
	return nil
}

// agent is what the browser calls itself.
func agent(r *http.Request) string { return api.Cut(r.UserAgent(), maxAgent) }

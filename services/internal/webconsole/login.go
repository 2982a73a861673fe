package webconsole

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/guard"
	"github.com/parley-meet/parley/services/internal/look"
)

// maxForm is the longest body of a form in bytes.
const maxForm = 8 << 10

// Waits of a login.
const (
	noneWait  = 3 * time.Second // for the first password's hash, while the appliance starts
	checkWait = 20 * time.Second
)

// readForm reads a form as browsers send one without files.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, int) {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		return nil, http.StatusUnsupportedMediaType
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return nil, http.StatusRequestEntityTooLarge
		}
		return nil, http.StatusBadRequest
	}
	setWaits(r, false)
	return r.PostForm, http.StatusOK
}

func (c *Console) form(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	f, status := readForm(w, r)
	if status != http.StatusOK {
		c.message(w, r, status, "bad-form")
		return nil, false
	}
	return f, true
}

// remote returns the address that the request came from.
func remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // counted as one network
	}
	return ap.Addr().Unmap()
}

type loginData struct {
	Name   string
	Error  string // of this attempt
	Notice string // of what came before it
	Closed bool   // nobody can log in here
}

func (c *Console) loginPage(w http.ResponseWriter, r *http.Request) {
	if s, _, _ := c.session(r, true); s != nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	words := c.words(r)
	d := loginData{Name: credential.User}
	if why := "ended." + r.URL.Query().Get("ended"); words.Has(why) {
		d.Notice = words.T(why)
	}
	_, _, err := c.cfg.Admin.Stamp(credential.User)
	var damaged *credential.DamagedError
	switch {
	case errors.As(err, &damaged):
		d.Closed, d.Notice = true, words.T("login.damaged")
	case errors.Is(err, credential.ErrNone):
		d.Notice = words.T("login.starting")
	}
	c.showLogin(w, r, http.StatusOK, d)
}

func (c *Console) showLogin(w http.ResponseWriter, r *http.Request, status int, d loginData) {
	words := c.words(r)
	c.render(w, status, "login", look.Page{Words: words, Title: words.T("login.title"), Path: "/login",
		Scripts: []string{"reveal.js"}, Narrow: true, Data: d})
}

func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	form, ok := c.form(w, r)
	if !ok {
		return
	}
	name, password := strings.TrimSpace(form.Get("name")), form.Get("password")
	d := loginData{Name: api.Cut(name, 64)}
	c.tryLogin(w, r, name, password, "", func(status int, text string) {
		d.Error = text
		c.showLogin(w, r, status, d)
	}, func() {
		d.Closed, d.Notice = true, c.words(r).T("login.damaged")
		c.showLogin(w, r, http.StatusServiceUnavailable, d)
	})
}

// tryLogin checks a name with a password and, in the second step, a code. It
// answers with a session, with the page of the code, with refuse, or with
// closed when nobody can log in over the network.
func (c *Console) tryLogin(w http.ResponseWriter, r *http.Request, name, password, code string, refuse func(status int, text string), closed func()) {
	words, from := c.words(r), remote(r)
	// A wrong name is not logged: somebody may have typed the password there.
	log := func(level slog.Level, text string, args ...any) {
		known := subtle.ConstantTimeCompare([]byte(name), []byte(credential.User)) == 1
		c.stranger.Line(level, text, append([]any{"from", from, "admin", known}, args...)...)
	}
	wait := func(status int, after time.Duration, text string) {
		w.Header().Set("Retry-After", strconv.Itoa(api.Seconds(after)))
		refuse(status, text)
	}
	if err := c.started(r.Context()); err != nil {
		var damaged *credential.DamagedError
		if errors.As(err, &damaged) {
			log(slog.LevelWarn, "login refused", "error", err)
			closed()
			return
		}
		wait(http.StatusServiceUnavailable, 2*time.Second, words.T("login.starting"))
		return
	}
	after, done := c.guard.Enter(from, name, c.devices.Known(r, name), code != "", time.Now())
	if done == nil {
		log(slog.LevelInfo, "login delayed", "wait", after.Round(time.Millisecond))
		wait(http.StatusTooManyRequests, after, words.T("login.wait", api.Seconds(after)))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkWait)
	defer cancel()
	a, stamp, err := c.cfg.Admin.Login(ctx, name, password, code)
	done(err == nil, time.Now())
	who := admin.Actor{Name: a.Name, Authority: a.Authority, From: from.String(), Via: "web"}
	var damaged *credential.DamagedError
	switch {
	case err == nil:
	case errors.Is(err, admin.ErrCode):
		if code == "" {
			c.steps.begin(w, name, password, time.Now())
			http.Redirect(w, r, "/login/code", http.StatusSeeOther)
			return
		}
		log(slog.LevelWarn, "login failed: wrong code")
		c.cfg.Admin.Note(admin.Actor{Name: name, From: from.String(), Via: "web"}, "login.code", "", err)
		refuse(http.StatusForbidden, words.T("code.wrong"))
		return
	case errors.Is(err, admin.ErrWrong):
		log(slog.LevelWarn, "login failed")
		// A name that no account has may be a password.
		if _, _, err := c.cfg.Admin.Stamp(name); err != nil {
			name = ""
		}
		c.cfg.Admin.Note(admin.Actor{Name: name, From: from.String(), Via: "web"}, "login.failed", "", err)
		refuse(http.StatusForbidden, words.T("login.wrong"))
		return
	case errors.As(err, &damaged):
		closed()
		return
	default:
		log(slog.LevelWarn, "login not checked", "error", err)
		wait(http.StatusServiceUnavailable, guard.BusyWait, words.T("login.wait", api.Seconds(guard.BusyWait)))
		return
	}
	c.cfg.Log.Info("login", "from", from, "name", a.Name)
	c.cfg.Admin.Note(who, "login", "", nil)
	c.sessions.End(c.sessions.Token(r))
	c.sessions.SetCookie(w, c.sessions.Create(look.Session{Name: a.Name, Stamp: stamp, Address: from.String(), Agent: agent(r)}, time.Now()))
	c.devices.Mark(w, r, a.Name)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// started waits a little for the administrator's password while the appliance
// is starting.
func (c *Console) started(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, noneWait)
	defer cancel()
	for {
		_, _, err := c.cfg.Admin.Stamp(credential.User)
		if !errors.Is(err, credential.ErrNone) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

type codeData struct {
	Error string
}

// codePage asks for the code of the second factor.
func (c *Console) codePage(w http.ResponseWriter, r *http.Request) {
	if _, _, ok := c.steps.get(r, time.Now()); !ok {
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return
	}
	c.showCode(w, r, http.StatusOK, codeData{})
}

func (c *Console) showCode(w http.ResponseWriter, r *http.Request, status int, d codeData) {
	words := c.words(r)
	c.render(w, status, "code", look.Page{Words: words, Title: words.T("code.title"), Path: "/login/code", Narrow: true, Data: d})
}

func (c *Console) code(w http.ResponseWriter, r *http.Request) {
	form, ok := c.form(w, r)
	if !ok {
		return
	}
	name, password, ok := c.steps.get(r, time.Now())
	if !ok {
		http.Redirect(w, r, "/login?ended=step", http.StatusSeeOther)
		return
	}
	code := strings.Join(strings.Fields(form.Get("code")), "")
	if code == "" {
		c.showCode(w, r, http.StatusUnprocessableEntity, codeData{c.words(r).T("fault.required")})
		return
	}
	c.tryLogin(stepWriter{w, c, r}, r, name, password, code, func(status int, text string) {
		c.showCode(w, r, status, codeData{text})
	}, func() { http.Redirect(w, r, "/login", http.StatusSeeOther) })
}

// stepWriter ends the step when the login that it belongs to is answered with a
// redirection: it has succeeded, or is over.
type stepWriter struct {
	http.ResponseWriter
	c *Console
	r *http.Request
}

func (s stepWriter) WriteHeader(status int) {
	if status == http.StatusSeeOther {
		s.c.steps.end(s.ResponseWriter, s.r)
	}
	s.ResponseWriter.WriteHeader(status)
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	if s, a, _ := c.session(r, false); s != nil {
		c.cfg.Log.Info("logout", "from", remote(r), "name", s.Name)
		c.cfg.Admin.Note(admin.Actor{Name: a.Name, Authority: a.Authority, From: remote(r).String(), Via: "web"}, "logout", "", nil)
	}
	c.sessions.End(c.sessions.Token(r))
	c.sessions.SetCookie(w, "")
	http.Redirect(w, r, "/login?ended=logout", http.StatusSeeOther)
}

// ownPages are those of whoever is logged in.
func (c *Console) ownPages() []page {
	return []page{
		{Path: "/password", Title: "password.title", Template: "password", Narrow: true, Forced: true, Scripts: []string{"reveal.js"},
			Load: func(k *call) (any, error) {
				return passwordData{Forced: k.account.MustChange, Name: k.account.Name}, nil
			}},
	}
}

type passwordData struct {
	Forced bool
	Name   string
}

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

	"github.com/parley-meet/parley/services/internal/credential"
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
	if s, _ := c.session(r, true); s != nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	words := c.words(r)
	d := loginData{Name: credential.User}
	if why := "ended." + r.URL.Query().Get("ended"); words.Has(why) {
		d.Notice = words.T(why)
	}
	_, err := c.cfg.Store.Current()
	var damaged *credential.DamagedError
	switch {
	case errors.As(err, &damaged):
		d.Closed, d.Notice = true, words.T("login.damaged")
	case err != nil:
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
	name, password := form.Get("name"), form.Get("password")
	words, from := c.words(r), remote(r)
	// A wrong name is not logged: somebody may have typed the password there.
	admin := subtle.ConstantTimeCompare([]byte(name), []byte(credential.User)) == 1
	log := func(level slog.Level, text string, args ...any) {
		c.stranger.line(level, text, append([]any{"from", from, "admin", admin}, args...)...)
	}
	d := loginData{Name: cut(name, 64)}
	refuse := func(status int, after time.Duration, text string) {
		if after > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(seconds(after)))
		}
		d.Error = text
		c.showLogin(w, r, status, d)
	}
	cred, err := c.credential(r.Context())
	var damaged *credential.DamagedError
	switch {
	case errors.As(err, &damaged):
		log(slog.LevelWarn, "login refused", "error", err)
		d.Closed, d.Notice = true, words.T("login.damaged")
		c.showLogin(w, r, http.StatusServiceUnavailable, d)
		return
	case err != nil:
		refuse(http.StatusServiceUnavailable, 2*time.Second, words.T("login.starting"))
		return
	}
	wait, done := c.guard.enter(from, time.Now())
	if done == nil {
		log(slog.LevelInfo, "login delayed", "wait", wait.Round(time.Millisecond))
		refuse(http.StatusTooManyRequests, wait, words.T("login.wait", seconds(wait)))
		return
	}
	good, err := c.check(r.Context(), cred, password)
	good = good && admin
	done(good, time.Now())
	if err != nil {
		log(slog.LevelWarn, "login not checked", "error", err)
		refuse(http.StatusServiceUnavailable, busyWait, words.T("login.wait", seconds(busyWait)))
		return
	}
	if !good {
		log(slog.LevelWarn, "login failed")
		refuse(http.StatusForbidden, 0, words.T("login.wrong"))
		return
	}
	c.cfg.Log.Info("login", "from", from, "name", name)
	if old, err := r.Cookie(sessionCookie); err == nil {
		c.sessions.end(old.Value)
	}
	setSession(w, c.sessions.create(name, cred, time.Now()))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// check reports whether the password is the administrator's. It is asked with a
// wrong name too, which so takes as long as a wrong password.
func (c *Console) check(ctx context.Context, cred credential.Credential, password string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	return c.cfg.Hasher.Verify(ctx, cred, password)
}

// credential returns the one in force, for which it waits a little while the
// appliance is starting.
func (c *Console) credential(ctx context.Context) (credential.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, noneWait)
	defer cancel()
	for {
		cred, err := c.cfg.Store.Current()
		if !errors.Is(err, credential.ErrNone) {
			return cred, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return cred, err
		}
	}
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	if token, err := r.Cookie(sessionCookie); err == nil {
		if s, _ := c.session(r, false); s != nil {
			c.cfg.Log.Info("logout", "from", remote(r), "name", s.user)
		}
		c.sessions.end(token.Value)
	}
	setSession(w, "")
	http.Redirect(w, r, "/login?ended=logout", http.StatusSeeOther)
}

// seconds rounds up.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

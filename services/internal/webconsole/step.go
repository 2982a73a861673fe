package webconsole

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"
)

// stepCookie holds the token of a login that waits for its code.
const stepCookie = "__Host-parley-step"

// Bounds of logins that wait for a code.
const (
	stepLimit = 3 * time.Minute
	maxSteps  = 64 // for a new one the oldest is forgotten
)

// steps are logins whose password was right and whose code is missing. The
// password is kept in memory for that long, so that nobody has to type it twice;
// it is checked again together with the code, which keeps one place that decides.
type steps struct {
	mu sync.Mutex
	m  map[[sha256.Size]byte]step
}

type step struct {
	name, password string
	since          time.Time
}

func newSteps() *steps { return &steps{m: map[[sha256.Size]byte]step{}} }

// begin keeps a login and gives the browser its token.
func (t *steps) begin(w http.ResponseWriter, name, password string, now time.Time) {
	token := rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	var oldest [sha256.Size]byte
	var at time.Time
	for k, s := range t.m {
		if now.Sub(s.since) >= stepLimit {
			delete(t.m, k)
		} else if at.IsZero() || s.since.Before(at) {
			oldest, at = k, s.since
		}
	}
	if len(t.m) >= maxSteps {
		delete(t.m, oldest)
	}
	t.m[sha256.Sum256([]byte(token))] = step{name, password, now}
	http.SetCookie(w, &http.Cookie{Name: stepCookie, Value: token, Path: "/", MaxAge: int(stepLimit.Seconds()),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

// get returns the login of the request's token.
func (t *steps) get(r *http.Request, now time.Time) (name, password string, ok bool) {
	c, err := r.Cookie(stepCookie)
	if err != nil {
		return "", "", false
	}
	k := sha256.Sum256([]byte(c.Value))
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.m[k]
	if ok && now.Sub(s.since) >= stepLimit {
		delete(t.m, k)
		ok = false
	}
	if !ok {
		return "", "", false
	}
	return s.name, s.password, true
}

// end forgets the request's login.
func (t *steps) end(w http.ResponseWriter, r *http.Request) {
	c, err := r.Cookie(stepCookie)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, sha256.Sum256([]byte(c.Value)))
	http.SetCookie(w, &http.Cookie{Name: stepCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

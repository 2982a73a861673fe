package webconsole

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/credential"
)

// sessionCookie holds a session's token. Cookies do not know ports: what listens
// on 443 of this machine gets it too, and must not log it.
const sessionCookie = "__Host-parley-console"

// Bounds of sessions.
const (
	idleLimit     = 30 * time.Minute // without a request that the user made
	absoluteLimit = 12 * time.Hour
	maxSessions   = 64 // at a new login the one longest unused is ended
	tokenSize     = 32 // bytes
)

// ended says why a session is no more; the login page tells.
type ended string

const (
	endedIdle     ended = "idle"
	endedExpired  ended = "expired"
	endedPassword ended = "password" // it was changed
	endedUnknown  ended = "unknown"  // ended elsewhere, or the console restarted
)

// flash is the result of an operation, told once.
type flash struct {
	Bad  bool
	Text string
}

// session is one login. What may change is guarded by the table's lock.
type session struct {
	user    string
	cred    credential.Credential
	created time.Time
	used    time.Time
	streams int
	flash   *flash
}

// sessions are the logins, by the hash of their token: whoever reads the memory
// of the table has no token. It is pure: the time comes in.
type sessions struct {
	mu sync.Mutex
	m  map[[sha256.Size]byte]*session
}

func newSessions() *sessions { return &sessions{m: map[[sha256.Size]byte]*session{}} }

// create makes a session and returns its token.
func (t *sessions) create(user string, cred credential.Credential, now time.Time) string {
	var b [tokenSize]byte
	rand.Read(b[:])
	token := base64.RawURLEncoding.EncodeToString(b[:])
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.m) >= maxSessions {
		t.dropLocked(now)
	}
	t.m[sha256.Sum256([]byte(token))] = &session{user: user, cred: cred, created: now, used: now}
	return token
}

// dropLocked ends what has expired, or else the session longest unused.
func (t *sessions) dropLocked(now time.Time) {
	var oldest [sha256.Size]byte
	var at time.Time
	dropped := false
	for k, s := range t.m {
		if s.expired(now) != "" {
			delete(t.m, k)
			dropped = true
		} else if at.IsZero() || s.used.Before(at) {
			oldest, at = k, s.used
		}
	}
	if !dropped {
		delete(t.m, oldest)
	}
}

func (s *session) expired(now time.Time) ended {
	switch {
	case now.Sub(s.created) >= absoluteLimit:
		return endedExpired
	case now.Sub(s.used) >= idleLimit:
		return endedIdle
	}
	return ""
}

// get returns the token's session, or why there is none. cred is the credential
// in force.
func (t *sessions) get(token string, cred credential.Credential, now time.Time, touch bool) (*session, ended) {
	k := sha256.Sum256([]byte(token))
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.m[k]
	if s == nil {
		return nil, endedUnknown
	}
	why := s.expired(now)
	if !s.cred.Same(cred) {
		why = endedPassword
	}
	if why != "" {
		if touch {
			delete(t.m, k) // a stream leaves it for the page to find, which tells the user why
		}
		return nil, why
	}
	if touch && now.After(s.used) {
		s.used = now
	}
	return s, ""
}

// end ends the token's session.
func (t *sessions) end(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, sha256.Sum256([]byte(token)))
}

func (t *sessions) endAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.m)
}

// stream counts a stream in, if the session may have another.
func (t *sessions) stream(s *session) (release func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.streams >= maxSessionStreams {
		return nil, false
	}
	s.streams++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		s.streams--
	}, true
}

func (t *sessions) setFlash(s *session, f *flash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.flash = f
}

func (t *sessions) takeFlash(s *session) *flash {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := s.flash
	s.flash = nil
	return f
}

func setSession(w http.ResponseWriter, token string) {
	c := &http.Cookie{Name: sessionCookie, Value: token, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

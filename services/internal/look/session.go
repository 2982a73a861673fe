package look

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of sessions.
const (
	IdleLimit     = 30 * time.Minute // without a request that the user made
	AbsoluteLimit = 12 * time.Hour
	MaxSessions   = 64 // at a new login the one longest unused is ended
	// MaxOwn is how many of those one account has, so that nobody ends others'
	// sessions by logging in again and again.
	MaxOwn    = 16
	tokenSize = 32 // bytes
)

// Ended says why a session is no more; the login page tells.
type Ended string

// Why a session ended.
const (
	EndedIdle    Ended = "idle"
	EndedExpired Ended = "expired"
	EndedStamp   Ended = "password" // the account's password, second factor or authority is another
	EndedUnknown Ended = "unknown"  // ended elsewhere, or the process restarted
)

// Flash is the result of an operation, told once.
type Flash struct {
	Bad  bool
	Text string
}

// Session is one login. Its fields are read-only.
type Session struct {
	ID      string // for people and the API: says nothing of the token
	Name    string // of the account
	Stamp   string // the account's, at login
	Address string
	Agent   string // what the browser calls itself
	Made    time.Time

	key     [sha256.Size]byte
	used    time.Time // these are guarded by the table's lock
	streams int
	flash   *Flash
}

// SessionInfo is a session as others may see it.
type SessionInfo struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Address string    `json:"address"`
	Agent   string    `json:"agent"`
	Made    time.Time `json:"made"`
	Used    time.Time `json:"used"`
	Own     bool      `json:"own"` // of the caller
}

// Sessions are the logins, by the hash of their token: whoever reads the memory
// of the table has no token. It is pure: the time comes in.
type Sessions struct {
	cookie  string
	streams int

	mu sync.Mutex
	m  map[[sha256.Size]byte]*Session
}

// NewSessions returns a table whose tokens are in the cookie of that name, and
// whose sessions may have so many streams open at a time.
func NewSessions(cookie string, streams int) *Sessions {
	return &Sessions{cookie: cookie, streams: streams, m: map[[sha256.Size]byte]*Session{}}
}

// Create makes a session and returns its token. s has the name, the stamp, the
// address and the agent. Its time is now, or that of the session it goes on for.
func (t *Sessions) Create(s Session, now time.Time) string {
	var b [tokenSize + 6]byte
	rand.Read(b[:])
	token := base64.RawURLEncoding.EncodeToString(b[:tokenSize])
	s.ID, s.key, s.used = hex.EncodeToString(b[tokenSize:]), sha256.Sum256([]byte(token)), now
	s.streams, s.flash = 0, nil
	if s.Made.IsZero() {
		s.Made = now
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	own := func(o *Session) bool { return o.Name == s.Name }
	for t.countLocked(own) >= MaxOwn {
		t.dropLocked(now, own)
	}
	for len(t.m) >= MaxSessions {
		t.dropLocked(now, func(*Session) bool { return true })
	}
	t.m[s.key] = &s
	return token
}

func (t *Sessions) countLocked(which func(*Session) bool) (n int) {
	for _, s := range t.m {
		if which(s) {
			n++
		}
	}
	return n
}

// dropLocked ends, of such sessions, those that have expired, or else the one
// longest unused. There must be one.
func (t *Sessions) dropLocked(now time.Time, which func(*Session) bool) {
	var oldest *Session
	dropped := false
	for k, s := range t.m {
		if !which(s) {
			continue
		}
		if s.expiredLocked(now) != "" {
			delete(t.m, k)
			dropped = true
		} else if oldest == nil || s.used.Before(oldest.used) {
			oldest = s
		}
	}
	if !dropped {
		delete(t.m, oldest.key)
	}
}

func (s *Session) expiredLocked(now time.Time) Ended {
	switch {
	case now.Sub(s.Made) >= AbsoluteLimit:
		return EndedExpired
	case now.Sub(s.used) >= IdleLimit:
		return EndedIdle
	}
	return ""
}

// Get returns the token's session, or why there is none. stamp returns that of
// the account now, and false when there is no such account or nobody can say. A
// touch counts as the user's doing; what a page does by itself does not.
func (t *Sessions) Get(token string, now time.Time, touch bool, stamp func(name string) (string, bool)) (*Session, Ended) {
	k := sha256.Sum256([]byte(token))
	t.mu.Lock()
	s := t.m[k]
	t.mu.Unlock()
	if s == nil {
		return nil, EndedUnknown
	}
	is, ok := stamp(s.Name) // may read files
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[k] != s { // ended meanwhile
		return nil, EndedUnknown
	}
	why := s.expiredLocked(now)
	if !ok || is != s.Stamp {
		why = EndedStamp
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

// End ends the token's session.
func (t *Sessions) End(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, sha256.Sum256([]byte(token)))
}

// Revoke ends the session of that ID, and reports whose it was.
func (t *Sessions) Revoke(id string) (name string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, s := range t.m {
		if s.ID == id {
			delete(t.m, k)
			return s.Name, true
		}
	}
	return "", false
}

// Owner returns whose session has the ID.
func (t *Sessions) Owner(id string) (name string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.m {
		if s.ID == id {
			return s.Name, true
		}
	}
	return "", false
}

// List returns those that have not expired, the one used last first.
func (t *Sessions) List(own *Session, now time.Time) []SessionInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []SessionInfo{}
	for _, s := range t.m {
		if s.expiredLocked(now) == "" {
			list = append(list, SessionInfo{s.ID, s.Name, s.Address, s.Agent, s.Made.UTC(), s.used.UTC(), s == own})
		}
	}
	slices.SortFunc(list, func(a, b SessionInfo) int {
		if d := b.Used.Compare(a.Used); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// Len returns how many there are, expired ones too.
func (t *Sessions) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}

// Stream counts a stream in, if the session may have another.
func (t *Sessions) Stream(s *Session) (release func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.streams >= t.streams {
		return nil, false
	}
	s.streams++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		s.streams--
	}, true
}

// SetFlash leaves a result for the session's next page.
func (t *Sessions) SetFlash(s *Session, f *Flash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.flash = f
}

// TakeFlash returns the result that waits, once; nil is none.
func (t *Sessions) TakeFlash(s *Session) *Flash {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := s.flash
	s.flash = nil
	return f
}

// Token returns the request's token, or "".
func (t *Sessions) Token(r *http.Request) string {
	c, err := r.Cookie(t.cookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// SetCookie gives the browser the token; "" takes it away.
func (t *Sessions) SetCookie(w http.ResponseWriter, token string) {
	c := &http.Cookie{Name: t.cookie, Value: token, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

package people

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Bounds of sessions. They are kept in the database, so that each instance knows
// them, by the hash of their token, so that a copy of it is good for nothing.
const (
	IdleLimit     = 12 * time.Hour
	AbsoluteLimit = 7 * 24 * time.Hour
	maxSessions   = 32 // of a person; the one longest unused is ended
	// touchEvery is how often the use of a session is written down.
	touchEvery = time.Minute
)

// Session is one sign-in.
type Session struct {
	ID   string
	User User
	sum  string
	used time.Time
}

// Sum returns what is kept of a token or a link's secret: 256 random bits need no
// slow hash.
func Sum(secret string) string {
	s := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(s[:])
}

// NewSecret makes a secret of 256 random bits, in unpadded base64url.
func NewSecret() string {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // never fails (crypto/rand)
	}
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// CreateSession makes a session of a person and returns its token.
func CreateSession(ctx context.Context, db *store.DB, userID, address, agent string, now time.Time) (token string, err error) {
	token = NewSecret()
	return token, db.Write(ctx, func(tx *store.Tx) error { return InsertSession(tx, token, userID, address, agent, now) })
}

// InsertSession makes a session with a token of NewSecret; a person has
// maxSessions at most.
func InsertSession(tx *store.Tx, token, userID, address, agent string, now time.Time) error {
	var stamp int64
	if err := tx.Row("SELECT stamp FROM users WHERE id = ?", userID).Scan(&stamp); err != nil {
		return err
	}
	if _, err := tx.Exec("INSERT INTO sessions (sum, id, user_id, stamp, address, agent, made, used) VALUES (?,?,?,?,?,?,?,?)",
		Sum(token), store.NewID(), userID, stamp, address, agent, store.Millis(now), store.Millis(now)); err != nil {
		return err
	}
	if _, err := tx.Exec("UPDATE users SET used = ? WHERE id = ?", store.Millis(now), userID); err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM sessions WHERE made < ?", store.Millis(now.Add(-AbsoluteLimit))); err != nil {
		return err
	}
	_, err := tx.Exec("DELETE FROM sessions WHERE user_id = ? AND sum NOT IN (SELECT sum FROM sessions WHERE user_id = ? ORDER BY used DESC, made DESC LIMIT ?)", userID, userID, maxSessions)
	return err
}

// GetSession returns a token's session while it is good, or nil and why not. A
// touch counts as the person's doing; what a page does by itself does not.
func GetSession(ctx context.Context, db *store.DB, token string, now time.Time, touch bool) (*Session, look.Ended, error) {
	var s Session
	var why look.Ended
	err := db.Read(ctx, func(tx *store.Tx) error {
		s, why = Session{sum: Sum(token)}, ""
		var user string
		var stamp, made, used, current, suspended int64
		err := tx.Row("SELECT s.id, s.user_id, s.stamp, s.made, s.used, u.stamp, COALESCE(a.suspended, 0) FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN accounts a ON a.id = u.account_id WHERE s.sum = ?", s.sum).
			Scan(&s.ID, &user, &stamp, &made, &used, &current, &suspended)
		if errors.Is(err, store.ErrNotFound) {
			why = look.EndedUnknown
			return nil
		}
		if err != nil {
			return err
		}
		s.used = store.FromMillis(used)
		switch {
		case now.Sub(store.FromMillis(made)) > AbsoluteLimit:
			why = look.EndedExpired
		case now.Sub(s.used) > IdleLimit:
			why = look.EndedIdle
		case stamp != current, suspended != 0:
			why = look.EndedStamp
		}
		if why != "" {
			return nil
		}
		if s.User, err = GetUser(tx, user); err == nil && s.User.State != Active {
			why = look.EndedStamp
		}
		return err
	})
	if err != nil || why != "" {
		return nil, why, err
	}
	if touch && now.Sub(s.used) > touchEvery {
		err = db.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec("UPDATE sessions SET used = ? WHERE sum = ?", store.Millis(now), s.sum)
			return err
		})
	}
	return &s, "", err
}

// EndSession ends the session of a token.
func EndSession(ctx context.Context, db *store.DB, token string) error {
	return db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM sessions WHERE sum = ?", Sum(token))
		return err
	})
}

// Audit writes a line of the audit log in the transaction of what it is about:
// neither is there without the other. details are what people need to know of
// it; never a secret.
func Audit(tx *store.Tx, who Actor, action, target string, details map[string]any) error {
	var account any
	if who.Account != "" {
		account = who.Account
	}
	text := ""
	if len(details) > 0 {
		b, err := json.Marshal(details)
		if err != nil {
			return err
		}
		text = string(b)
	}
	_, err := tx.Exec("INSERT INTO audit (id, account_id, at, user_id, name, via, address, action, target, details) VALUES (?,?,?,?,?,?,?,?,?,?)",
		store.NewID(), account, store.Millis(time.Now()), who.User, who.Name, who.Via, who.From, action, target, text)
	return err
}

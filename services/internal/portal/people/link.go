package people

import (
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Purpose is what a one-time link is for. The page that acts on it has its name:
// "/verify#SECRET". The secret is in the fragment, which no server and no proxy
// on the way sees, and following the link changes nothing: a mail scanner may.
type Purpose string

// The purposes.
const (
	LinkVerify Purpose = "verify" // of an address at sign-up
	LinkEmail  Purpose = "email"  // of a new address; data has it
	LinkReset  Purpose = "reset"  // of a password
	LinkInvite Purpose = "invite" // of a person who is in an account, State Invited
	LinkSignup Purpose = "signup" // of a new account where sign-up is by invitation
	LinkSetup  Purpose = "setup"  // of the first operator
)

// Lives of links.
const (
	VerifyTTL = 24 * time.Hour
	ResetTTL  = time.Hour
	InviteTTL = 7 * 24 * time.Hour
	SetupTTL  = 24 * time.Hour
)

// ErrLink means that a link is not good: unknown, used, or too old.
var ErrLink = errors.New("the link is not good any more")

// Link is a one-time link.
type Link struct {
	User    string // id; "" is nobody yet
	Data    string
	Expires time.Time
}

// Path is where a link leads: to the page of its purpose, with the secret in the
// fragment. Mails put the portal's own URL before it.
func (p Purpose) Path(secret string) string { return "/" + string(p) + "#" + secret }

// MakeLink makes a link and returns its secret, which is kept nowhere. user is
// whom it is about, or ""; data is the purpose's own. Others of the same purpose
// and user stay good: who asks twice may follow either mail.
func MakeLink(tx *store.Tx, purpose Purpose, user, data string, ttl time.Duration) (secret string, err error) {
	now := time.Now()
	if _, err := tx.Exec("DELETE FROM links WHERE expires < ?", store.Millis(now)); err != nil {
		return "", err
	}
	var whom any
	if user != "" {
		whom = user
	}
	secret = NewSecret()
	_, err = tx.Exec("INSERT INTO links (sum, purpose, user_id, data, created, expires) VALUES (?,?,?,?,?,?)",
		Sum(secret), string(purpose), whom, data, store.Millis(now), store.Millis(now.Add(ttl)))
	return secret, err
}

// LookLink returns a link that is good, and leaves it so.
func LookLink(tx *store.Tx, purpose Purpose, secret string, now time.Time) (Link, error) {
	var l Link
	var expires int64
	err := tx.Row("SELECT COALESCE(user_id, ''), data, expires FROM links WHERE sum = ? AND purpose = ?", Sum(secret), string(purpose)).Scan(&l.User, &l.Data, &expires)
	l.Expires = store.FromMillis(expires)
	if errors.Is(err, store.ErrNotFound) || err == nil && !now.Before(l.Expires) {
		return Link{}, ErrLink
	}
	return l, err
}

// TakeLink returns a link that is good and uses it up. Of two who take it at once
// one gets it.
func TakeLink(tx *store.Tx, purpose Purpose, secret string, now time.Time) (Link, error) {
	l, err := LookLink(tx, purpose, secret, now)
	if err != nil {
		return l, err
	}
	n, err := tx.Exec("DELETE FROM links WHERE sum = ?", Sum(secret))
	if err == nil && n != 1 {
		err = ErrLink
	}
	return l, err
}

// DropLinks makes all links of a purpose and person bad.
func DropLinks(tx *store.Tx, purpose Purpose, user string) error {
	_, err := tx.Exec("DELETE FROM links WHERE purpose = ? AND user_id = ?", string(purpose), user)
	return err
}

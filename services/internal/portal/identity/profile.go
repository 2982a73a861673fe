package identity

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // names of time zones, on machines without them

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/mail"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Profile is what a person says of himself.
type Profile struct {
	Name     string `json:"name"`
	Language string `json:"language"` // of mails; "" is the browser's
	Timezone string `json:"timezone"` // IANA name; "" is the browser's
}

// SetProfile changes it.
func (s *Service) SetProfile(ctx context.Context, who people.Actor, in Profile) error {
	var l fault.List
	text(&l, "name", &in.Name)
	if in.Language != "" {
		if _, ok := look.ParseLanguage(in.Language); !ok {
			l.Add("language", "choice", api.Cut(in.Language, 20), "en, ru")
		}
	}
	in.Timezone = strings.TrimSpace(in.Timezone)
	// "Local" is this machine's, which is nobody's.
	if _, err := time.LoadLocation(in.Timezone); err != nil || in.Timezone == "Local" {
		l.Add("timezone", "timezone", api.Cut(in.Timezone, 60))
	}
	if err := l.Err(); err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec("UPDATE users SET name = ?, name_key = ?, language = ?, timezone = ? WHERE id = ?", in.Name, people.Key(in.Name), in.Language, in.Timezone, who.User); err != nil {
			return err
		}
		return people.Audit(tx, who, "profile", who.User, nil)
	})
}

// SetPassword changes a person's own password. His other sessions end: the
// caller makes this browser a new one (Enter).
func (s *Service) SetPassword(ctx context.Context, who people.Actor, current, password string) error {
	if err := s.Prove(ctx, who.User, current); err != nil {
		for i, f := range fault.Of(err) {
			if f.Field == "password" {
				fault.Of(err)[i].Field = "current"
			}
		}
		return err
	}
	if current == password {
		return fault.New("new", "password-unchanged")
	}
	hash, err := s.hash(ctx, "new", password)
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := setPassword(tx, who.User, hash, time.Now()); err != nil {
			return err
		}
		if err := people.DropLinks(tx, people.LinkReset, who.User); err != nil {
			return err
		}
		u, err := people.GetUser(tx, who.User)
		if err != nil {
			return err
		}
		if err := s.tellPassword(tx, u); err != nil {
			return err
		}
		return people.Audit(tx, who, "password.change", who.User, nil)
	})
}

// tellPassword tells a person by mail that his password was changed. An outbox
// that is full does not keep him from changing it.
func (s *Service) tellPassword(tx *store.Tx, u people.User) error {
	err := mail.Queue(tx, s.vault, mail.Message{To: u.Email, Kind: "password", Language: u.Language, Link: "/reset"}, people.VerifyTTL)
	if errors.Is(err, mail.ErrMany) || errors.Is(err, mail.ErrFull) {
		return nil
	}
	return err
}

// AskEmail sends a link to a new address, and a warning to the old one.
func (s *Service) AskEmail(ctx context.Context, who people.Actor, email, password, language string) error {
	email, err := people.NormalizeEmail("email", email)
	if err != nil {
		return err
	}
	if err := s.Prove(ctx, who.User, password); err != nil {
		return err
	}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		u, err := people.GetUser(tx, who.User)
		if err != nil {
			return err
		}
		if email == u.Email {
			return fault.New("email", "email-same")
		}
		if u.Language != "" {
			language = u.Language
		}
		m := mail.Message{To: email, Kind: "email", Language: language}
		// An address that somebody has is told in the mail alone.
		if had, err := people.FindUser(tx, email); err == nil && !unclaimed(had) {
			m.Kind, m.Link = "taken", "/reset"
		} else if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		} else {
			if err := people.DropLinks(tx, people.LinkEmail, u.ID); err != nil {
				return err
			}
			secret, err := people.MakeLink(tx, people.LinkEmail, u.ID, email, people.VerifyTTL)
			if err != nil {
				return err
			}
			m.Link = people.LinkEmail.Path(secret)
		}
		if err := mail.Queue(tx, s.vault, m, people.VerifyTTL); err != nil {
			return queueFault(err)
		}
		err = mail.Queue(tx, s.vault, mail.Message{To: u.Email, Kind: "moved", Language: language, Args: []string{email}, Link: "/reset"}, people.VerifyTTL)
		if err != nil {
			return queueFault(err)
		}
		return people.Audit(tx, who, "email.ask", u.ID, map[string]any{"to": email})
	})
	return err
}

// ConfirmEmail changes the address that a link was sent to. All sessions end.
func (s *Service) ConfirmEmail(ctx context.Context, link, from string) error {
	return linkFault(s.db.Write(ctx, func(tx *store.Tx) error {
		l, err := people.TakeLink(tx, people.LinkEmail, link, time.Now())
		if err != nil {
			return err
		}
		u, err := people.GetUser(tx, l.User)
		if err != nil {
			return err
		}
		if u.State != people.Active {
			return people.ErrLink
		}
		if err := claim(tx, l.Data, from); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE users SET email = ?, stamp = stamp + 1 WHERE id = ?", l.Data, u.ID); err != nil {
			return err
		}
		if err := people.DropLinks(tx, people.LinkReset, u.ID); err != nil { // went to the old address
			return err
		}
		return people.Audit(tx, ActorOf(u, from, "web"), "email.change", u.ID, map[string]any{"from": u.Email, "to": l.Data})
	}))
}

// SessionInfo is a session of a person.
type SessionInfo struct {
	ID      string    `json:"id"`
	Address string    `json:"address"`
	Agent   string    `json:"agent"`
	Made    time.Time `json:"made"`
	Used    time.Time `json:"used"`
	Own     bool      `json:"own"` // of the request
}

// Sessions lists a person's sessions that are good, the one last used first. own
// is the id of the caller's.
func (s *Service) Sessions(ctx context.Context, who people.Actor, own string) ([]SessionInfo, error) {
	out := []SessionInfo{}
	now := time.Now()
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		out = out[:0]
		return tx.Each(func(scan func(...any) error) error {
			var i SessionInfo
			var made, used int64
			if err := scan(&i.ID, &i.Address, &i.Agent, &made, &used); err != nil {
				return err
			}
			i.Made, i.Used, i.Own = store.FromMillis(made), store.FromMillis(used), i.ID == own
			out = append(out, i)
			return nil
		}, "SELECT s.id, s.address, s.agent, s.made, s.used FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.user_id = ? AND s.stamp = u.stamp AND s.used > ? AND s.made > ? ORDER BY s.used DESC, s.id DESC",
			who.User, store.Millis(now.Add(-people.IdleLimit)), store.Millis(now.Add(-people.AbsoluteLimit)))
	})
	return out, err
}

// EndSession ends one of a person's own sessions.
func (s *Service) EndSession(ctx context.Context, who people.Actor, id string) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec("DELETE FROM sessions WHERE id = ? AND user_id = ?", id, who.User)
		if err == nil && n == 0 {
			err = people.ErrUnknown
		}
		if err != nil {
			return err
		}
		return people.Audit(tx, who, "session.end", id, nil)
	})
}

// EndOthers ends all of a person's sessions but one.
func (s *Service) EndOthers(ctx context.Context, who people.Actor, own string) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec("DELETE FROM sessions WHERE user_id = ? AND id <> ?", who.User, own); err != nil {
			return err
		}
		return people.Audit(tx, who, "session.others", who.User, nil)
	})
}

// Bounds of API tokens.
const (
	maxTokens = 50 // of a person
	maxDays   = 3650
	// TokenPrefix begins a token, so that scanners of leaked secrets know it.
	TokenPrefix = "parley_"
	tokenTouch  = time.Minute
)

// Token is an API token, without its secret.
type Token struct {
	ID      string    `json:"id"`
	Title   string    `json:"title"`
	Scopes  []string  `json:"scopes"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
	Used    time.Time `json:"used,omitzero"`    // to the minute
}

// TokenInput is a token to make.
type TokenInput struct {
	Title  string   `json:"title"`
	Scopes []string `json:"scopes"`
	Days   string   `json:"days"` // of life; "" is for ever
}

// Tokens lists a person's own tokens.
func (s *Service) Tokens(ctx context.Context, who people.Actor) ([]Token, error) {
	out := []Token{}
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		out = out[:0]
		return tx.Each(func(scan func(...any) error) error {
			var t Token
			var scopes string
			var created, expires, used int64
			if err := scan(&t.ID, &t.Title, &scopes, &created, &expires, &used); err != nil {
				return err
			}
			t.Scopes, t.Created, t.Expires, t.Used = strings.Fields(scopes), store.FromMillis(created), store.FromMillis(expires), store.FromMillis(used)
			out = append(out, t)
			return nil
		}, "SELECT id, title, scopes, created, expires, used FROM api_tokens WHERE user_id = ? ORDER BY id", who.User)
	})
	return out, err
}

// AddToken makes a token of the person, with scopes of known, and returns its
// secret, which is kept nowhere.
func (s *Service) AddToken(ctx context.Context, who people.Actor, in TokenInput, known []string) (Token, string, error) {
	var l fault.List
	text(&l, "title", &in.Title)
	slices.Sort(in.Scopes)
	in.Scopes = slices.Compact(in.Scopes)
	if len(in.Scopes) == 0 {
		l.Add("scopes", "required")
	}
	for _, sc := range in.Scopes {
		if !slices.Contains(known, sc) {
			l.Add("scopes", "choice", api.Cut(sc, 40), strings.Join(known, ", "))
			break
		}
	}
	now := time.Now()
	var expires time.Time
	if d := strings.TrimSpace(in.Days); d != "" {
		n, err := strconv.Atoi(d)
		if err != nil || n < 1 || n > maxDays {
			l.Add("days", "number", api.Cut(d, 20), 1, maxDays)
		}
		expires = now.AddDate(0, 0, n)
	}
	if err := l.Err(); err != nil {
		return Token{}, "", err
	}
	t := Token{ID: store.NewID(), Title: in.Title, Scopes: in.Scopes, Created: now, Expires: expires}
	secret := TokenPrefix + people.NewSecret()
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM api_tokens WHERE user_id = ?", who.User).Scan(&n); err != nil {
			return err
		}
		if n >= maxTokens {
			return fault.New("", "token-many", maxTokens)
		}
		var account any
		if who.Account != "" {
			account = who.Account
		}
		if _, err := tx.Exec("INSERT INTO api_tokens (id, account_id, user_id, title, scopes, sum, created, expires) VALUES (?,?,?,?,?,?,?,?)",
			t.ID, account, who.User, t.Title, strings.Join(t.Scopes, " "), people.Sum(secret), store.Millis(t.Created), store.Millis(t.Expires)); err != nil {
			return err
		}
		return people.Audit(tx, who, "token.add", t.ID, map[string]any{"title": t.Title, "scopes": t.Scopes})
	})
	return t, secret, err
}

// RemoveToken ends one of a person's own tokens, at once in all instances.
func (s *Service) RemoveToken(ctx context.Context, who people.Actor, id string) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec("DELETE FROM api_tokens WHERE id = ? AND user_id = ?", id, who.User)
		if err == nil && n == 0 {
			err = people.ErrUnknown
		}
		if err != nil {
			return err
		}
		return people.Audit(tx, who, "token.remove", id, nil)
	})
}

// TokenActor returns who a token stands for: the person as he is now, so that a
// change of his role, or a suspension, counts at once. A token that is not good
// is people.ErrUnknown. An operator's token does not operate the portal.
func (s *Service) TokenActor(ctx context.Context, secret, from string) (people.Actor, error) {
	var who people.Actor
	var used int64
	now := time.Now()
	if !strings.HasPrefix(secret, TokenPrefix) || len(secret) > 100 {
		return who, people.ErrUnknown
	}
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		var id, user, account, scopes string
		var expires int64
		err := tx.Row("SELECT id, user_id, COALESCE(account_id, ''), scopes, expires, used FROM api_tokens WHERE sum = ?", people.Sum(secret)).Scan(&id, &user, &account, &scopes, &expires, &used)
		if errors.Is(err, store.ErrNotFound) || err == nil && expires != 0 && expires <= store.Millis(now) {
			return people.ErrUnknown
		}
		if err != nil {
			return err
		}
		u, err := people.GetUser(tx, user)
		if err != nil {
			return err
		}
		// One who moved to another account does not take the token along.
		if u.Account != account || mayEnter(tx, u) != nil {
			return people.ErrUnknown
		}
		who = ActorOf(u, from, "api")
		who.Token, who.Scopes, who.Operator = id, strings.Fields(scopes), false
		return nil
	})
	if err != nil || now.Sub(store.FromMillis(used)) < tokenTouch {
		return who, err
	}
	minute := now.Truncate(tokenTouch)
	return who, s.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE api_tokens SET used = ? WHERE id = ?", store.Millis(minute), who.Token)
		return err
	})
}

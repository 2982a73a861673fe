package zones

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Token is an enrolment token without its secret. It enrols appliances into its
// zone, and is good for nothing else.
type Token struct {
	ID      string    `json:"id"`
	Zone    string    `json:"zone"` // id
	Title   string    `json:"title"`
	By      string    `json:"by"` // who made it
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // never
	Revoked time.Time `json:"revoked,omitzero"`
	Used    time.Time `json:"used,omitzero"` // last
	// Appliances is how many that were enrolled with it are in the zone.
	Appliances int `json:"appliances"`
}

// Good reports whether it enrols at a time.
func (t Token) Good(now time.Time) bool {
	return t.Revoked.IsZero() && (t.Expires.IsZero() || now.Before(t.Expires))
}

// MadeToken is a new token with what the administrator carries to the appliance,
// which is not kept.
type MadeToken struct {
	Token  Token  `json:"token"`
	Secret string `json:"secret"` // package link's Token, as text
}

// TokenInput is a token to make.
type TokenInput struct {
	Zone  string `json:"zone"`
	Title string `json:"title"`
	Days  int    `json:"days"` // that it lives; 0 is without end
}

// keptEnded is how long tokens that ended are shown.
const keptEnded = 90 * 24 * time.Hour

// maxDays is the longest life of a token that ends.
const maxDays = 3650

// maxGrace is how long, in hours, a rotated token may go on.
const maxGrace = 24 * 7

const tokenColumns = `t.id, t.zone_id, t.title, t.created_by, t.created, t.expires, t.revoked, t.used,
(SELECT COUNT(*) FROM appliances p WHERE p.token_id = t.id AND p.revoked = 0)`

func scanToken(scan func(...any) error) (Token, error) {
	var t Token
	var created, expires, revoked, used int64
	err := scan(&t.ID, &t.Zone, &t.Title, &t.By, &created, &expires, &revoked, &used, &t.Appliances)
	t.Created, t.Expires, t.Revoked, t.Used = store.FromMillis(created), store.FromMillis(expires), store.FromMillis(revoked), store.FromMillis(used)
	return t, err
}

// Tokens lists the tokens of the actor's account, the newest first.
func (s *Service) Tokens(ctx context.Context, who people.Actor) ([]Token, error) {
	var out []Token
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		out = nil
		return tx.Each(func(scan func(...any) error) error {
			t, err := scanToken(scan)
			out = append(out, t)
			return err
		}, "SELECT "+tokenColumns+" FROM enrol_tokens t WHERE t.account_id = ? ORDER BY t.created DESC, t.id DESC", who.Account)
	})
	return out, err
}

// AddToken makes a token.
func (s *Service) AddToken(ctx context.Context, who people.Actor, in TokenInput) (MadeToken, error) {
	title, err := cleanName("title", in.Title)
	if err != nil {
		return MadeToken{}, err
	}
	if in.Days < 0 || in.Days > maxDays {
		return MadeToken{}, fault.New("days", "number", strconv.Itoa(in.Days), 0, maxDays)
	}
	var m MadeToken
	err = s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if _, err := enabled(tx, who.Account); err != nil {
			return err
		}
		z, err := own(tx, who, in.Zone)
		if errors.Is(err, people.ErrUnknown) {
			return fault.New("zone", "unknown-choice")
		}
		if err != nil {
			return err
		}
		if err := s.room(tx, who); err != nil {
			return err
		}
		expires := time.Time{}
		if in.Days > 0 {
			expires = s.now().Add(time.Duration(in.Days) * 24 * time.Hour)
		}
		if m, err = s.addToken(tx, who, z.ID, title, expires); err != nil {
			return err
		}
		return people.Audit(tx, who, "token.add", m.Token.ID, map[string]any{"title": title, "zone": z.Name})
	})
	return m, err
}

// room makes room for a token: those that ended long ago go, and of the others
// there is a bound.
func (s *Service) room(tx *store.Tx, who people.Actor) error {
	now := s.now()
	old := store.Millis(now.Add(-keptEnded))
	if _, err := tx.Exec("DELETE FROM enrol_tokens WHERE account_id = ? AND (revoked <> 0 AND revoked < ? OR expires <> 0 AND expires < ?)", who.Account, old, old); err != nil {
		return err
	}
	var n int
	if err := tx.Row("SELECT COUNT(*) FROM enrol_tokens WHERE account_id = ? AND revoked = 0 AND (expires = 0 OR expires > ?)", who.Account, store.Millis(now)).Scan(&n); err != nil {
		return err
	}
	if n >= maxTokens {
		return fault.New("", "token-many", maxTokens)
	}
	return nil
}

func (s *Service) addToken(tx *store.Tx, who people.Actor, zone, title string, expires time.Time) (MadeToken, error) {
	secret, err := link.NewSecret(rand.Reader)
	if err != nil {
		return MadeToken{}, err
	}
	t := Token{ID: store.NewID(), Zone: zone, Title: title, By: who.Name, Created: s.now().UTC(), Expires: expires}
	_, err = tx.Exec("INSERT INTO enrol_tokens (id, account_id, zone_id, title, sum, created_by, created, expires) VALUES (?,?,?,?,?,?,?,?)",
		t.ID, who.Account, zone, title, people.Sum(secret), who.Name, store.Millis(t.Created), store.Millis(expires))
	text := link.Token{URL: strings.TrimSuffix(s.cfg.URL.String(), "/"), Pin: s.cfg.Pin, ID: t.ID, Secret: secret}
	return MadeToken{t, text.String()}, err
}

func ownToken(tx *store.Tx, who people.Actor, id string) (Token, error) {
	t, err := scanToken(tx.Row("SELECT "+tokenColumns+" FROM enrol_tokens t WHERE t.id = ? AND t.account_id = ?", id, who.Account).Scan)
	if errors.Is(err, store.ErrNotFound) {
		return t, people.ErrUnknown
	}
	return t, err
}

// RotateToken makes a new secret, as a token of its own, and lets the old one end
// after hours: a machine that is being set up with it can still be finished.
func (s *Service) RotateToken(ctx context.Context, who people.Actor, id string, hours int) (MadeToken, error) {
	if hours < 0 || hours > maxGrace {
		return MadeToken{}, fault.New("hours", "number", strconv.Itoa(hours), 0, maxGrace)
	}
	var m MadeToken
	err := s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if _, err := enabled(tx, who.Account); err != nil {
			return err
		}
		t, err := ownToken(tx, who, id)
		if err != nil {
			return err
		}
		if !t.Good(s.now()) {
			return fault.New("", "token-ended")
		}
		if err := s.room(tx, who); err != nil {
			return err
		}
		expires := t.Expires
		if !expires.IsZero() {
			expires = s.now().Add(t.Expires.Sub(t.Created))
		}
		if m, err = s.addToken(tx, who, t.Zone, t.Title, expires); err != nil {
			return err
		}
		end := s.now().Add(time.Duration(hours) * time.Hour)
		if !t.Expires.IsZero() && t.Expires.Before(end) {
			end = t.Expires
		}
		if _, err := tx.Exec("UPDATE enrol_tokens SET expires = ? WHERE id = ?", store.Millis(end), id); err != nil {
			return err
		}
		return people.Audit(tx, who, "token.rotate", id, map[string]any{"title": t.Title, "new": m.Token.ID})
	})
	return m, err
}

// RevokeToken ends a token at once; with appliances, those that it enrolled are
// taken out too.
func (s *Service) RevokeToken(ctx context.Context, who people.Actor, id string, appliances bool) error {
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		t, err := ownToken(tx, who, id)
		if err != nil {
			return err
		}
		now := store.Millis(s.now())
		if _, err := tx.Exec("UPDATE enrol_tokens SET revoked = ? WHERE id = ? AND revoked = 0", now, id); err != nil {
			return err
		}
		if appliances {
			list, err := listAppliances(tx, "p.token_id = ? AND p.revoked = 0", id)
			if err != nil {
				return err
			}
			for _, a := range list {
				if err := s.revoke(tx, a.ID, a.Zone); err != nil {
					return err
				}
			}
		}
		return people.Audit(tx, who, "token.revoke", id, map[string]any{"title": t.Title, "appliances": appliances})
	})
}

// ErrToken means that a token does not enrol: nobody has it, it has ended, or it
// was revoked.
var ErrToken = errors.New("the token is not good: it was revoked, has ended, or is another portal's")

// Enrol takes an appliance into a token's zone and issues its first certificate.
func (s *Service) Enrol(ctx context.Context, secret string, from netip.Addr, in link.EnrolRequest) (link.EnrolAnswer, error) {
	if t, err := link.ParseToken(secret); err == nil {
		secret = t.Secret
	}
	var out link.EnrolAnswer
	// Before anything else: a stranger is not told what is wrong with the rest, and
	// has no signature checked.
	if err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error { _, err := s.goodToken(tx, secret); return err }); err != nil {
		return out, err
	}
	var l fault.List
	if in.Role != link.Controller && in.Role != link.Router {
		l.Add("role", "choice", cleanText(string(in.Role), 20), "controller, router")
	}
	host, version := cleanText(in.Host, 63), cleanText(in.Version, 64)
	if host == "" {
		l.Add("host", "required")
	}
	req, err := ParseRequest(in.Request)
	if err != nil {
		l = append(l, fault.Of(err)...)
	}
	if err := l.Err(); err != nil {
		return out, err
	}
	err = s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		t, err := s.goodToken(tx, secret)
		if err != nil {
			return err
		}
		z, err := Get(tx, t.Zone)
		if err != nil {
			return err
		}
		a, err := enabled(tx, z.Account)
		if err != nil {
			return err
		}
		if !a.Suspended.IsZero() {
			return ErrOff
		}
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM appliances WHERE zone_id = ? AND revoked = 0", z.ID).Scan(&n); err != nil {
			return err
		}
		if n >= maxAppliances {
			return fault.New("", "appliances-many", maxAppliances)
		}
		id := store.NewID()
		c, list, err := s.issue(tx, id, z, in.Role, req.PublicKey)
		if err != nil {
			return err
		}
		now := store.Millis(s.now())
		if _, err := tx.Exec("INSERT INTO appliances (id, account_id, zone_id, role, name, version, serial, expires, enrolled, token_id) VALUES (?,?,?,?,?,?,?,?,?,?)",
			id, z.Account, z.ID, string(in.Role), host, version, c.SerialNumber.Text(16), store.Millis(c.NotAfter), now, t.ID); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE enrol_tokens SET used = ? WHERE id = ?", now, t.ID); err != nil {
			return err
		}
		if err := Touch(tx, z.ID); err != nil {
			return err
		}
		out = link.EnrolAnswer{Appliance: id, Zone: z.ID, Certificate: leafPEM(c) + chain(list[:1]), Authority: chain(list),
			Portals: []string{"wss://" + s.cfg.URL.Host + "/link"}}
		return people.Audit(tx, people.Actor{Account: z.Account, User: "", Name: host, From: from.String(), Via: "link"},
			"appliance.enrol", id, map[string]any{"role": string(in.Role), "host": host, "zone": z.Name, "token": t.Title})
	})
	return out, err
}

// goodToken returns the token of a secret while it enrols, or ErrToken.
func (s *Service) goodToken(tx *store.Tx, secret string) (Token, error) {
	t, err := scanToken(tx.Row("SELECT "+tokenColumns+" FROM enrol_tokens t WHERE t.sum = ?", people.Sum(secret)).Scan)
	if errors.Is(err, store.ErrNotFound) || err == nil && !t.Good(s.now()) {
		err = ErrToken
	}
	return t, err
}

// cleanText cuts what an appliance says of itself.
func cleanText(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most])
	}
	return strings.TrimSpace(s)
}

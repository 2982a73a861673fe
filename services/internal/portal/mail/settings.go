package mail

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Security is how the connection to the mail server is protected.
type Security string

// The kinds.
const (
	STARTTLS Security = "starttls" // RFC 3207, demanded; port 587
	TLS      Security = "tls"      // from the first byte (RFC 8314); port 465
	Plain    Security = "plain"    // for a relay on this machine, without a password
)

// Settings are how mails are sent.
type Settings struct {
	Host     string   `json:"host"` // "" turns it off
	Port     int      `json:"port"`
	Security Security `json:"security"`
	User     string   `json:"user"`
	From     string   `json:"from"`
	// Password is written and never read; a nil one leaves it as it is.
	Password *string `json:"password,omitempty"`
	Set      bool    `json:"passwordSet"` // there is one; of an answer alone
}

const settingName = "smtp"

// Load returns the settings, with their password when it is wanted.
func (b *Box) load(tx *store.Tx, secret bool) (Settings, error) {
	s := Settings{Port: 587, Security: STARTTLS}
	var sealed []byte
	err := tx.Row("SELECT value FROM settings WHERE name = ?", settingName).Scan(&sealed)
	if errors.Is(err, store.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	text, err := b.vault.Open("setting", settingName, sealed)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	s.Set = s.Password != nil && *s.Password != ""
	if !secret {
		s.Password = nil
	}
	return s, err
}

// Settings returns the settings without the password.
func (b *Box) Settings(ctx context.Context, who people.Actor) (s Settings, err error) {
	if !who.Operator {
		return s, people.ErrDenied
	}
	err = b.db.Read(ctx, func(tx *store.Tx) error { s, err = b.load(tx, false); return err })
	return s, err
}

// On reports whether there is a mail server.
func (b *Box) On(ctx context.Context) (on bool, err error) {
	err = b.db.Read(ctx, func(tx *store.Tx) error {
		s, err := b.load(tx, false)
		on = s.Host != ""
		return err
	})
	return on, err
}

// SetSettings changes the settings.
func (b *Box) SetSettings(ctx context.Context, who people.Actor, in Settings) error {
	if !who.Operator {
		return people.ErrDenied
	}
	in.Host, in.User, in.From = strings.ToLower(strings.TrimSpace(in.Host)), strings.TrimSpace(in.User), strings.TrimSpace(in.From)
	return b.db.Write(ctx, func(tx *store.Tx) error {
		old, err := b.load(tx, true)
		if err != nil {
			old = Settings{} // sealed with another key: to be set anew
		}
		s := in
		s.Set = false
		// A password goes to the server that it was typed for, and to no other.
		if s.Password == nil && s.Host == old.Host && s.User == old.User {
			s.Password = old.Password
		}
		if err := s.check(); err != nil {
			return err
		}
		text, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if err := put(tx, settingName, b.vault.Seal("setting", settingName, text)); err != nil {
			return err
		}
		// What waits is tried with the new settings at once.
		if _, err := tx.Exec("UPDATE mails SET next = 0 WHERE sent = 0"); err != nil {
			return err
		}
		tx.Notify(topic, "")
		return people.Audit(tx, who, "mail.settings", s.Host, map[string]any{"port": s.Port, "security": s.Security})
	})
}

// put writes a setting.
func put(tx *store.Tx, name string, value []byte) error {
	_, err := tx.Exec("INSERT INTO settings (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
	return err
}

func (s *Settings) check() error {
	var l fault.List
	if s.Host == "" { // it is off; what stays is what a form shows
		if !slices.Contains([]Security{"", STARTTLS, TLS, Plain}, s.Security) {
			l.Add("security", "choice", api.Cut(string(s.Security), 20), "starttls, tls, plain")
		}
		from := s.From
		if from != "" {
			var err error
			if from, err = people.NormalizeEmail("from", from); err != nil {
				l = append(l, fault.Of(err)...)
			}
		}
		*s = Settings{Port: min(max(s.Port, 0), 65535), Security: s.Security, From: from}
		return l.Err()
	}
	if !hostName(s.Host) {
		l.Add("host", "mail-host", api.Cut(s.Host, 100))
	}
	if s.Port < 1 || s.Port > 65535 {
		l.Add("port", "number", strconv.Itoa(s.Port), 1, 65535)
	}
	switch s.Security {
	case STARTTLS, TLS:
	case Plain:
		if s.Password != nil && *s.Password != "" {
			l.Add("security", "mail-plain")
		}
	default:
		l.Add("security", "choice", api.Cut(string(s.Security), 20), "starttls, tls, plain")
	}
	if len(s.User) > 255 || api.Cut(s.User, 255) != s.User {
		l.Add("user", "control-character")
	}
	if s.Password != nil && len(*s.Password) > 255 {
		l.Add("password", "long", 255)
	}
	from, err := people.NormalizeEmail("from", s.From)
	if err != nil {
		l = append(l, fault.Of(err)...)
	}
	s.From = from
	return l.Err()
}

func hostName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if len(s) > 253 || net.ParseIP(s) != nil {
		return false
	}
	for l := range strings.SplitSeq(s, ".") {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
	}
	return true
}

package mail

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// Times of sending.
const (
	sendLimit = time.Minute     // of one attempt
	lease     = 2 * time.Minute // how long an instance has a mail; more than sendLimit
	lookEvery = 15 * time.Second
	firstWait = 30 * time.Second // after the first failure; doubles
	mostWait  = 30 * time.Minute
)

// Box sends what is queued.
type Box struct {
	db    *store.DB
	vault *vault.Vault
	url   *url.URL
	log   *slog.Logger
	tls   *tls.Config // nil: the usual authorities, as the machine has them
}

// NewBox returns the outbox of a portal at url. log may be nil.
func NewBox(db *store.DB, v *vault.Vault, url *url.URL, log *slog.Logger) *Box {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Box{db: db, vault: v, url: url, log: log}
}

// base is what links begin with.
func (b *Box) base() string { return b.url.Scheme + "://" + b.url.Host }

// Run sends mails until ctx ends. Instances take turns by the database: one has
// a mail at a time.
func (b *Box) Run(ctx context.Context) error {
	sub := b.db.Subscribe(topic)
	defer sub.Close()
	timer := time.NewTicker(lookEvery)
	defer timer.Stop()
	for {
		for {
			more, err := b.one(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				b.log.Error("mail", "error", err)
			}
			if !more || err != nil {
				break
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-sub.C:
		}
	}
}

// one sends the mail that waits longest, and reports whether there was one.
func (b *Box) one(ctx context.Context) (bool, error) {
	var id, to, kind string
	var sealed []byte
	var attempts int
	var s Settings
	now := time.Now()
	due := false
	// A look costs no write while nothing waits.
	err := b.db.Read(ctx, func(tx *store.Tx) error {
		var n int
		err := tx.Row("SELECT COUNT(*) FROM mails WHERE next <= ? AND sent = 0 OR sent > 0 AND created < ? OR expires < ?",
			store.Millis(now), store.Millis(now.Add(-keep)), store.Millis(now)).Scan(&n)
		due = n > 0
		return err
	})
	if err != nil || !due {
		return false, err
	}
	err = b.db.Write(ctx, func(tx *store.Tx) (err error) {
		id, sealed = "", nil
		if _, err := tx.Exec("DELETE FROM mails WHERE sent > 0 AND created < ? OR sent = 0 AND expires < ?", store.Millis(now.Add(-keep)), store.Millis(now)); err != nil {
			return err
		}
		if s, err = b.load(tx, true); err != nil || s.Host == "" {
			return err
		}
		// Invitations last: an account may have sent thousands at once.
		err = tx.Row("SELECT id, address, kind, message, attempts FROM mails WHERE sent = 0 AND next <= ? ORDER BY CASE WHEN kind = 'invite' THEN 1 ELSE 0 END, next, id LIMIT 1", store.Millis(now)).
			Scan(&id, &to, &kind, &sealed, &attempts)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		attempts++
		_, err = tx.Exec("UPDATE mails SET next = ?, attempts = ? WHERE id = ?", store.Millis(now.Add(lease)), attempts, id)
		return err
	})
	if err != nil || id == "" {
		return false, err
	}
	m, err := b.open(id, to, kind, sealed)
	if err == nil {
		err = b.send(ctx, s, m, id)
	}
	if ctx.Err() != nil {
		return false, nil // another instance, or the next start, has it after the lease
	}
	return true, b.note(ctx, id, kind, attempts, err)
}

func (b *Box) open(id, to, kind string, sealed []byte) (Message, error) {
	m := Message{To: to, Kind: kind}
	text, err := b.vault.Open(sealPurpose, id, sealed)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	return m, err
}

// note writes down what came of an attempt.
func (b *Box) note(ctx context.Context, id, kind string, attempts int, failed error) error {
	now := time.Now()
	if failed == nil {
		b.log.Info("mail sent", "id", id, "kind", kind, "attempts", attempts)
		return b.db.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec("UPDATE mails SET sent = ?, message = NULL, error = '' WHERE id = ?", store.Millis(now), id)
			return err
		})
	}
	next := now.Add(backoff(attempts))
	b.log.Warn("mail not sent", "id", id, "kind", kind, "attempts", attempts, "error", api.Cut(failed.Error(), 300))
	return b.db.Write(ctx, func(tx *store.Tx) error {
		if gone(failed) { // it stays to be seen until it expires
			_, err := tx.Exec("UPDATE mails SET next = expires + 1, error = ? WHERE id = ?", api.Cut(failed.Error(), 300), id)
			return err
		}
		_, err := tx.Exec("UPDATE mails SET next = ?, error = ? WHERE id = ?", store.Millis(next), api.Cut(failed.Error(), 300), id)
		return err
	})
}

// backoff is how long to wait after the nth failed attempt.
func backoff(n int) time.Duration {
	return min(mostWait, firstWait<<min(max(n-1, 0), 10))
}

// gone reports whether the server refused this mail for good (a reply of 5yz).
// Refusals of the sign-in are not that: the settings may be mended.
func gone(err error) bool {
	var refused *mail.SendError
	return errors.As(err, &refused) && !refused.IsTemp() && refused.ErrorCode() >= 550 && refused.ErrorCode() < 560 &&
		(refused.Reason == mail.ErrSMTPRcptTo || refused.Reason == mail.ErrSMTPDataClose)
}

func (b *Box) send(ctx context.Context, s Settings, m Message, id string) error {
	subject, body := m.text(b.base())
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.FromFormat("Parley", s.From); err != nil {
		return fmt.Errorf("from %s: %w", s.From, err)
	}
	if err := msg.To(m.To); err != nil {
		return fmt.Errorf("to: %w", err)
	}
	msg.Subject(subject)
	msg.SetMessageIDWithValue(id + "@" + b.url.Hostname())
	msg.SetDate()
	// RFC 3834: no answers of machines, please.
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(mail.TypeTextPlain, body)
	opts := []mail.Option{mail.WithPort(s.Port), mail.WithTimeout(sendLimit / 3), mail.WithHELO(b.helo()), mail.WithoutNoop()}
	switch s.Security {
	case TLS:
		opts = append(opts, mail.WithSSL())
	case STARTTLS:
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory))
	default:
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS))
	}
	c := &tls.Config{}
	if b.tls != nil {
		c = b.tls.Clone()
	}
	c.MinVersion, c.ServerName = tls.VersionTLS12, s.Host
	opts = append(opts, mail.WithTLSConfig(c))
	if s.User != "" && s.Password != nil && *s.Password != "" {
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(s.User), mail.WithPassword(*s.Password))
	}
	client, err := mail.NewClient(s.Host, opts...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	return client.DialAndSendWithContext(ctx, msg)
}

func (b *Box) helo() string {
	if h := b.url.Hostname(); hostName(h) {
		return h
	}
	return "localhost"
}

// Test sends a mail to the operator now, and returns what the server said when it
// did not take it.
func (b *Box) Test(ctx context.Context, who people.Actor, language string) error {
	if !who.Operator {
		return people.ErrDenied
	}
	var s Settings
	err := b.db.Read(ctx, func(tx *store.Tx) (err error) { s, err = b.load(tx, true); return err })
	if err != nil {
		return err
	}
	if s.Host == "" {
		return ErrOff
	}
	if err := b.send(ctx, s, Message{To: who.Email, Kind: "test", Language: language}, store.NewID()); err != nil {
		return &ServerError{api.Cut(err.Error(), 300)}
	}
	return nil
}

// ErrOff means that there is no mail server.
var ErrOff = errors.New("there is no mail server")

// ServerError is what a mail server said, or why it was not reached.
type ServerError struct{ Text string }

func (e *ServerError) Error() string { return e.Text }

// Waiting is a mail that is not sent.
type Waiting struct {
	ID       string    `json:"id"`
	To       string    `json:"to"`
	Kind     string    `json:"kind"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	Attempts int       `json:"attempts"`
	Error    string    `json:"error,omitempty"`
}

// maxListed is how many mails Waiting lists, the newest.
const maxListed = 200

// Waiting lists mails that are not sent, newest first.
func (b *Box) Waiting(ctx context.Context, who people.Actor) ([]Waiting, error) {
	if !who.Operator {
		return nil, people.ErrDenied
	}
	out := []Waiting{}
	err := b.db.Read(ctx, func(tx *store.Tx) error {
		out = out[:0]
		return tx.Each(func(scan func(...any) error) error {
			var w Waiting
			var created, expires int64
			if err := scan(&w.ID, &w.To, &w.Kind, &created, &expires, &w.Attempts, &w.Error); err != nil {
				return err
			}
			w.Created, w.Expires = store.FromMillis(created), store.FromMillis(expires)
			out = append(out, w)
			return nil
		}, "SELECT id, address, kind, created, expires, attempts, error FROM mails WHERE sent = 0 AND expires > ? ORDER BY created DESC, id DESC LIMIT ?", store.Millis(time.Now()), maxListed)
	})
	return out, err
}

// Reveal returns the text of a mail that waits, with its link, for an operator
// who hands it over himself. The audit log tells.
func (b *Box) Reveal(ctx context.Context, who people.Actor, id string) (text string, err error) {
	if !who.Operator {
		return "", people.ErrDenied
	}
	err = b.db.Write(ctx, func(tx *store.Tx) error {
		var to, kind string
		var sealed []byte
		err := tx.Row("SELECT address, kind, message FROM mails WHERE id = ? AND sent = 0 AND expires > ?", id, store.Millis(time.Now())).Scan(&to, &kind, &sealed)
		if errors.Is(err, store.ErrNotFound) {
			return people.ErrUnknown
		}
		if err != nil {
			return err
		}
		m, err := b.open(id, to, kind, sealed)
		if err != nil {
			return err
		}
		if _, text = m.text(b.base()); m.Link != "" {
			text = b.base() + m.Link
		}
		return people.Audit(tx, who, "mail.reveal", to, map[string]any{"kind": kind})
	})
	return text, err
}

// Drop takes a mail that waits out of the outbox; its link stays good.
func (b *Box) Drop(ctx context.Context, who people.Actor, id string) error {
	if !who.Operator {
		return people.ErrDenied
	}
	return b.db.Write(ctx, func(tx *store.Tx) error {
		var to string
		err := tx.Row("SELECT address FROM mails WHERE id = ? AND sent = 0", id).Scan(&to)
		if errors.Is(err, store.ErrNotFound) {
			return people.ErrUnknown
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM mails WHERE id = ?", id); err != nil {
			return err
		}
		return people.Audit(tx, who, "mail.drop", to, nil)
	})
}

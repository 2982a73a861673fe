// Package mail is the portal's mail: an outbox in the database, and the task that
// empties it over SMTP (RFC 5321).
//
//	Queue ─▶ waits ─▶ an instance has it for lease ─▶ sent, kept for a day without its text
//	           ▲              │
//	           └── backoff ◀──┴─▶ refused for good, or too old: gone
//
// A mail is queued in the transaction of what it tells of: neither is there
// without the other, and a process that dies loses none. One that dies between
// the server's yes and the note of it sends that mail twice. Texts hold one-time
// links and are sealed (package vault). Without a mail server nothing is sent and
// nothing is trusted instead: mails wait, and the portal's operators can see
// their links (Reveal, which is audited).
package mail

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

//go:embed words/*.json
var wordFiles embed.FS

var dictionary = look.MustLoad(wordFiles, "words")

// Bounds of the outbox.
const (
	// maxWaiting is how many mails that are not sent there can be; then Queue
	// returns ErrFull. Invitations take half of it, so that no account keeps
	// others' resets out, and warnings have room beyond it.
	maxWaiting = 10000
	// maxHour is how many mails one address gets in an hour, sent or waiting;
	// more are left out, so that nobody's mailbox is flooded by strangers who type
	// his address into forms.
	maxHour = 6
	maxArg  = 80 // characters of what an argument may bring into a text
	keep    = 24 * time.Hour
)

// warnings are the kinds that tell a person what was done with his account.
var warnings = [2]string{"password", "moved"}

// Errors of Queue.
var (
	ErrFull = errors.New("the outbox is full")
	// ErrMany means that the address has had enough mails in this hour.
	ErrMany = errors.New("too many mails to this address in an hour")
)

// topic is what instances are told of when a mail waits.
const topic = "mails"

// Message is a mail: the texts "mail.KIND.subject" and "mail.KIND.body" of the
// language, with Args in the body, and then the link.
type Message struct {
	To       string   `json:"-"` // an address as people.NormalizeEmail returns it
	Kind     string   `json:"-"` // "verify", "reset", "invite" …: a text must be there
	Language string   `json:"language,omitempty"`
	Args     []string `json:"args,omitempty"`
	// Link is a path of the portal, "/verify#SECRET"; "" is none. The portal's own
	// URL is put before it when it is sent; no request has a say in it.
	Link string `json:"link,omitempty"`
}

// sealPurpose is what texts are sealed for.
const sealPurpose = "mail"

// Queue puts a mail into the outbox, in the transaction of what it tells of. It
// is not sent after ttl: its link would be bad.
func Queue(tx *store.Tx, v *vault.Vault, m Message, ttl time.Duration) error {
	if !dictionary[look.Languages[0]].Has("mail." + m.Kind + ".subject") {
		return fmt.Errorf("mail: there is no text for %q", m.Kind)
	}
	now := time.Now()
	var n int
	// Warnings are counted by themselves: strangers who ask for resets must not
	// keep back the one that tells of their success.
	among, most := "NOT IN", maxWaiting
	switch m.Kind {
	case warnings[0], warnings[1]:
		among, most = "IN", 2*maxWaiting
	case "invite": // an account's admin sends as many as he likes
		most = maxWaiting / 2
	}
	if err := tx.Row("SELECT COUNT(*) FROM mails WHERE address = ? AND created > ? AND kind "+among+" (?, ?)",
		m.To, store.Millis(now.Add(-time.Hour)), warnings[0], warnings[1]).Scan(&n); err != nil {
		return err
	}
	if n >= maxHour {
		return ErrMany
	}
	if err := tx.Row("SELECT COUNT(*) FROM mails WHERE sent = 0").Scan(&n); err != nil {
		return err
	}
	if n >= most {
		return ErrFull
	}
	for i, a := range m.Args {
		m.Args[i] = api.Cut(a, maxArg)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	id := store.NewID()
	_, err = tx.Exec("INSERT INTO mails (id, address, kind, message, created, expires, next) VALUES (?,?,?,?,?,?,?)",
		id, m.To, m.Kind, v.Seal(sealPurpose, id, text), store.Millis(now), store.Millis(now.Add(ttl)), store.Millis(now))
	tx.Notify(topic, "")
	return err
}

// words returns the texts of a message's language.
func (m Message) words() *look.Words {
	l, ok := look.ParseLanguage(m.Language)
	if !ok {
		l = look.Languages[0]
	}
	return dictionary[l]
}

// text returns subject and body.
func (m Message) text(base string) (subject, body string) {
	w := m.words()
	args := make([]any, len(m.Args))
	for i, a := range m.Args {
		args[i] = a
	}
	body = w.T("mail."+m.Kind+".body", args...) + "\n"
	if m.Link != "" {
		body += "\n" + base + m.Link + "\n"
	}
	if after := "mail." + m.Kind + ".after"; w.Has(after) {
		body += "\n" + w.T(after) + "\n"
	}
	return w.T("mail." + m.Kind + ".subject"), body + "\n-- \nParley, " + base + "\n"
}

// Done takes mails of a kind to an address out of the outbox, when what they ask
// for has been done: nobody waits for them any more.
func Done(tx *store.Tx, to, kind string) error {
	_, err := tx.Exec("DELETE FROM mails WHERE address = ? AND kind = ? AND sent = 0", to, kind)
	return err
}

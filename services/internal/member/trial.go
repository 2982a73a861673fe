package member

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Bounds of trial meetings, which an appliance without a portal holds.
const (
	MaxTrials = 16
	TrialLife = 24 * time.Hour
	MaxTopic  = 120 // characters
	MaxName   = 60  // characters of a person's name, as on the portal

	codeSize = 18 // random bytes of a code, that is 24 characters
	// Tickets for all trial meetings together: a class that comes at once gets in.
	ticketBurst = 200
	ticketEvery = 50 * time.Millisecond
)

// Errors of trial meetings.
var (
	ErrPortal  = errors.New("trial meeting: the appliance has a token, and its meetings are the portal's")
	ErrTrials  = errors.New("trial meeting: too many are open")
	ErrNoTrial = errors.New("trial meeting: no such link, or it has ended")
	ErrRate    = errors.New("trial meeting: too many people come at once")
)

// Trial is a trial meeting. Its codes are what lets in, and no log has them.
type Trial struct {
	Meeting string    `json:"meeting"` // id
	Number  string    `json:"number"`  // as of the portal's meetings
	Topic   string    `json:"topic"`
	Host    string    `json:"host"`  // code of the hosts' link
	Guest   string    `json:"guest"` // code of the guests' link
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// TrialLink returns the link of a code at a controller: HOST, or HOST:PORT. The
// code stands in the fragment, which no browser sends and no proxy logs; the
// page gives it to the controller, with a name, for a ticket.
func TrialLink(host, code string) string { return "https://" + host + "/#trial=" + code }

// Trials holds trial meetings; *Member does, on a controller.
type Trials interface {
	// NewTrial makes a trial meeting: ErrPortal, ErrTrials, or a fault.List about
	// the topic. An empty topic is allowed.
	NewTrial(topic string, now time.Time) (Trial, error)
	// Trials returns those that have not ended, the newest first.
	Trials(now time.Time) []Trial
	// EndTrial forgets a meeting, so that nobody new comes in: ErrNoTrial.
	EndTrial(meeting string) error
	// TrialTicket returns a ticket, good once and for ticket.TTL, for who comes with
	// a link's code, and the name that others see: ErrNoTrial, ErrRate, ErrPortal, or a
	// fault.List about the name. The caller slows down who guesses.
	TrialTicket(code, name string, now time.Time) (string, error)
}

var _ Trials = (*Member)(nil)

func checkTrials(list []Trial) error {
	if len(list) > MaxTrials {
		return fmt.Errorf("%d trial meetings, want at most %d", len(list), MaxTrials)
	}
	for _, t := range list {
		if t.Meeting == "" || t.Number == "" || len(t.Host) < codeSize || len(t.Guest) < codeSize || utf8.RuneCountInString(t.Topic) > MaxTopic {
			return fmt.Errorf("trial meeting %.40q is incomplete", t.Meeting)
		}
		if life := t.Expires.Sub(t.Created); life <= 0 || life > TrialLife {
			return fmt.Errorf("trial meeting %.40q lives for %v, want at most %v", t.Meeting, life, TrialLife)
		}
	}
	return nil
}

// text returns what a person gave as a line of text.
func text(field, s string, most int) (string, fault.List) {
	s = strings.TrimSpace(s)
	switch {
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", fault.New(field, "control-character")
	case utf8.RuneCountInString(s) > most:
		return "", fault.New(field, "long", most)
	}
	return s, nil
}

// newTrial makes a meeting; its codes and number are random.
func newTrial(topic string, now time.Time) (Trial, error) {
	t := Trial{Meeting: ticket.NewID(), Topic: topic, Created: now.UTC().Truncate(time.Second)}
	t.Expires = t.Created.Add(TrialLife)
	for _, code := range []*string{&t.Host, &t.Guest} {
		b := make([]byte, codeSize)
		if _, err := rand.Read(b); err != nil {
			return t, err
		}
		*code = base64.RawURLEncoding.EncodeToString(b)
	}
	const least, most = 10_000_000_000, 99_999_999_999 // 11 digits
	n, err := rand.Int(rand.Reader, big.NewInt(most-least+1))
	if err != nil {
		return t, err
	}
	t.Number = n.Add(n, big.NewInt(least)).String()
	return t, nil
}

func (t Trial) over(now time.Time) bool { return !now.Before(t.Expires) }

// changeTrials changes the meetings that are kept: do gets those that have not
// ended.
func (m *Member) changeTrials(now time.Time, do func([]Trial) ([]Trial, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.own == nil {
		return ErrPortal
	}
	var list []Trial
	_, err := m.keep.own.Change(context.Background(), m.own.zone, func(z *ownZone) error {
		var err error
		list, err = do(slices.DeleteFunc(slices.Clone(z.Trials), func(t Trial) bool { return t.over(now) }))
		z.Trials = list
		return err
	})
	if err == nil {
		m.own.zone.Trials = list
	}
	return err
}

// NewTrial is Trials's.
func (m *Member) NewTrial(topic string, now time.Time) (Trial, error) {
	topic, wrong := text("topic", topic, MaxTopic)
	if wrong != nil {
		return Trial{}, wrong
	}
	t, err := newTrial(topic, now)
	if err != nil {
		return Trial{}, err
	}
	err = m.changeTrials(now, func(list []Trial) ([]Trial, error) {
		if len(list) >= MaxTrials {
			return nil, ErrTrials
		}
		return append(list, t), nil
	})
	if err != nil {
		return Trial{}, err
	}
	m.cfg.Log.Info("trial meeting", "meeting", t.Meeting, "expires", t.Expires)
	return t, nil
}

// Trials is Trials's.
func (m *Member) Trials(now time.Time) []Trial {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []Trial{}
	if m.own == nil {
		return out
	}
	for _, t := range slices.Backward(m.own.zone.Trials) {
		if !t.over(now) {
			out = append(out, t)
		}
	}
	return out
}

// EndTrial is Trials's.
func (m *Member) EndTrial(meeting string) error {
	err := m.changeTrials(time.Time{}, func(list []Trial) ([]Trial, error) {
		i := slices.IndexFunc(list, func(t Trial) bool { return t.Meeting == meeting })
		if i < 0 {
			return nil, ErrNoTrial
		}
		return slices.Delete(list, i, i+1), nil
	})
	if err == nil {
		m.cfg.Log.Info("trial meeting ended", "meeting", meeting)
	}
	return err
}

// TrialTicket is Trials's.
func (m *Member) TrialTicket(code, name string, now time.Time) (string, error) {
	name, wrong := text("name", name, MaxName)
	if wrong == nil && name == "" {
		wrong = fault.New("name", "required")
	}
	if wrong != nil {
		return "", wrong
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.own == nil {
		return "", ErrPortal
	}
	var found Trial
	var role ticket.Role
	for _, t := range m.own.zone.Trials {
		if t.over(now) {
			continue
		}
		// All are compared, so that the time tells nothing.
		if subtle.ConstantTimeCompare([]byte(t.Host), []byte(code)) == 1 {
			found, role = t, ticket.Host
		}
		if subtle.ConstantTimeCompare([]byte(t.Guest), []byte(code)) == 1 {
			found, role = t, ticket.Guest
		}
	}
	if role == "" {
		return "", ErrNoTrial
	}
	if m.tickets.Take(now) > 0 {
		return "", ErrRate
	}
	return ticket.Sign(m.own.key, ticket.Claims{
		Issuer: Standalone, Zone: Standalone, Subject: ticket.NewID(), ID: ticket.NewID(), Account: Standalone, Name: name, Role: role,
		// Guests need not wait for a host: whoever tries it comes in any order.
		Meeting: ticket.Meeting{ID: found.Meeting, Number: found.Number, Topic: found.Topic, JoinBeforeHost: true},
		Issued:  now, Expires: now.Add(ticket.TTL),
	})
}

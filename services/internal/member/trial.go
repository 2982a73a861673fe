package member

import (
	"errors"
	"time"
)

// Bounds of trial meetings, which an appliance without a portal holds.
const (
	MaxTrials = 16
	TrialLife = 24 * time.Hour
	MaxTopic  = 120 // characters
	MaxName   = 80  // characters of a person's name
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

// NewTrial is Trials's.
func (m *Member) NewTrial(topic string, now time.Time) (Trial, error) { return Trial{}, ErrPortal }

// Trials is Trials's.
func (m *Member) Trials(now time.Time) []Trial { return nil }

// EndTrial is Trials's.
func (m *Member) EndTrial(meeting string) error { return ErrNoTrial }

// TrialTicket is Trials's.
func (m *Member) TrialTicket(code, name string, now time.Time) (string, error) { return "", ErrPortal }

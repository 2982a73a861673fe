package signal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/parley-meet/parley/services/internal/fault"
)

// Kind says what the message is called.
func (*Offer) Kind() Kind     { return "offer" }
func (*Candidate) Kind() Kind { return "candidate" }
func (*View) Kind() Kind      { return "view" }
func (*State) Kind() Kind     { return "state" }
func (*Say) Kind() Kind       { return "chat" }
func (*React) Kind() Kind     { return "react" }
func (*Command) Kind() Kind   { return "command" }
func (*Stats) Kind() Kind     { return "stats" }
func (*Leave) Kind() Kind     { return "leave" }
func (*Waiting) Kind() Kind   { return "waiting" }
func (*Joined) Kind() Kind    { return "joined" }
func (*Answer) Kind() Kind    { return "answer" }
func (*Slots) Kind() Kind     { return "slots" }
func (*Layers) Kind() Kind    { return "layers" }
func (*Roster) Kind() Kind    { return "roster" }
func (*Lobby) Kind() Kind     { return "lobby" }
func (*Settings) Kind() Kind  { return "settings" }
func (*Speaker) Kind() Kind   { return "speaker" }
func (*Chat) Kind() Kind      { return "chat" }
func (*Reactions) Kind() Kind { return "reactions" }
func (*Notice) Kind() Kind    { return "notice" }
func (*Error) Kind() Kind     { return "error" }
func (*Pass) Kind() Kind      { return "pass" }
func (*Restart) Kind() Kind   { return "restart" }

// up makes the messages of pages, down those of routers.
var (
	up = kinds(func() Message { return new(Offer) }, func() Message { return new(Candidate) }, func() Message { return new(View) },
		func() Message { return new(State) }, func() Message { return new(Say) }, func() Message { return new(React) },
		func() Message { return new(Command) }, func() Message { return new(Stats) }, func() Message { return new(Leave) })
	down = kinds(func() Message { return new(Waiting) }, func() Message { return new(Joined) }, func() Message { return new(Answer) },
		func() Message { return new(Slots) }, func() Message { return new(Layers) }, func() Message { return new(Roster) },
		func() Message { return new(Lobby) }, func() Message { return new(Settings) }, func() Message { return new(Speaker) },
		func() Message { return new(Chat) }, func() Message { return new(Reactions) }, func() Message { return new(Notice) },
		func() Message { return new(Error) }, func() Message { return new(Pass) }, func() Message { return new(Restart) })
)

func kinds(make ...func() Message) map[Kind]func() Message {
	m := map[Kind]func() Message{}
	for _, f := range make {
		m[f().Kind()] = f
	}
	return m
}

// ErrMessage is wrapped by what a page of this version never sends: the session
// ends (Garbled). Other errors of ParseUp are a fault.List and are answered.
var ErrMessage = errors.New("message")

// ParseUp reads a message of a page, brings its texts into their plain form and
// checks its bounds. When the message is understood but has values that are
// wrong, it returns it with a fault.List, for the answer needs its Ref.
func ParseUp(b []byte) (Message, error) {
	m, err := parse(b, up)
	if err != nil {
		return nil, err
	}
	var l fault.List
	m.(checker).check(&l)
	return m, l.Err()
}

// ParseDown reads a message of a router.
func ParseDown(b []byte) (Message, error) { return parse(b, down) }

// Format writes a message. It escapes nothing for HTML: that would make lines of
// chat six times as long, and pages put no JSON into HTML.
func Format(m Message) []byte {
	var buf bytes.Buffer
	buf.WriteString(`{"kind":"` + string(m.Kind()) + `",`)
	head := buf.Len()
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		panic(fmt.Errorf("format %s: %w", m.Kind(), err)) // the types have no such values
	}
	out := buf.Bytes()
	out = out[:len(out)-1] // the newline
	if string(out[head:]) == "{}" {
		return append(out[:head-1], '}')
	}
	return append(out[:head], out[head+1:]...)
}

// parse takes the kind off and decodes the rest strictly.
func parse(b []byte, kinds map[Kind]func() Message) (Message, error) {
	const first = `{"kind":"`
	rest, ok := bytes.CutPrefix(b, []byte(first))
	end := bytes.IndexByte(rest, '"')
	if !ok || end < 0 || end+1 >= len(rest) {
		return nil, fmt.Errorf("%w: it starts with %.40q, want %s", ErrMessage, b, first)
	}
	make, ok := kinds[Kind(rest[:end])]
	if !ok {
		return nil, fmt.Errorf("%w: kind %.40q is unknown", ErrMessage, rest[:end])
	}
	// The rest becomes an object of its own, unless there is none behind the comma.
	switch rest = rest[end+1:]; {
	case rest[0] == '}':
		rest = append([]byte{'{'}, rest...)
	case rest[0] == ',' && !bytes.HasPrefix(bytes.TrimLeft(rest[1:], " \t\r\n"), []byte{'}'}):
		rest = append([]byte{'{'}, rest[1:]...)
	default:
		return nil, fmt.Errorf("%w: %.40q is not JSON", ErrMessage, b)
	}
	m := make()
	if err := strict(rest, m); err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrMessage, m.Kind(), err)
	}
	return m, nil
}

// checker is a message of a page.
type checker interface{ check(*fault.List) }

func (m *Offer) check(l *fault.List) {
	size(l, "sdp", len(m.SDP), MaxSDP)
	if m.SDP == "" {
		l.Add("sdp", "required")
	}
	if len(m.Sources) > MaxSources {
		l.Add("sources", "many", MaxSources)
		return
	}
	for mid, s := range m.Sources {
		checkMid(l, "sources", mid)
		switch s {
		case Microphone, Camera, Screen, ScreenAudio:
		default:
			l.Add("sources", "choice", Plain(string(s), 20), "microphone, camera, screen, screenaudio")
		}
	}
	if len(m.Slots) > MaxSlots {
		l.Add("slots", "many", MaxSlots)
		return
	}
	seen := map[string]bool{}
	for i, mid := range m.Slots {
		field := fmt.Sprintf("slots.%d", i)
		checkMid(l, field, mid)
		if _, source := m.Sources[mid]; source || seen[mid] {
			l.Add(field, "meet-mid-twice", Plain(mid, MaxMid))
		}
		seen[mid] = true
	}
}

func (m *Candidate) check(l *fault.List) {
	size(l, "candidate", len(m.Candidate), MaxCandidate)
	if m.Mid != "" {
		checkMid(l, "mid", m.Mid)
	}
	if strings.ContainsFunc(m.Candidate, func(r rune) bool { return r < ' ' || r > '~' }) {
		l.Add("candidate", "control-character")
	}
}

func (m *View) check(l *fault.List) {
	number(l, "page", m.Page, 0, MaxPage)
	if len(m.Slots) > MaxSlots {
		l.Add("slots", "many", MaxSlots)
		return
	}
	seen := map[string]bool{}
	for i, s := range m.Slots {
		at := fmt.Sprintf("slots.%d.", i)
		checkMid(l, at+"mid", s.Mid)
		if seen[s.Mid] {
			l.Add(at+"mid", "meet-mid-twice", Plain(s.Mid, MaxMid))
		}
		seen[s.Mid] = true
		switch s.What {
		case One:
			if s.ID == 0 {
				l.Add(at+"id", "required")
			}
			if s.Source != Camera && s.Source != Screen {
				l.Add(at+"source", "choice", Plain(string(s.Source), 20), "camera, screen")
			}
		case BySpeaker, ByScreen, ByPage:
			if s.ID != 0 || s.Source != "" {
				l.Add(at+"id", "meet-member", string(s.What))
			}
		default:
			l.Add(at+"what", "choice", Plain(string(s.What), 20), "one, speaker, screen, page")
		}
		number(l, at+"width", s.Width, 0, MaxSide)
		number(l, at+"height", s.Height, 0, MaxSide)
	}
}

func (m *State) check(l *fault.List) {
	if m.Microphone == nil && m.Camera == nil && m.Screen == nil && m.Hand == nil {
		l.Add("", "required")
	}
}

func (m *Say) check(l *fault.List) {
	m.Text = text(m.Text)
	if m.Text == "" {
		l.Add("text", "required")
	}
	if utf8.RuneCountInString(m.Text) > MaxChat {
		l.Add("text", "long", MaxChat)
	}
}

func (m *React) check(l *fault.List) {
	switch m.Code {
	case Clap, ThumbsUp, ThumbsDn, Heart, Laugh, Wow, Party, Yes, No, Slower, Faster, Coffee:
	default:
		l.Add("code", "meet-reaction", Plain(string(m.Code), 20))
	}
}

// members are those that a command has.
type members struct{ id, idFree, on, onFree, name, settings bool }

var commands = map[Do]members{
	Admit: {id: true}, AdmitAll: {}, Deny: {id: true}, Mute: {id: true}, MuteAll: {on: true, onFree: true},
	AskUnmute: {id: true}, StopVideo: {id: true}, AskVideo: {id: true}, StopShare: {id: true},
	LowerHand: {id: true}, LowerHands: {}, Rename: {id: true, idFree: true, name: true}, Remove: {id: true},
	Spotlight: {id: true, on: true}, MakeCohost: {id: true, on: true}, MakeHost: {id: true}, Claim: {},
	Set: {settings: true}, End: {},
}

func (m *Command) check(l *fault.List) {
	c, ok := commands[m.Do]
	if !ok {
		l.Add("do", "meet-command", Plain(string(m.Do), 20))
		return
	}
	m.Name = Plain(m.Name, MaxName+1)
	member := func(field string, wanted, free, has bool) {
		switch {
		case wanted && !free && !has:
			l.Add(field, "required")
		case !wanted && has:
			l.Add(field, "meet-member", string(m.Do))
		}
	}
	member("id", c.id, c.idFree, m.ID != 0)
	member("on", c.on, c.onFree, m.On != nil)
	member("name", c.name, false, m.Name != "")
	member("settings", c.settings, false, m.Settings != nil)
	if utf8.RuneCountInString(m.Name) > MaxName {
		l.Add("name", "long", MaxName)
	}
	if s := m.Settings; s != nil && s.Chat != nil {
		switch *s.Chat {
		case ChatOff, ChatHosts, ChatPublic, ChatAll:
		default:
			l.Add("settings.chat", "choice", Plain(string(*s.Chat), 20), "off, hosts, public, all")
		}
	}
}

func (m *Stats) check(l *fault.List) {
	for _, v := range []struct {
		field string
		value float64
		most  float64
	}{{"rtt", m.RTT, 1e6}, {"upBits", m.UpBits, 1e12}, {"downBits", m.DownBits, 1e12}, {"upLoss", m.UpLoss, 1}, {"downLoss", m.DownLoss, 1}, {"jitter", m.Jitter, 1e6}} {
		if !(v.value >= 0 && v.value <= v.most) || math.IsInf(v.value, 0) {
			l.Add(v.field, "meet-number", int64(v.most))
		}
	}
	switch m.Protocol {
	case "", "udp", "tcp", "tls":
	default:
		l.Add("protocol", "choice", Plain(m.Protocol, 20), "udp, tcp, tls")
	}
}

func (m *Leave) check(*fault.List) {}

func size(l *fault.List, field string, n, most int) {
	if n > most {
		l.Add(field, "meet-bytes", most)
	}
}

func number(l *fault.List, field string, n, least, most int) {
	if n < least || n > most {
		l.Add(field, "number", fmt.Sprint(n), least, most)
	}
}

// checkMid checks a mid: a token (RFC 5888, 4), as browsers write them.
func checkMid(l *fault.List, field, s string) {
	if s == "" || len(s) > MaxMid || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]`, r) }) {
		l.Add(field, "meet-mid", Plain(s, MaxMid), MaxMid)
	}
}

// Plain makes one line of a text from outside, as the portal does with names:
// spaces of all kinds become one, characters that are not seen or turn the
// direction of writing go. It is cut after most characters.
func Plain(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) > most {
		s = strings.TrimSpace(string([]rune(s)[:most]))
	}
	return s
}

// text is Plain for several lines. It keeps the joiners that emoji and some
// scripts are made with: they change no direction.
func text(s string) string {
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u2028", "\n", "\u2029", "\n").Replace(s)
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\u200c' || r == '\u200d' || unicode.IsPrint(r) {
			return r
		}
		if unicode.IsSpace(r) {
			return ' '
		}
		return -1
	}, s))
}

// Ref is the Ref of a page's message, or 0.
func Ref(m Message) uint32 {
	switch m := m.(type) {
	case *Offer:
		return m.Ref
	case *State:
		return m.Ref
	case *Say:
		return m.Ref
	case *Command:
		return m.Ref
	}
	return 0
}

// Refusal is the answer to a message that ParseUp returned with faults.
func Refusal(m Message, err error) *Error {
	e := &Error{Of: m.Kind(), Ref: Ref(m)}
	if l := fault.Of(err); len(l) > 0 {
		e.Code, e.Field, e.Args = Code(l[0].Code), l[0].Field, l[0].Args
	}
	return e
}

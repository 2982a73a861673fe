package signal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/ticket"
)

func yes() *bool { b := true; return &b }

// examples has each message with all its members.
func examples() (ups, downs []Message) {
	chat := ChatPublic
	ups = []Message{
		&Offer{Ref: 1, SDP: "v=0\r\n", Sources: map[string]Source{"0": Microphone, "1": Camera}, Slots: []string{"2", "3"}},
		&Candidate{Mid: "0", Candidate: "candidate:1 1 udp 1 10.0.0.1 9 typ host"}, &Candidate{},
		&View{Page: 1, Slots: []Show{{Mid: "3", What: One, ID: 7, Source: Screen, Width: 640, Height: 360}, {Mid: "4", What: ByPage, Width: 1, Height: 1}}},
		&State{Ref: 2, Microphone: yes(), Camera: new(bool), Screen: yes(), Hand: yes()},
		&Say{Ref: 3, To: 4, Text: "hello\nthere"}, &React{Code: Clap},
		&Command{Ref: 4, Do: Rename, ID: 5, Name: "Anna"}, &Command{Do: Spotlight, ID: 5, On: yes()}, &Command{Do: MuteAll}, &Command{Do: End},
		&Command{Do: Set, Settings: &Change{Locked: yes(), WaitingRoom: yes(), MuteOnJoin: yes(), Unmute: yes(), Video: yes(), Share: yes(), Rename: yes(), React: yes(), Chat: &chat, History: yes()}},
		&Stats{RTT: 1.5, UpBits: 2, DownBits: 3, UpLoss: 0.25, DownLoss: 1, Jitter: 4, Freezes: 5, Relayed: true, Protocol: "tls"}, &Leave{},
	}
	downs = []Message{
		&Waiting{Why: WaitHost}, &Joined{You: 1, Role: ticket.Host, Number: "123456789", Topic: "t", Test: true, Started: start, Now: start},
		&Answer{Ref: 1, SDP: "v=0"}, &Slots{Slots: []Slot{{Mid: "3", ID: 7, Source: Camera}, {Mid: "4"}}}, &Layers{Source: Camera, RIDs: []string{"l", "h"}},
		&Roster{Version: 2, Full: true, People: []Person{{ID: 1, Name: "Анна", Role: ticket.Guest, Microphone: true, Camera: true, Screen: true, Hand: 3, Away: true}}, Gone: []ID{9}},
		&Lobby{Version: 1, People: []Guest{{ID: 2, Name: "B", Role: ticket.Guest}}}, &Settings{Chat: ChatAll, Spotlight: []ID{1}}, &Speaker{ID: 3},
		&Chat{Past: true, Lines: []Line{{From: 1, Name: "A", To: 2, At: start, Text: "<b>&"}}}, &Reactions{List: []Reacted{{From: 1, Code: Heart}}},
		&Notice{Code: WasMuted, By: 1}, &Error{Of: "chat", Ref: 3, Code: "long", Field: "text", Args: []any{"a"}}, &Pass{Ticket: "a.b.c"}, &Restart{},
	}
	return ups, downs
}

func TestRoundTrip(t *testing.T) {
	ups, downs := examples()
	for dir, list := range map[string][]Message{"up": ups, "down": downs} {
		parse, kinds := ParseUp, up
		if dir == "down" {
			parse, kinds = ParseDown, down
		}
		seen := map[Kind]bool{}
		for _, m := range list {
			b := Format(m)
			if !json.Valid(b) {
				t.Errorf("%s is not JSON", b)
			}
			got, err := parse(b)
			if err != nil || !reflect.DeepEqual(got, m) {
				t.Errorf("%s: %+v, %v", b, got, err)
			}
			seen[m.Kind()] = true
			// A member more is refused, wherever it stands.
			for _, b := range [][]byte{bytes.Replace(b, []byte("}"), []byte(`,"zz":1}`), 1), append(b[:len(b)-1:len(b)-1], `,"zz":1}`...)} {
				if _, err := parse(b); !errors.Is(err, ErrMessage) && dir == "up" || err == nil {
					t.Errorf("%s: %v", b, err)
				}
			}
		}
		for k := range kinds {
			if !seen[k] {
				t.Errorf("%s: no example of %s", dir, k)
			}
		}
	}
	// The text is as short as JSON lets it be: the page does not put it into HTML.
	if b := Format(downs[9]); !bytes.Contains(b, []byte("<b>&")) {
		t.Errorf("%s", b)
	}
}

// The table of the package comment has the messages that there are.
func TestTable(t *testing.T) {
	b, err := os.ReadFile("signal.go")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b[:bytes.Index(b, []byte("\npackage signal"))])
	a, z := strings.Index(text, "page → router"), strings.Index(text, "router → page")
	for _, x := range []struct {
		text  string
		kinds map[Kind]func() Message
	}{{text[a:z], up}, {text[z:strings.Index(text, "# Frames")], down}} {
		var listed []string
		for _, m := range regexp.MustCompile(`(?m)^//\t([a-z]+) +([A-Z][A-Za-z]+) `).FindAllStringSubmatch(x.text, -1) {
			listed = append(listed, m[1])
			if f := x.kinds[Kind(m[1])]; f == nil || reflect.TypeOf(f()).Elem().Name() != m[2] {
				t.Errorf("the table has %s %s", m[1], m[2])
			}
		}
		if len(listed) != len(x.kinds) {
			t.Errorf("the table has %v of %d", listed, len(x.kinds))
		}
	}
	// And that of frames.
	for i := range reflect.TypeFor[Frame]().NumField() {
		name, _, _ := strings.Cut(reflect.TypeFor[Frame]().Field(i).Tag.Get("json"), ",")
		if !regexp.MustCompile(`(?m)^//\t` + name + ` `).MatchString(text) {
			t.Errorf("the table of frames lacks %s", name)
		}
	}
}

func TestParseUpRefuses(t *testing.T) {
	long := func(n int) string { return strings.Repeat("я", n) }
	many := func(s string, n int) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }
	for text, field := range map[string]string{
		`{"kind":"offer"}`: "sdp",
		`{"kind":"offer","sdp":"` + strings.Repeat("x", MaxSDP+1) + `"}`:                  "sdp",
		`{"kind":"offer","sdp":"v","sources":{"0":"kitchen"}}`:                            "sources",
		`{"kind":"offer","sdp":"v","sources":{"a b":"camera"}}`:                           "sources",
		`{"kind":"offer","sdp":"v","slots":[""]}`:                                         "slots.0",
		`{"kind":"offer","sdp":"v","slots":["1","1"]}`:                                    "slots.1",
		`{"kind":"offer","sdp":"v","sources":{"1":"camera"},"slots":["1"]}`:               "slots.0",
		`{"kind":"offer","sdp":"v","slots":[` + many(`"1"`, MaxSlots+1) + `]}`:            "slots",
		`{"kind":"candidate","candidate":"` + strings.Repeat("x", MaxCandidate+1) + `"}`:  "candidate",
		`{"kind":"candidate","candidate":"a\nb"}`:                                         "candidate",
		`{"kind":"candidate","mid":"` + strings.Repeat("1", MaxMid+1) + `"}`:              "mid",
		`{"kind":"view","page":-1}`:                                                       "page",
		`{"kind":"view","slots":[{"mid":"1","what":"all"}]}`:                              "slots.0.what",
		`{"kind":"view","slots":[{"mid":"1","what":"one","source":"camera"}]}`:            "slots.0.id",
		`{"kind":"view","slots":[{"mid":"1","what":"one","id":1,"source":"microphone"}]}`: "slots.0.source",
		`{"kind":"view","slots":[{"mid":"1","what":"page","id":1}]}`:                      "slots.0.id",
		`{"kind":"view","slots":[{"mid":"1","what":"page","width":9000}]}`:                "slots.0.width",
		`{"kind":"view","slots":[{"mid":"1","what":"page","height":-1}]}`:                 "slots.0.height",
		`{"kind":"view","slots":[{"mid":"1","what":"page"},{"mid":"1","what":"page"}]}`:   "slots.1.mid",
		`{"kind":"state"}`:                                                  "",
		`{"kind":"chat","text":" \n\u202e\u0000 "}`:                         "text",
		`{"kind":"chat","text":"` + long(MaxChat+1) + `"}`:                  "text",
		`{"kind":"react","code":"💣"}`:                                       "code",
		`{"kind":"command","do":"explode"}`:                                 "do",
		`{"kind":"command","do":"admit"}`:                                   "id",
		`{"kind":"command","do":"end","id":1}`:                              "id",
		`{"kind":"command","do":"spotlight","id":1}`:                        "on",
		`{"kind":"command","do":"remove","id":1,"on":true}`:                 "on",
		`{"kind":"command","do":"rename","name":"\u202e"}`:                  "name",
		`{"kind":"command","do":"rename","name":"` + long(MaxName+1) + `"}`: "name",
		`{"kind":"command","do":"settings"}`:                                "settings",
		`{"kind":"command","do":"settings","settings":{"chat":"loud"}}`:     "settings.chat",
		`{"kind":"stats","rtt":-1}`:                                         "rtt",
		`{"kind":"stats","downLoss":1.5}`:                                   "downLoss",
		`{"kind":"stats","protocol":"smoke"}`:                               "protocol",
	} {
		m, err := ParseUp([]byte(text))
		l := fault.Of(err)
		if m == nil || len(l) == 0 || !l.Has(field) {
			t.Errorf("%.90s: %v, want a fault of %q", text, err, field)
		}
		if e := Refusal(m, err); e.Of != m.Kind() || e.Code == "" || e.Field != l[0].Field {
			t.Errorf("%.90s: %+v", text, e)
		}
		for _, f := range l {
			for lang, words := range dictionaries(t) {
				if s := f.Text(words); strings.Contains(s, "%!") || s == f.Code {
					t.Errorf("%s: %s: %q", lang, f.Code, s)
				}
			}
		}
	}
	for _, text := range []string{
		"", "{}", "null", `[]`, `"chat"`, `{"kind":"chat"`, `{"kind":"chat",}`, `{"kind":"chat", }`, `{"kind":"chat",,"text":"x"}`, `{"kind":"chat"}x`, `{"kind":"chat","text":"x"}{}`,
		`{"text":"x","kind":"chat"}`, `{"kind":"chat","kind":"chat","text":"x"}`, `{"kind":"joined","you":1}`, `{"kind":"roster"}`, `{"kind":"toString"}`, `{"kind":1}`,
		`{"kind":"chat","text":5}`, `{"kind":"chat","to":-1,"text":"x"}`, `{"kind":"chat","to":4294967296,"text":"x"}`, `{"kind":"chat","to":1.5,"text":"x"}`, `{"kind":"stats","rtt":1e999}`,
		`{"kind":"chat" "text":"x"}`, `{"kind":"leave":1}`,
	} {
		if m, err := ParseUp([]byte(text)); !errors.Is(err, ErrMessage) || m != nil {
			t.Errorf("%s: %+v, %v", text, m, err)
		}
	}
}

func dictionaries(t *testing.T) look.Dictionary {
	t.Helper()
	sub, err := fs.Sub(fault.Words, "words")
	if err != nil {
		t.Fatal(err)
	}
	d, err := look.LoadDictionary(sub)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCodesHaveTexts(t *testing.T) {
	codes := Codes()
	for lang, words := range dictionaries(t) {
		for _, c := range codes {
			if !words.Has("fault." + string(c)) {
				t.Errorf("%s: no text of %s", lang, c)
			}
		}
	}
	b, err := os.ReadFile("code.go")
	if err != nil {
		t.Fatal(err)
	}
	written := regexp.MustCompile(`= "(meet-[a-z-]+)"`).FindAllStringSubmatch(string(b), -1)
	for _, m := range written {
		if !slices.Contains(codes, Code(m[1])) {
			t.Errorf("Codes lacks %s", m[1])
		}
	}
	slices.Sort(codes)
	if len(slices.Compact(codes)) != len(written) {
		t.Errorf("%d codes, %d written", len(codes), len(written))
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"  Anna \t Nováková\n": "Anna Nováková", "a\u202eb\u2066c\u200f": "abc", "x\x00\x1b[2J": "x[2J", "\u3000": "", "Анна": "Анна", "\xff": "�", "abcdefgh": "abcdef",
	} {
		if got := Plain(in, max(6, len(want))); got != want && got != string([]rune(want)[:min(6, len([]rune(want)))]) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"a\r\nb\rc\u2028d": "a\nb\nc\nd", "\n x \n": "x", "👩\u200d👧": "👩\u200d👧", "می\u200cخواهم": "می\u200cخواهم", "a\u202eb\u0007": "ab", "a\u00a0b": "a b",
	} {
		if got := text(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzParseUp(f *testing.F) {
	ups, downs := examples()
	for _, m := range append(ups, downs...) {
		f.Add(Format(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseUp(b)
		if (m == nil) != errors.Is(err, ErrMessage) {
			t.Fatalf("%q: %+v, %v", b, m, err)
		}
		if err != nil {
			return
		}
		// What is good once is good again, and the same.
		again, err := ParseUp(Format(m))
		if err != nil || !reflect.DeepEqual(empty(again), empty(m)) {
			t.Fatalf("%q: %+v, then %+v, %v", b, m, again, err)
		}
		if s, ok := m.(*Say); ok && strings.ContainsAny(s.Text, "\u202a\u202e\u2066\u0000\u001b\r") {
			t.Fatalf("%q", s.Text)
		}
	})
}

// empty writes empty and missing lists alike, as Format does.
func empty(m Message) string { return string(Format(m)) }

func FuzzParseDown(f *testing.F) {
	_, downs := examples()
	for _, m := range downs {
		f.Add(Format(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseDown(b)
		if err != nil {
			return
		}
		if again, err := ParseDown(Format(m)); err != nil || empty(again) != empty(m) {
			t.Fatalf("%q: %+v, then %+v, %v", b, m, again, err)
		}
	})
}

func FuzzParseFrame(f *testing.F) {
	f.Add(Frame{N: 1, Ack: 2, Body: []byte(`{"kind":"leave"}`)}.Format())
	f.Add(Frame{Ack: 2, Ping: true}.Format())
	f.Add(open(1, Open{Ticket: "t", Secret: secret("a")}))
	f.Add(open(2, Open{Meeting: "m", Session: "s", Secret: secret("a"), Next: secret("b"), Fresh: true}))
	f.Add(Frame{Closed: &Closed{Ended}}.Format())
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := ParseFrame(b)
		if err == nil {
			if again, err := ParseFrame(fr.Format()); err != nil || !reflect.DeepEqual(again.Open, fr.Open) || again.N != fr.N || again.Ack != fr.Ack {
				t.Fatalf("%q: %+v, then %+v, %v", b, fr, again, err)
			}
		}
		// Whatever it is, a session that is there lives or ends by the rules.
		r := NewSessions(2)
		r.Receive("l", open(1, Open{Ticket: theTicket, Secret: secret("a")}), start)
		id, _ := r.Accept("l", "m", start)
		var gone bool
		for _, e := range append(r.Receive("l", b, start), r.Tick(start.Add(time.Second))...) {
			if g, ok := e.(Gone); ok {
				gone = g.Session == id
			}
		}
		if gone == (r.Count() == 1) {
			t.Fatalf("%q: gone %t, %d sessions", b, gone, r.Count())
		}
	})
}

package sdp

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pion/webrtc/v3"
)

var update = flag.Bool("update", false, "write testdata/*.answer anew")

// local is our side in tests.
func local() Local {
	return Local{
		SessionID: 7, Ufrag: "Parl", Pwd: "abcdefghijklmnopqrstuv+/", Lite: true,
		Fingerprint: Fingerprint{"sha-256", strings.TrimSuffix(strings.Repeat("A5:", 32), ":")},
		Candidates: []Candidate{
			{Addr: netip.MustParseAddr("192.0.2.7"), Port: 8801},
			{Addr: netip.MustParseAddr("2001:db8::7"), Port: 8801},
			{Addr: netip.MustParseAddr("192.0.2.7"), Port: 443, TCP: true},
		},
	}
}

// fill gives the lines that we send on what a caller must set.
func fill(s *Session) {
	for i := range s.Media {
		if l := &s.Media[i]; l.ToPeer {
			l.SSRC, l.CNAME, l.MSID = uint32(1000+2*i), "parley", "- slot"+l.MID
			if l.Kind == "video" {
				l.RTXSSRC = l.SSRC + 1
			}
		}
	}
}

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func mustParse(t testing.TB, text string) *Offer {
	t.Helper()
	o, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func mustNegotiate(t testing.TB, text string) *Session {
	t.Helper()
	s, err := Negotiate(mustParse(t, text), DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustAnswer(t testing.TB, s *Session) string {
	t.Helper()
	text, err := s.Answer(local())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestGolden answers what browsers and encoders offer; somebody else's reader
// takes each answer.
func TestGolden(t *testing.T) {
	offers, err := filepath.Glob("testdata/*.sdp")
	if err != nil || len(offers) < 6 {
		t.Fatal(offers, err)
	}
	for _, file := range offers {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			s := mustNegotiate(t, read(t, name))
			fill(s)
			got := mustAnswer(t, s)
			golden := strings.TrimSuffix(name, ".sdp") + ".answer"
			if *update {
				if err := os.WriteFile(filepath.Join("testdata", golden), []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := read(t, golden); got != want {
				t.Errorf("the answer is not testdata/%s:\n%s", golden, got)
			}
			theirs, err := (&webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: got}).Unmarshal()
			if err != nil {
				t.Fatal(err)
			}
			if len(theirs.MediaDescriptions) != len(s.Media) {
				t.Errorf("pion reads %d m-lines, want %d", len(theirs.MediaDescriptions), len(s.Media))
			}
		})
	}
}

// TestChromiumMeeting looks at what was agreed with a meeting's page: microphone,
// simulcast camera, screen, three slots for voices and nine for pictures.
func TestChromiumMeeting(t *testing.T) {
	s := mustNegotiate(t, read(t, "chromium-meeting.sdp"))
	if len(s.Media) != 15 {
		t.Fatalf("%d lines", len(s.Media))
	}
	for i := range s.Media {
		l := &s.Media[i]
		if l.Rejected || l.FromPeer != (i < 3) || l.ToPeer != (i >= 3) || (len(l.Layers) > 0) != (i == 1) {
			t.Errorf("line %d: %+v", i, l)
		}
		if l.Ext.TWCC == 0 || l.Ext.AbsSendTime == 0 || l.Ext.MID == 0 || (l.Ext.AudioLevel != 0) != (l.Kind == "audio") {
			t.Errorf("line %d: %+v", i, l.Ext)
		}
		for _, c := range l.Codecs {
			want := Feedback{true, true, true, true}
			if l.Kind == "audio" {
				want = Feedback{TransportCC: c.Kind.String() == "opus"}
			}
			if c.Feedback != want || (c.RTX != 0) != (l.Kind == "video") {
				t.Errorf("line %d: %+v", i, c)
			}
		}
	}
	if got := strings.Join(s.Media[1].Layers, " "); got != "l m h" {
		t.Errorf("layers: %s", got)
	}
}

package sdp

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pion "github.com/pion/sdp/v3"
)

func offers(f *testing.F) {
	files, err := filepath.Glob("testdata/*.sdp")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(data) < 2000 { // the others have the same lines, more often, and are slow to vary
			f.Add(string(data))
		}
	}
	f.Add(brief)
}

// FuzzParse holds the limits.
func FuzzParse(f *testing.F) {
	offers(f)
	f.Fuzz(func(t *testing.T, text string) {
		o, err := Parse(text)
		if err != nil {
			if len(err.Error()) > 1000 || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		if len(o.Media) == 0 || len(o.Media) > MaxMedia {
			t.Errorf("%d m-lines", len(o.Media))
		}
		for i := range o.Media {
			m := &o.Media[i]
			if m.MID == "" || len(m.MID) > maxID || len(m.Codecs) > MaxCodecs || len(m.Layers) > maxLayers || len(m.Sources) > 2*maxSources {
				t.Errorf("%+v", m)
			}
		}
	})
}

// FuzzAnswer holds what an answer must be to any offer: as many lines in the same
// order, nothing that was not offered, and never a line of the offer's making
// where there should be none.
func FuzzAnswer(f *testing.F) {
	offers(f)
	f.Fuzz(func(t *testing.T, text string) {
		o, err := Parse(text)
		if err != nil {
			return
		}
		s, err := Negotiate(o, DefaultPolicy())
		if err != nil {
			return
		}
		if !s.SameICE(o) {
			t.Error("an offer restarts itself")
		}
		if again, err := s.Renegotiate(o, DefaultPolicy()); err != nil || len(again.Media) != len(s.Media) {
			t.Errorf("the same offer again: %v", err)
		}
		fill(s)
		answer, err := s.Answer(local())
		if err != nil {
			t.Fatal(err)
		}
		var d pion.SessionDescription
		if err := d.UnmarshalString(answer); err != nil {
			t.Fatalf("%v\n%s", err, answer)
		}
		if len(d.MediaDescriptions) != len(o.Media) {
			t.Fatalf("%d lines to %d\n%s", len(d.MediaDescriptions), len(o.Media), answer)
		}
		for i, m := range d.MediaDescriptions {
			offered, l := &o.Media[i], &s.Media[i]
			mid, _ := m.Attribute("mid")
			if mid != offered.MID || m.MediaName.Media != offered.Kind || (m.MediaName.Port.Value == 0) != l.Rejected {
				t.Errorf("line %d: %q\n%s", i, mid, answer)
			}
			for _, pt := range m.MediaName.Formats {
				if !slices.Contains(offered.Formats, pt) {
					t.Errorf("line %d: payload type %s was not offered", i, pt)
				}
			}
			for key, want := range map[string]int{"ice-ufrag": 1, "fingerprint": 1, "setup": 1, "rtcp-mux": 1, "simulcast": len(l.Layers)} {
				n := 0
				for _, a := range m.Attributes {
					if a.Key == key {
						n++
					}
				}
				if n != min(want, 1) && !l.Rejected || n != 0 && l.Rejected {
					t.Errorf("line %d: %d of %s\n%s", i, n, key, answer)
				}
			}
		}
		if strings.Contains(strings.ReplaceAll(answer, "\r\n", ""), "\n") || strings.Contains(strings.ReplaceAll(answer, "\r\n", ""), "\r") {
			t.Errorf("ends of lines: %q", answer)
		}
	})
}

// FuzzParseFragment holds the limits, and that what was read can be written.
func FuzzParseFragment(f *testing.F) {
	f.Add("a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\na=end-of-candidates\r\n")
	f.Add("a=candidate:2 1 tcp 5 2001:db8::1 9 typ srflx raddr :: rport 9 tcptype so\n")
	f.Add("a=candidate:2 1 udp 5 some-name.local 9 typ host\n")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseFragment(text)
		if err != nil {
			return
		}
		if len(g.Candidates) > maxCandidates || len(g.MID) > maxID || len(g.ICE.Ufrag) > 256 {
			t.Errorf("%+v", g)
		}
		for i, c := range g.Candidates {
			if c.check() != nil || c.Priority == 0 {
				continue
			}
			back, ok, err := parseCandidate(c.text(i))
			if err != nil || !ok || back.Addr != c.Addr.Unmap() || back.Port != c.Port || back.Kind != c.Kind || back.TCP != c.TCP || back.Priority != c.Priority {
				t.Errorf("%+v became %+v, %v", c, back, err)
			}
		}
	})
}

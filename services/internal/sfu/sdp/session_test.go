package sdp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/sfu/codec"
)

func names(l *Line) string {
	var out []string
	for _, c := range l.Codecs {
		out = append(out, fmt.Sprintf("%d:%s", c.PT, c.Format))
	}
	return strings.Join(out, " ")
}

// TestPolicy: its order, its extensions and its layers are what is taken.
func TestPolicy(t *testing.T) {
	o := mustParse(t, brief)
	p := DefaultPolicy()
	s, err := Negotiate(o, p)
	if err != nil {
		t.Fatal(err)
	}
	if a, v := &s.Media[0], &s.Media[1]; names(a) != "63:red 111:opus" || names(v) != "96:VP8" || v.Codecs[0].RTX != 97 || v.Codecs[0].Feedback != (Feedback{NACK: true, TransportCC: true}) {
		t.Errorf("%s; %s; %+v", names(a), names(v), v.Codecs)
	}
	p.Codecs = []Format{{Kind: codec.Opus}, {Kind: codec.RED}, {Kind: codec.VP8}}
	p.Extensions = []string{MIDURI, RIDURI}
	p.MaxLayers = 2
	p.DTX = false
	if s, err = Negotiate(o, p); err != nil {
		t.Fatal(err)
	}
	a, v := &s.Media[0], &s.Media[1]
	if names(a) != "111:opus 63:red" || a.Codecs[0].Fmtp != "minptime=10" {
		t.Errorf("%s; %+v", names(a), a.Codecs)
	}
	if v.Ext != (Ext{MID: 1, RID: 2}) || v.Codecs[0].Feedback != (Feedback{NACK: true}) || fmt.Sprint(v.Layers) != "[l m]" {
		t.Errorf("%+v", v)
	}
	if answer := mustAnswer(t, s); !strings.Contains(answer, "a=simulcast:recv l;m\r\n") || strings.Contains(answer, "transport") || strings.Contains(answer, "rid:h") {
		t.Errorf("%s", answer)
	}
	p.PeerAudio = true
	for _, order := range []string{"111 63", "63 111"} {
		_, line, _ := strings.Cut(brief, "m=audio")
		line, _, _ = strings.Cut(line, "\n")
		f := strings.Fields(line)
		text := strings.Replace(brief, line, " "+f[0]+" "+f[1]+" "+order, 1)
		if s, err = Negotiate(mustParse(t, text), p); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"111 63": "111:opus 63:red", "63 111": "63:red 111:opus"}[order]
		if got := names(&s.Media[0]); got != want {
			t.Errorf("offered as %s: %s, want %s", order, got, want)
		}
	}
	p.PeerAudio = false
	p.Codecs = []Format{{Kind: codec.RED}, {Kind: codec.VP8}} // RED without what it wraps
	if s, err = Negotiate(o, p); err != nil || !s.Media[0].Rejected {
		t.Errorf("%+v, %v", s, err)
	}
	p = DefaultPolicy()
	p.Extensions = []string{MIDURI}
	if s, err = Negotiate(o, p); err != nil || s.Media[1].Layers != nil {
		t.Errorf("layers that nothing tells apart: %+v, %v", s, err)
	}
}

// TestExtensions: only those that can be used in the directions of a line, and
// fit a header of one byte.
func TestExtensions(t *testing.T) {
	for _, x := range []struct {
		name, direction, extmap string
		want                    Ext
		line                    string
	}{
		{"sends, both", "sendonly", "1 ", Ext{MID: 1}, "a=extmap:1 "},
		{"sends, to us", "sendonly", "1/sendonly ", Ext{MID: 1}, "a=extmap:1/recvonly "},
		{"sends, from us", "sendonly", "1/recvonly ", Ext{}, ""},
		{"receives, from us", "recvonly", "1/recvonly ", Ext{MID: 1}, "a=extmap:1/sendonly "},
		{"receives, to us", "recvonly", "1/sendonly ", Ext{}, ""},
		{"both, to us", "sendrecv", "1/sendonly ", Ext{}, ""},
		{"never", "sendonly", "1/inactive ", Ext{}, ""},
		{"two bytes", "sendonly", "15 ", Ext{}, ""},
	} {
		text := with(t, "a=rtpmap:63", "a=extmap:"+x.extmap+MIDURI+"\na=rtpmap:63", "a=mid:a\na=sendonly", "a=mid:a\na="+x.direction)
		s := mustNegotiate(t, strings.Split(text, "m=video")[0])
		fill(s)
		answer := mustAnswer(t, s)
		if s.Media[0].Ext != x.want || strings.Contains(answer, "extmap") != (x.line != "") || !strings.Contains(answer, x.line) {
			t.Errorf("%s: %+v\n%s", x.name, s.Media[0].Ext, answer)
		}
	}
	// We never send RIDs, so a slot has none.
	s := mustNegotiate(t, with(t, "a=mid:v\na=sendonly", "a=mid:v\na=recvonly"))
	if l := s.Media[1]; l.Ext.RID != 0 || l.Ext.MID != 1 || l.Layers != nil {
		t.Errorf("%+v", l)
	}
}

func TestDirections(t *testing.T) {
	for _, x := range []struct {
		offer      string
		from, to   bool
		answer     string
		emptied    string // once the caller cleared ToPeer
		announcing bool
	}{
		{"sendonly", true, false, "recvonly", "recvonly", false},
		{"recvonly", false, true, "sendonly", "inactive", true},
		{"sendrecv", true, true, "sendrecv", "recvonly", true},
		{"inactive", false, false, "inactive", "inactive", false},
	} {
		s := mustNegotiate(t, with(t, "a=mid:v\na=sendonly", "a=mid:v\na="+x.offer))
		l := &s.Media[1]
		if l.FromPeer != x.from || l.ToPeer != x.to {
			t.Errorf("%s: %+v", x.offer, l)
		}
		fill(s)
		video := strings.Split(mustAnswer(t, s), "m=video")[1]
		if !strings.Contains(video, "a="+x.answer+"\r\n") || strings.Contains(video, "a=ssrc-group:FID 1002 1003\r\n") != x.announcing ||
			strings.Contains(video, "a=ssrc:1002 cname:parley\r\na=ssrc:1002 msid:- slotv\r\na=ssrc:1003 cname:parley\r\n") != x.announcing {
			t.Errorf("%s:\n%s", x.offer, video)
		}
		l.ToPeer = false
		if video = strings.Split(mustAnswer(t, s), "m=video")[1]; !strings.Contains(video, "a="+x.emptied+"\r\n") || strings.Contains(video, "ssrc") {
			t.Errorf("%s, emptied:\n%s", x.offer, video)
		}
	}
}

func TestDTLSRoles(t *testing.T) {
	for offer, want := range map[string]string{"actpass": "passive", "active": "passive", "passive": "active"} {
		s := mustNegotiate(t, with(t, "actpass", offer))
		if answer := mustAnswer(t, s); s.DTLSClient != (want == "active") || strings.Count(answer, "a=setup:"+want+"\r\n") != 2 {
			t.Errorf("%s:\n%s", offer, answer)
		}
		later, err := s.Renegotiate(mustParse(t, brief), DefaultPolicy()) // which has actpass
		if err != nil || later.DTLSClient != s.DTLSClient {
			t.Errorf("%s: %v", offer, err)
		}
	}
	s := mustNegotiate(t, brief)
	if _, err := s.Renegotiate(mustParse(t, with(t, "actpass", "passive")), DefaultPolicy()); err == nil {
		t.Error("the DTLS client became the server")
	}
}

func TestAnswerRefuses(t *testing.T) {
	for _, x := range []struct {
		name   string
		change func(s *Session, l *Local)
		want   string
	}{
		{"session", func(s *Session, l *Local) { l.SessionID = 1 << 63 }, "session id 9223372036854775808"},
		{"ufrag", func(s *Session, l *Local) { l.Ufrag = "a b c" }, "ufrag: character"},
		{"pwd", func(s *Session, l *Local) { l.Pwd = "" }, "pwd: 0 characters"},
		{"fingerprint", func(s *Session, l *Local) { l.Fingerprint.Algorithm = "sha-1" }, "fingerprint"},
		{"candidate", func(s *Session, l *Local) { l.Candidates[1].Port = 0 }, "candidate 2: port 0"},
		{"zone", func(s *Session, l *Local) { l.Candidates[0].Addr = netip.MustParseAddr("fe80::1%eth0") }, "candidate 1: address"},
		{"kind", func(s *Session, l *Local) { l.Candidates[0].Kind = "x" }, `kind "x"`},
		{"TCP type", func(s *Session, l *Local) { l.Candidates[0].TCPType = "x" }, `TCP type "x"`},
		{"foundation", func(s *Session, l *Local) { l.Candidates[0].Foundation = "a b" }, `foundation "a b"`},
		{"no SSRC", func(s *Session, l *Local) { s.Media[1].SSRC = 0 }, `mid "v": we send, and there is no SSRC`},
		{"SSRC twice", func(s *Session, l *Local) { s.Media[1].RTXSSRC = s.Media[1].SSRC }, `SSRC 1002 is that of mid "v" too`},
		{"another line", func(s *Session, l *Local) { s.Media[1].MSID = "x y\r\na=z" }, "want printable ASCII"},
	} {
		s := mustNegotiate(t, with(t, "a=mid:v\na=sendonly", "a=mid:v\na=recvonly"))
		fill(s)
		l := local()
		x.change(s, &l)
		if text, err := s.Answer(l); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q\n%s", x.name, err, x.want, text)
		}
	}
}

func TestRenegotiate(t *testing.T) {
	s := mustNegotiate(t, with(t, "a=mid:v\na=sendonly", "a=mid:v\na=recvonly"))
	fill(s)
	grown := with(t, "a=mid:v\na=sendonly", "a=mid:v\na=recvonly", "BUNDLE a v", "BUNDLE a v w", "ufrag:frag", "ufrag:other") +
		"m=video 9 UDP/TLS/RTP/SAVPF 100\na=mid:w\na=recvonly\na=rtcp-mux\na=rtpmap:100 VP9/90000\n"
	o := mustParse(t, grown)
	if s.SameICE(o) || !s.SameICE(mustParse(t, brief)) {
		t.Error("ICE restarts are seen where there is none, or the other way")
	}
	next, err := s.Renegotiate(o, DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	if len(next.Media) != 3 || next.Version != 2 || s.Version != 1 || next.Media[1].SSRC != s.Media[1].SSRC || next.Media[1].RTXSSRC != s.Media[1].RTXSSRC || next.Media[2].SSRC != 0 {
		t.Errorf("%+v", next)
	}
	fill(next)
	if answer := mustAnswer(t, next); !strings.Contains(answer, "o=- 7 2 IN") {
		t.Errorf("%s", answer)
	}
	for _, x := range []struct{ name, text, want string }{
		{"fewer lines", brief, "2 m-lines, and there were 3"},
		{"another mid", strings.NewReplacer("a=mid:w", "a=mid:x", "v w", "v x").Replace(grown), `m-line 3: video with mid "x", and it was video with mid "w"`},
		{"another order", strings.NewReplacer("a=mid:a", "a=mid:v", "a=mid:v", "a=mid:a").Replace(grown), `m-line 1: audio with mid "v"`},
		{"another number", strings.NewReplacer("extmap:1 ", "extmap:4 ").Replace(grown), `m-line 2: a=extmap:4: "urn:ietf:params:rtp-hdrext:sdes:mid" had the number 1`},
		{"another extension", strings.NewReplacer("extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid", "extmap:1 x:y").Replace(grown), `a=extmap:1: "x:y", and it was`},
		{"another meaning", strings.NewReplacer("100 VP9", "100 VP8").Replace(grown), `mid "w": payload type 100 is VP8, and it was VP9 profile 0`},
		{"another certificate", strings.NewReplacer("00:01:02", "00:01:03").Replace(grown), "another certificate"},
	} {
		if _, err := next.Renegotiate(mustParse(t, x.text), DefaultPolicy()); err == nil || !strings.HasPrefix(err.Error(), "later offer: ") || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
	// A line that is no longer used makes room for another.
	stopped, err := next.Renegotiate(mustParse(t, strings.Replace(grown, "m=video 9 UDP/TLS/RTP/SAVPF 100", "m=video 0 UDP/TLS/RTP/SAVPF 100", 1)), DefaultPolicy())
	if err != nil || !stopped.Media[2].Rejected {
		t.Fatal(err)
	}
	if again, err := stopped.Renegotiate(mustParse(t, strings.NewReplacer("a=mid:w", "a=mid:x", "v w", "v x").Replace(grown)), DefaultPolicy()); err != nil || again.Media[2].Rejected || again.Media[2].MID != "x" || again.Version != 4 {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestH264Profiles goes through table 5 of RFC 6184.
func TestH264Profiles(t *testing.T) {
	for id, want := range map[string]uint8{
		"42e01f": ConstrainedBaseline, "42c01f": ConstrainedBaseline, "42401E": ConstrainedBaseline, "4d801f": ConstrainedBaseline, "58c01f": ConstrainedBaseline,
		"42001f": Baseline, "42a01f": Baseline, "58801f": Baseline,
		"4d001f": Main, "4d401f": Main, "640c1f": ConstrainedHigh, "64001f": High, "f4001f": High444,
		"58001f": 0, "6e001f": 0, "64101f": 0, "42011f": 0, "42e01": 0, "42e01g": 0,
	} {
		if got, ok := h264Profile(id); got != want || ok != (want != 0) {
			t.Errorf("%s: %d, %t, want %d", id, got, ok, want)
		}
	}
}

// TestFormats: formats that differ are different codecs, and a stream goes only
// to whoever can decode it.
func TestFormats(t *testing.T) {
	text := with(t, "SAVPF 96 97", "SAVPF 96 97 98 99 100 101 102 103 104 105 106", "a=rid:l", `a=rtpmap:98 VP9/90000
a=rtpmap:99 VP9/90000
a=fmtp:99 profile-id=2
a=rtpmap:100 H264/90000
a=fmtp:100 packetization-mode=1;profile-level-id=42E01F; sprop-parameter-sets=Z0LAFYyNQKDLzw==,aM48gA==
a=rtpmap:101 H264/90000
a=fmtp:101 profile-level-id=42e01f
a=rtpmap:102 h264/90000
a=fmtp:102 profile-level-id=640c1f;packetization-mode=1
a=rtpmap:103 AV1/90000
a=rtpmap:104 AV1/90000
a=fmtp:104 profile=1
a=rtpmap:105 H264/90000
a=fmtp:105 profile-level-id=42e01f;packetization-mode=2
a=rtpmap:106 vp9/48000
a=rid:l`)
	l := &mustNegotiate(t, text).Media[1]
	if got := names(l); got != "96:VP8 98:VP9 profile 0 100:H264 profile 1 mode 1 102:H264 profile 4 mode 1 101:H264 profile 1 mode 0 103:AV1 profile 0 99:VP9 profile 2" {
		t.Error(got)
	}
	for _, x := range []struct {
		format Format
		pt     uint8 // 0: nobody
	}{
		{Format{Kind: codec.VP8}, 96}, {Format{Kind: codec.VP9}, 98}, {Format{codec.VP9, 2, 0}, 99}, {Format{codec.VP9, 1, 0}, 0},
		{Format{Kind: codec.AV1}, 103}, {Format{codec.AV1, 1, 0}, 0}, {Format{Kind: codec.Opus}, 0},
		{Format{codec.H264, ConstrainedBaseline, 1}, 100}, {Format{codec.H264, ConstrainedBaseline, 0}, 101},
		{Format{codec.H264, ConstrainedHigh, 0}, 102}, {Format{codec.H264, Baseline, 1}, 0}, {Format{codec.H264, High, 1}, 0},
	} {
		c, ok := l.Send(x.format)
		if ok != (x.pt != 0) || ok && c.PT != x.pt {
			t.Errorf("%v: %+v, %t, want %d", x.format, c, ok, x.pt)
		}
	}
	high := &Line{Codecs: []Codec{{Format: Format{codec.H264, High, 1}, PT: 5, RTX: 6}}}
	for profile, want := range map[uint8]bool{ConstrainedBaseline: true, Baseline: false, Main: true, ConstrainedHigh: true, High: true, High444: false} {
		if _, ok := high.Send(Format{codec.H264, profile, 1}); ok != want {
			t.Errorf("profile %d to High: %t", profile, ok)
		}
	}
	if c, rtx, ok := high.Receive(6); !ok || !rtx || c.PT != 5 {
		t.Error("RTX of High")
	}
	if _, rtx, ok := high.Receive(5); !ok || rtx {
		t.Error("High")
	}
	if _, _, ok := l.Receive(105); ok {
		t.Error("a payload type that is not taken is received")
	}
	if c, _ := l.Send(Format{codec.H264, ConstrainedBaseline, 1}); c.Fmtp != "packetization-mode=1;profile-level-id=42E01F" {
		t.Errorf("%q", c.Fmtp)
	}
}

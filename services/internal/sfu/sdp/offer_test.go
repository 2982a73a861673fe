package sdp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// brief is an offer of one line of sound and one of pictures. Tests change it.
const brief = `v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE a v
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F
a=ice-ufrag:frag
a=ice-pwd:0123456789012345678901
a=setup:actpass
m=audio 9 UDP/TLS/RTP/SAVPF 63 111
c=IN IP4 0.0.0.0
a=mid:a
a=sendonly
a=rtcp-mux
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10
m=video 9 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 0.0.0.0
a=mid:v
a=sendonly
a=rtcp-mux
a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid
a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 nack
a=rtcp-fb:96 transport-cc
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rid:l send
a=rid:m send
a=rid:h send
a=simulcast:send l;m;h
`

// with returns brief with texts replaced, old and new in turn.
func with(t testing.TB, pairs ...string) string {
	t.Helper()
	s := brief
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(s, pairs[i]) {
			t.Fatalf("no %q", pairs[i])
		}
		s = strings.Replace(s, pairs[i], pairs[i+1], 1)
	}
	return s
}

func TestParse(t *testing.T) {
	o := mustParse(t, with(t,
		"a=rid:h send\n", "a=rid:h send max-width=1280;max-height=720\na=rid:x recv\n",
		"send l;m;h", "recv x send l;~m;h,l",
		"a=rtcp-fb:96 nack\n", "a=rtcp-fb:* ccm fir\n",
		"a=rtpmap:97", "a=ssrc-group:FID 5 6\na=ssrc:6 cname:x\na=ssrc:5 cname:x\na=ssrc:9 cname:y\na=ssrc-group:SIM 5 9\na=rtpmap:97",
		"a=extmap:2 urn", "a=extmap:2/sendonly urn"))
	if got := fmt.Sprint(o.Bundle, o.ICE, len(o.Fingerprints), o.Setup); got != "[a v] {frag 0123456789012345678901 false false} 1actpass" {
		t.Error(got)
	}
	a, v := &o.Media[0], &o.Media[1]
	if a.MID != "a" || a.Kind != "audio" || !a.RTCPMux || a.RTCPRsize || a.Direction.String() != "sendonly" || !a.Live() {
		t.Errorf("%+v", a)
	}
	if got := fmt.Sprint(a.Codecs); got != "[{63 red 48000 2 111/111 []} {111 opus 48000 2 minptime=10 []}]" {
		t.Error(got)
	}
	if got := fmt.Sprint(v.Codecs); got != "[{96 VP8 90000 1  [ccm fir transport-cc]} {97 rtx 90000 1 apt=96 [ccm fir]}]" {
		t.Error(got)
	}
	if got := fmt.Sprint(v.Layers, v.Sources); got != "[l m h] [{5 6} {9 0}]" {
		t.Error(got)
	}
	if e := v.Extensions[1]; e.ID != 2 || e.Direction != (Direction{Send: true}) || e.URI != RIDURI {
		t.Errorf("%+v", e)
	}
	// Attributes of the session count where a line has none; ends of lines are as
	// they come, and the last may have none.
	o = mustParse(t, strings.ReplaceAll(strings.TrimSpace(with(t, "a=sendonly\n", "", "t=0 0\n", "t=0 0\na=recvonly\n")), "\n", "\r\n"))
	if o.Media[0].Direction.String() != "recvonly" || o.Media[1].Direction.String() != "sendonly" || len(o.Media[1].Layers) != 3 {
		t.Errorf("%+v", o.Media)
	}
}

// TestParseRefuses: what is wrong is named, by line of text or m-line and
// attribute.
func TestParseRefuses(t *testing.T) {
	many := func(n int, line string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, line+"\n", i+1)
		}
		return b.String()
	}
	for _, x := range []struct{ name, text, want string }{
		{"nothing", "", "no m-line"},
		{"no media", "v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\n", "no m-line"},
		{"too long", strings.Repeat("x", MaxText+1), "262145 bytes of text, want at most 262144"},
		{"too many lines", brief + strings.Repeat("a=x\n", MaxLines), "more than 8192 lines"},
		{"too many m-lines", brief + many(63, "m=audio 9 UDP/TLS/RTP/SAVPF 0\na=mid:x%d"), "line 160: more than 64 m-lines"},
		{"not SDP", "hello\n", `line 1, "hello": wrong syntax`},
		{"wrong line", with(t, "t=0 0", "t=x 0"), `line 4, "t=x 0": wrong syntax`},
		{"out of place", with(t, "a=mid:a\n", "a=mid:a\no=- 1 1 IN IP4 0.0.0.0\n"), "line 13, "},
		{"control character", with(t, "a=mid:a", "a=mid:a\x00"), "line 12, "},
		{"lone return", with(t, "a=mid:a", "a=mid:a\ra=mid:b"), "line 12, "},
		{"kind", with(t, "m=audio", "m=smell"), "line 10, "},
		{"no mid", with(t, "a=mid:v\n", ""), `m-line 2 (video, mid ""): a=mid: missing`},
		{"long mid", with(t, "a=mid:v", "a=mid:12345678901234567"), "not a token of 1 to 16 characters"},
		{"mid twice", with(t, "a=mid:v", "a=mid:a"), `m-line 2: a=mid:"a": an earlier m-line has it`},
		{"payload type", with(t, "SAVPF 96", "SAVPF 128"), `m-line 2 (video, mid "v"): payload type "128"`},
		{"payload type twice", with(t, "SAVPF 96", "SAVPF 97"), "payload type 97: twice"},
		{"codecs", with(t, "SAVPF 96 97", "SAVPF"+strings.ReplaceAll(many(65, " %d"), "\n", "")), "65 formats, want at most 64"},
		{"rtpmap", with(t, "VP8/90000", "VP8"), `"a=rtpmap:96 VP8": not NAME/CLOCK`},
		{"clock", with(t, "VP8/90000", "VP8/0"), `clock rate "0"`},
		{"channels", with(t, "opus/48000/2", "opus/48000/x"), `channels "x"`},
		{"fmtp", with(t, "fmtp:111 minptime=10", "fmtp:111 x="+strings.Repeat("1", 3000)), "3002 bytes, want at most 2048"},
		{"feedback", with(t, "a=rtcp-fb:96 nack\n", many(40, "a=rtcp-fb:* x%d")), "more than 32 of one payload type"},
		{"extension", with(t, "extmap:1 ", "extmap:0 "), `"0": not a number from 1 to 8191`},
		{"extension's direction", with(t, "extmap:1 ", "extmap:1/up "), `direction "up"`},
		{"extension twice", with(t, "extmap:2 ", "extmap:1 "), `1 is "urn:ietf:params:rtp-hdrext:sdes:mid" already`},
		{"extensions", with(t, "a=rid:l", many(70, "a=extmap:1%[1]d x:%[1]d")+"a=rid:l"), "more than 64"},
		{"rid", with(t, "a=rid:l send", "a=rid:l! send"), "not a name of 1 to 16"},
		{"rids", with(t, "a=rid:l send\n", many(20, "a=rid:r%d send")), "more than 16"},
		{"simulcast", with(t, "send l;m;h", "l;m;h"), "not a direction and RIDs"},
		{"simulcast's direction", with(t, "send l;m;h", "up l;m;h"), `direction "up"`},
		{"simulcast, twice one", with(t, "send l;m;h", "send l;m;l"), `RID "l": wrong, or twice`},
		{"simulcast of nothing", with(t, "send l;m;h", "send l;m;q"), `RID "q" has no a=rid that sends`},
		{"ssrc", with(t, "a=rid:l", "a=ssrc:0 cname:x\na=rid:l"), `SSRC "0"`},
		{"ssrcs", with(t, "a=rid:l", many(65, "a=ssrc:%d cname:x")+"a=rid:l"), "more than 64"},
		{"ssrc of two lines", with(t, "a=rtpmap:63", "a=ssrc:5 cname:x\na=rtpmap:63", "a=rid:l", "a=ssrc-group:FID 4 5\na=rid:l"), "m-line 2: a=ssrc:5: m-line 1 has it too"},
		{"group", with(t, "a=rid:l", "a=ssrc-group:FID 4\na=rid:l"), "not FID and two SSRCs"},
		{"group of one", with(t, "a=rid:l", "a=ssrc-group:FID 4 4\na=rid:l"), "the same SSRC twice"},
		{"groups that meet", with(t, "a=rid:l", "a=ssrc-group:FID 4 5\na=ssrc-group:FID 5 6\na=rid:l"), "an SSRC of another FID group"},
		{"ufrag", with(t, "ufrag:frag", "ufrag:fr"), `session: "a=ice-ufrag:fr": 2 characters, want 4 to 256`},
		{"ufrag's letters", with(t, "ufrag:frag", "ufrag:fr ag"), `character ' '`},
		{"pwd", with(t, "pwd:0123456789012345678901", "pwd:short"), "not 22 to 256 letters"},
		{"setup", with(t, "actpass", "yes"), "not active, passive, actpass or holdconn"},
		{"fingerprint", with(t, "sha-256 00:01", "sha-256 01"), "31 bytes of SHA-256, want 32"},
		{"fingerprint's digits", with(t, "sha-256 00:01", "sha-256 0x:01"), "not pairs of hexadecimal digits"},
	} {
		if _, err := Parse(x.text); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		} else if strings.Contains(err.Error(), "pwd:short") || len(err.Error()) > 300 {
			t.Errorf("%s: says too much: %v", x.name, err)
		}
	}
}

func TestNegotiateRefuses(t *testing.T) {
	narrow := DefaultPolicy()
	narrow.DTLSClient = false
	for _, x := range []struct {
		name, text, want string
		policy           Policy
	}{
		{"no bundle", with(t, "a=group:BUNDLE a v\n", ""), "a=group: no BUNDLE group", narrow},
		{"no rtcp-mux", with(t, "a=rtcp-mux\na=extmap", "a=extmap"), `m-line 2 (video, mid "v"): a=rtcp-mux: missing`, narrow},
		{"no fingerprint", with(t, "sha-256 00:01", "sha-1 00:01"), "a=fingerprint: none of SHA-256", narrow},
		{"no ufrag", with(t, "a=ice-ufrag:frag\n", ""), "a=ice-ufrag: missing", narrow},
		{"no pwd", with(t, "a=ice-pwd:0123456789012345678901\n", ""), "a=ice-pwd: missing", narrow},
		{"lite", with(t, "t=0 0\n", "t=0 0\na=ice-lite\n"), "a=ice-lite", narrow},
		{"passive", with(t, "actpass", "passive"), "a=setup:passive", narrow},
		{"on hold", with(t, "actpass", "holdconn"), "a=setup:holdconn", DefaultPolicy()},
		{"extensions that differ", with(t, "a=rtpmap:63", "a=extmap:1 x:y\na=rtpmap:63"), `a=extmap:1: "urn:ietf:params:rtp-hdrext:sdes:mid" here, "x:y" elsewhere`, narrow},
		{"nothing to take", with(t, "VP8", "VP7", "opus", "speex", "SAVPF 63 111", "SAVPF 111"), "no m-line can be taken: no codec that this server forwards", narrow},
		{"data alone", strings.Split(brief, "m=")[0] + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:a\n", "no m-line can be taken: data channels are not available", narrow},
	} {
		if _, err := Negotiate(mustParse(t, x.text), x.policy); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
}

// TestRejectedLines: what cannot be taken is port 0 in the answer, in its place,
// and out of the bundle.
func TestRejectedLines(t *testing.T) {
	for _, x := range []struct{ name, text, want string }{
		{"data", brief + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:d\n", "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"},
		{"not in use", brief + "m=video 0 UDP/TLS/RTP/SAVPF 96\na=mid:d\n", "m=video 0 UDP/TLS/RTP/SAVPF 96"},
		{"text", brief + "m=text 9 UDP/TLS/RTP/SAVPF 98\na=mid:d\n", "m=text 0 UDP/TLS/RTP/SAVPF 98"},
		{"plain RTP", with(t, "BUNDLE a v", "BUNDLE a v d") + "m=video 9 RTP/AVP 96\na=mid:d\na=rtcp-mux\na=rtpmap:96 VP8/90000\n", "m=video 0 RTP/AVP 96"},
		{"outside", brief + "m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:d\na=rtcp-mux\na=rtpmap:96 VP8/90000\n", "m=video 0 UDP/TLS/RTP/SAVPF 96"},
		{"foreign codec", with(t, "BUNDLE a v", "BUNDLE a v d") + "m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:d\na=rtcp-mux\na=rtpmap:96 H265/90000\n", "m=video 0 UDP/TLS/RTP/SAVPF 96"},
	} {
		s := mustNegotiate(t, x.text)
		l := &s.Media[2]
		answer := mustAnswer(t, s)
		if !l.Rejected || l.Reason == "" || l.FromPeer || l.ToPeer || !strings.Contains(answer, x.want+"\r\n") || !strings.Contains(answer, "a=group:BUNDLE a v\r\n") {
			t.Errorf("%s: %+v\n%s", x.name, l, answer)
		}
		if !strings.HasSuffix(answer, "a=mid:d\r\na=inactive\r\n") {
			t.Errorf("%s:\n%s", x.name, answer)
		}
	}
}

// TestTransport: the first live line of the bundle speaks for all, also for lines
// that say something else.
func TestTransport(t *testing.T) {
	o := mustParse(t, with(t, "a=mid:v\n", "a=mid:v\na=ice-ufrag:late\na=ice-pwd:9999999999999999999999\na=setup:active\n"))
	if s, err := Negotiate(o, DefaultPolicy()); err != nil || s.ICE.Ufrag != "frag" {
		t.Error(s, err)
	}
	o.Bundle = []string{"v", "a"}
	if s, err := Negotiate(o, DefaultPolicy()); err != nil || s.ICE.Ufrag != "late" || s.ICE.Pwd != strings.Repeat("9", 22) {
		t.Error(s, err)
	}
	o.Media[1].Port = 0
	s, err := Negotiate(o, DefaultPolicy())
	if err != nil || s.ICE.Ufrag != "frag" || !s.Media[1].Rejected || !slices.Equal(s.bundle, []string{"a"}) {
		t.Error(s, err)
	}
	o.Media[1].BundleOnly = true
	if s, err := Negotiate(o, DefaultPolicy()); err != nil || s.Media[1].Rejected {
		t.Error(s, err)
	}
}

package sdp

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
)

// page offers what a meeting's page offers, without a camera: pictures come from
// a canvas, and a microphone that is muted needs no track.
const page = `(() => {
	const picture = () => {
		const c = document.createElement("canvas");
		c.width = 640; c.height = 360; c.getContext("2d");
		return c.captureStream(5).getVideoTracks()[0];
	};
	const pc = new RTCPeerConnection({bundlePolicy: "max-bundle"});
	pc.addTransceiver("audio", {direction: "sendonly"});
	pc.addTransceiver(picture(), {direction: "sendonly", sendEncodings: [
		{rid: "l", scaleResolutionDownBy: 4}, {rid: "m", scaleResolutionDownBy: 2}, {rid: "h"}]});
	pc.addTransceiver(picture(), {direction: "sendonly"});
	window.pc = pc;
	window.slots = (audio, video) => {
		for (let i = 0; i < audio; i++) pc.addTransceiver("audio", {direction: "recvonly"});
		for (let i = 0; i < video; i++) pc.addTransceiver("video", {direction: "recvonly"});
	};
	window.offer = async () => { await pc.setLocalDescription(); return pc.localDescription.sdp; };
	window.answer = async (sdp) => {
		await pc.setRemoteDescription({type: "answer", sdp});
		return JSON.stringify(pc.getTransceivers().map(t => ({
			mid: t.mid, direction: t.currentDirection || "",
			sends: t.sender.getParameters().codecs?.[0]?.mimeType || "",
			layers: (t.sender.getParameters().encodings || []).map(e => e.rid || "").join(" "),
		})));
	};
	return "ready";
})()`

// transceiver is what Chromium made of an answer.
type transceiver struct{ MID, Direction, Sends, Layers string }

// TestChromiumAccepts lets Chromium take our answers: to a meeting's offer, and to
// a later one with more slots, a data channel and an ICE restart.
func TestChromiumAccepts(t *testing.T) {
	b := browsertest.New(t, "en")
	b.Value(page)
	call := func(script string) string {
		t.Helper()
		s, err := chromedp.Run(b.Ctx, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	l := local()
	l.Candidates = []Candidate{{Addr: netip.MustParseAddr("127.0.0.1"), Port: 9}, {Addr: netip.MustParseAddr("127.0.0.1"), Port: 9, TCP: true}}
	take := func(s *Session) (out []transceiver) {
		t.Helper()
		fill(s)
		text, err := s.Answer(l)
		if err != nil {
			t.Fatal(err)
		}
		arg, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(call("answer("+string(arg)+")")), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}

	b.Value(`slots(3, 9)`)
	s := mustNegotiate(t, call("offer()"))
	for i, x := range take(s) {
		want := "recvonly"
		if i < 3 {
			want = "sendonly"
		}
		if x.Direction != want || x.MID != s.Media[i].MID {
			t.Errorf("transceiver %d: %+v, want %s", i, x, want)
		}
		switch {
		case i == 0 && x.Sends != "audio/red", i == 1 && (x.Sends != "video/VP8" || x.Layers != "l m h"), i == 2 && x.Sends != "video/VP8":
			t.Errorf("transceiver %d: %+v", i, x)
		}
	}

	b.Value(`slots(0, 4), pc.getTransceivers()[2].direction = "inactive", pc.createDataChannel("x"), pc.restartIce()`)
	o := mustParse(t, call("offer()"))
	if s.SameICE(o) {
		t.Error("the restart is not seen")
	}
	next, err := s.Renegotiate(o, DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	l.Ufrag, l.Pwd = "Parm", "bbcdefghijklmnopqrstuv+/"
	for i, x := range take(next) {
		want := "recvonly"
		switch {
		case i == 2:
			want = "inactive"
		case i < 3:
			want = "sendonly"
		}
		if x.Direction != want {
			t.Errorf("later, transceiver %d: %+v, want %s", i, x, want)
		}
	}
	if n := len(next.Media); n != 20 || next.Version != 2 {
		t.Errorf("%d lines, version %d", n, next.Version)
	}
	if got := b.Value(`pc.signalingState`); got != "stable" {
		t.Errorf("state %s", got)
	}
	// The same again, nothing new.
	o = mustParse(t, call("offer()"))
	if !next.SameICE(o) {
		t.Error("a restart is seen, and was not asked for")
	}
	if next, err = next.Renegotiate(o, DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	take(next)
}

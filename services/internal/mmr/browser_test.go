package mmr

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
)

// script publishes a camera and a microphone by WHIP and plays them by WHEP, in
// one page.
const script = `
async function post(url, ticket, pc, tcp) {
  await pc.setLocalDescription();
  const r = await fetch(url, {method: "POST", body: pc.localDescription.sdp, headers: {"Content-Type": "application/sdp", "Authorization": "Bearer " + ticket}});
  let sdp = await r.text();
  if (r.status !== 201) throw new Error(url + ": " + r.status + " " + sdp);
  if (tcp) sdp = sdp.split("\r\n").filter(l => !/^a=candidate:\S+ \d+ udp /i.test(l)).join("\r\n");
  await pc.setRemoteDescription({type: "answer", sdp});
}
async function publish(url, ticket, codec, tcp, relay) {
  const media = await navigator.mediaDevices.getUserMedia({audio: true, video: {width: 640, height: 360}});
  const pc = window.out = new RTCPeerConnection(relay || {});
  for (const t of media.getTracks()) {
    const tr = pc.addTransceiver(t, {direction: "sendonly"});
    if (t.kind !== "video") {
      // With redundancy (RFC 2198) beside one of the codecs.
      const all = RTCRtpSender.getCapabilities("audio").codecs, red = all.filter(c => c.mimeType === "audio/red");
      if (codec === "VP9") tr.setCodecPreferences(red.concat(all.filter(c => c.mimeType === "audio/opus")));
      continue;
    }
    const all = RTCRtpSender.getCapabilities("video").codecs;
    const want = all.filter(c => c.mimeType.toLowerCase() === "video/" + codec.toLowerCase());
    if (!want.length) throw new Error("this browser has no " + codec);
    tr.setCodecPreferences(want.concat(all.filter(c => c.mimeType === "video/rtx")));
  }
  await post(url, ticket, pc, tcp);
}
async function play(url, ticket, tcp, relay) {
  const pc = window.in = new RTCPeerConnection(relay || {});
  pc.addTransceiver("video", {direction: "recvonly"});
  pc.addTransceiver("audio", {direction: "recvonly"});
  pc.ontrack = e => {
    const el = document.createElement(e.track.kind);
    el.autoplay = true;
    el.srcObject = new MediaStream([e.track]);
    document.body.append(el);
  };
  await post(url, ticket, pc, tcp);
}
async function look() {
  const s = await window.in.getStats();
  const by = [...s.values()];
  const v = by.find(x => x.type === "inbound-rtp" && x.kind === "video") || {};
  const a = by.find(x => x.type === "inbound-rtp" && x.kind === "audio") || {};
  const t = by.find(x => x.type === "transport") || {};
  const pair = s.get(t.selectedCandidatePairId), local = pair ? s.get(pair.localCandidateId) : {};
  window.seen = {
    frames: v.framesDecoded || 0, width: v.frameWidth || 0, energy: a.totalAudioEnergy || 0, cipher: t.srtpCipher || "",
    codec: v.codecId ? s.get(v.codecId).mimeType : "", path: !pair ? "" : local.relayProtocol ? "relay " + local.relayProtocol : s.get(pair.remoteCandidateId).protocol,
    lost: v.packetsLost || 0, freezes: v.freezeCount || 0, frozen: v.totalFreezesDuration || 0, discarded: a.packetsDiscarded || 0, concealed: a.concealedSamples || 0, samples: a.totalSamplesReceived || 0,
  };
}
function act(f) { window.done = ""; f().then(() => window.done = "ok", e => window.done = "failed: " + e); }
setInterval(() => { if (window.in) look(); }, 200);
`

// fakes give a browser a camera, a microphone and leave to use them.
var fakes = []chromedp.ExecAllocatorOption{
	chromedp.Flag("use-fake-device-for-media-stream", true),
	chromedp.Flag("use-fake-ui-for-media-stream", true),
	chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
}

// Real browsers meet through the router: what the one's camera shows the other
// decodes, in each codec, and hears; by UDP, by TCP where nothing else is offered,
// and by TURN over TLS where the browser may use nothing else.
func TestBrowser(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><title>test</title><link rel=icon href=data:,><body><script>%s</script>", script)
	}))
	defer web.Close()
	for _, test := range []struct {
		codec, path string
	}{
		{"VP8", "udp"}, {"VP9", "udp"}, {"H264", "udp"}, {"AV1", "udp"}, {"VP8", "tcp"}, {"VP8", "relay tls"},
	} {
		t.Run(test.codec+" by "+test.path, func(t *testing.T) {
			target := start(t)
			act := func(b *browsertest.Tab, call string, n int) {
				t.Helper()
				text, err := target.Ticket(n)
				if err != nil {
					t.Fatal(err)
				}
				b.Value(fmt.Sprintf("act(() => %s) || 1", fmt.Sprintf(call, text)))
				b.Until(`window.done !== ""`)
				if got := b.Value("window.done"); got != "ok" {
					t.Fatal(got)
				}
			}
			tcp, relay := test.path == "tcp", "null"
			if test.path == "relay tls" {
				r := open(t, target, 3).turn
				relay = fmt.Sprintf(`{iceTransportPolicy: "relay", iceServers: [{urls: %q, username: %q, credential: %q}]}`, r.URLs[0], r.Username, r.Credential)
			}
			tab := func() *browsertest.Tab {
				b := browsertest.New(t, "en", fakes...)
				b.Run(chromedp.Navigate(web.URL))
				return b
			}
			out, in := tab(), tab()
			act(out, fmt.Sprintf(`publish(%q, "%%s", %q, %v, %s)`, target.Base+"/whip", test.codec, tcp, relay), 1)
			act(in, fmt.Sprintf(`play(%q, "%%s", %v, %s)`, target.Base+"/whep", tcp, relay), 2)
			in.Until(`window.seen && window.seen.frames > 20 && window.seen.energy > 0`)
			if test.codec == "VP9" {
				// Where nothing is lost, what comes twice is discarded.
				in.Until(`window.seen.discarded > 20`)
			}
			// Older versions of Chromium leave the prefix out.
			if got := in.Value(`window.seen.codec + " " + window.seen.path + " " + window.seen.cipher.replace(/^(SRTP_)?/, "SRTP_")`); got != "video/"+test.codec+" "+test.path+" SRTP_AEAD_AES_128_GCM" {
				t.Errorf("plays %s", got)
			}
			t.Log(in.Value("JSON.stringify(window.seen)"))
		})
	}
}

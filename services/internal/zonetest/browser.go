package zonetest

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/bus/bustest"
)

// Path is what a browser may use for media.
type Path string

// The paths.
const (
	Any  Path = ""
	TCP  Path = "tcp"  // ICE-TCP alone: it is told of no other candidates
	TURN Path = "turn" // TURN over TLS alone: its policy is to use relays only
)

// watch follows the page's connections from before its own scripts.
const watch = `(() => {
  const way = %q, Real = RTCPeerConnection, all = [];
  window.RTCPeerConnection = class extends Real {
    constructor(c) { super(way === "turn" ? {...c, iceTransportPolicy: "relay"} : c); all.push(this); }
    setRemoteDescription(d) {
      if (way !== "tcp") return super.setRemoteDescription(d);
      const sdp = d.sdp.split("\r\n").filter(l => !/^a=candidate:\S+ \d+ udp /i.test(l)).join("\r\n");
      return super.setRemoteDescription({type: d.type, sdp});
    }
  };
  window.zone = {calls: 0, frames: 0, energy: 0, path: "", still: 0};
  let moved = performance.now(), busy = false;
  setInterval(async () => {
    const pc = all.at(-1);
    if (!pc || busy) return;
    busy = true;
    try {
      const s = await pc.getStats(), z = {calls: all.length, frames: 0, energy: 0, path: "", freezes: 0, still: window.zone.still};
      for (const x of s.values()) {
        if (x.type === "inbound-rtp" && x.kind === "video") { z.frames += x.framesDecoded || 0; z.freezes += x.freezeCount || 0; }
        if (x.type === "inbound-rtp" && x.kind === "audio") z.energy += x.totalAudioEnergy || 0;
        const pair = x.type === "transport" && s.get(x.selectedCandidatePairId);
        if (pair) {
          const local = s.get(pair.localCandidateId), remote = s.get(pair.remoteCandidateId);
          z.path = local.relayProtocol ? "turn " + local.relayProtocol : remote.protocol;
        }
      }
      const now = performance.now();
      if (z.frames !== window.zone.frames) moved = now;
      z.still = Math.max(z.still, now - moved);
      window.zone = z;
    } finally { busy = false; }
  }, 100);
})();`

// Seen is what a page has got.
type Seen struct {
	Calls   int     // connections for media that the page has made
	Frames  int     // decoded by the last one
	Energy  float64 // of sound
	Freezes int
	Path    string  // "udp", "tcp" or "turn tls"
	Still   float64 // the longest time without another frame, ms
}

// Browser is somebody in a meeting by the page, in a browser.
type Browser struct {
	*browsertest.Tab
	Name string
}

// Browse has somebody come in by a controller's page, in a browser of his own, which
// gets more options if some are given.
func (z *Zone) Browse(t *testing.T, c *Process, name, text string, way Path, more ...chromedp.ExecAllocatorOption) *Browser {
	t.Helper()
	b := &Browser{Name: name, Tab: browsertest.New(t, "en", append(more,
		chromedp.Flag("use-fake-device-for-media-stream", "fps=15"),
		chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
	)...)}
	browsertest.Command(b.Tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: fmt.Sprintf(watch, way)})
	b.Run(chromedp.Navigate(z.Link(c, text)))
	b.Eventually(`document.querySelector(".ready video")?.videoWidth > 0`)
	b.Run(chromedp.Click("[data-join]"))
	b.Eventually(`document.querySelector("[data-link]")?.dataset.state === "ready"`)
	return b
}

// Eventually waits for a script to return true, as long as other parts of a zone's
// tests wait.
func (b *Browser) Eventually(script string) {
	b.T.Helper()
	bustest.Eventually(b.T, b.Name+": "+script, func() bool { return b.Value(script) == "true" })
}

// Seen tells what the page has got.
func (b *Browser) Seen() (s Seen) {
	b.T.Helper()
	if err := json.Unmarshal([]byte(b.Value("JSON.stringify(window.zone)")), &s); err != nil {
		b.T.Fatal(err)
	}
	return s
}

// Watch begins to measure Still anew.
func (b *Browser) Watch() {
	b.T.Helper()
	b.Value("window.zone.still = 0")
}

// Sees waits until somebody's picture plays.
func (b *Browser) Sees(name string) {
	b.T.Helper()
	b.Eventually(fmt.Sprintf(`[...document.querySelectorAll('.tile[data-source="camera"]')].some((e) => {
		const v = e.querySelector("video");
		return e.querySelector("[data-name]").textContent.startsWith(%q) && !v.hidden && v.videoWidth > 0 && v.getVideoPlaybackQuality().totalVideoFrames > 10;
	})`, name))
}

// Hears waits until sound comes that is not silence.
func (b *Browser) Hears() {
	b.T.Helper()
	b.Eventually(`window.zone.energy > 0.001`)
}

package mmr

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/internal/judge"
	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/load"
)

// whep is a WHEP client of another project, from npm.
const whep = "../../../.ci/browser/node_modules/whip-whep/whep.js"

// player is a page that has nothing of ours but two calls.
const player = `<!doctype html><title>test</title><link rel=icon href=data:,><body><script type=module>
import { WHEPClient } from "/whep.js";
window.play = async (url, token) => {
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: "max-bundle"});
  pc.addTransceiver("audio");
  pc.addTransceiver("video");
  pc.ontrack = e => {
    const el = document.createElement(e.track.kind);
    el.autoplay = true;
    el.srcObject = e.streams[0] || new MediaStream([e.track]);
    document.body.append(el);
  };
  await new WHEPClient().view(pc, url, token);
};
setInterval(async () => {
  if (!window.pc) return;
  const s = await window.pc.getStats(), all = [...s.values()];
  const v = all.find(x => x.type === "inbound-rtp" && x.kind === "video") || {};
  const a = all.find(x => x.type === "inbound-rtp" && x.kind === "audio") || {};
  window.seen = {frames: v.framesDecoded || 0, width: v.frameWidth || 0, energy: a.totalAudioEnergy || 0, codec: v.codecId ? s.get(v.codecId).mimeType : ""};
}, 200);
window.ready = true;
</script>`

// besides returns a folder with a libsoup 3 that takes a libsoup 2 beside it.
// Debian 12's whip-client uses the one, and what GStreamer finds UPnP with, which
// nobody needs here, the other: libsoup 3 ends a process in which it sees a symbol
// of libsoup 2, and the copy looks for another name.
func besides(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/libsoup-3.0.so.0")
	if err != nil || len(found) == 0 {
		return "" // and GStreamer does without
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b = bytes.ReplaceAll(b, []byte("\x00soup_uri_new\x00"), []byte("\x00soup_uri_nil\x00"))
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(found[0])), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Programs that nobody here wrote meet through the router: Debian's whip-client
// (GStreamer) publishes, and the WHEP client of WHIP's author plays in Chromium,
// which decodes.
func TestForeign(t *testing.T) {
	judge.Need(t, "whip-client", "chromium")
	script, err := os.ReadFile(whep)
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") == "" {
		t.Skip("whip-whep is not installed: .ci/setup test")
	} else if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whep.js" {
			w.Header().Set("Content-Type", "text/javascript")
			w.Write(script)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write([]byte(player))
	}))
	defer web.Close()
	t.Setenv("LD_LIBRARY_PATH", besides(t))
	for codec, encoder := range map[string]string{
		"VP8":  "vp8enc deadline=1 ! rtpvp8pay pt=96 ! application/x-rtp,media=video,encoding-name=VP8,payload=96",
		"H264": "openh264enc ! h264parse ! rtph264pay pt=97 config-interval=-1 aggregate-mode=zero-latency ! application/x-rtp,media=video,encoding-name=H264,payload=97",
	} {
		t.Run(codec, func(t *testing.T) {
			target := start(t)
			text, err := target.Ticket(1)
			if err != nil {
				t.Fatal(err)
			}
			// The client takes certificates of the system's authorities only.
			at, err := url.Parse(target.Base)
			if err != nil {
				t.Fatal(err)
			}
			proxy := httputil.NewSingleHostReverseProxy(at)
			proxy.Transport = target.HTTP.Transport
			front := httptest.NewServer(proxy)
			defer front.Close()
			judge.Start(t, "whip-client", "-u", front.URL+"/whip", "-t", text, "-o",
				"-V", "videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=25/1 ! "+encoder,
				"-A", "audiotestsrc is-live=true freq=440 ! audioconvert ! opusenc ! rtpopuspay pt=111 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111")
			if text, err = target.Ticket(2); err != nil {
				t.Fatal(err)
			}
			b := browsertest.New(t, "en", chromedp.Flag("autoplay-policy", "no-user-gesture-required"))
			b.Run(chromedp.Navigate(web.URL))
			b.Until("window.ready")
			b.Value(`play("` + target.Base + `/whep", "` + text + `").catch(e => { window.failed = String(e); }) && 1`)
			b.Until(`window.failed || window.seen && window.seen.frames > 20 && window.seen.energy > 0`)
			t.Log(b.Value("window.failed || JSON.stringify(window.seen)"))
			if got := b.Value(`window.failed || window.seen.codec + " " + window.seen.width`); got != "video/"+codec+" 640" {
				t.Errorf("plays %s", got)
			}
		})
	}
}

// waiting offers to be the server of DTLS, and nothing else (RFC 8842, 5.2).
type waiting struct{ *load.Parley }

func (w waiting) Publish(ctx context.Context, n int, offer string) (string, error) {
	return w.Parley.Publish(ctx, n, strings.ReplaceAll(offer, "a=setup:actpass", "a=setup:passive"))
}

func (w waiting) Subscribe(ctx context.Context, n int, offer string) (string, error) {
	return w.Parley.Subscribe(ctx, n, strings.ReplaceAll(offer, "a=setup:actpass", "a=setup:passive"))
}

// Encoders that only wait for DTLS are called by the router.
func TestWaiting(t *testing.T) {
	f := load.Fanout{
		Target: waiting{start(t)}, Local: netip.MustParseAddr("127.0.0.1"), Subscribers: 2, FullEvery: 2,
		Video: load.Video{Frames: 20, Packets: 4, Size: 800, Width: 640, Height: 360},
		Warm:  3 * time.Second, Measure: 2 * time.Second,
		Log: slog.New(slog.DiscardHandler), Progress: func(int, int, string) {},
	}
	r, err := f.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Packets < 100 || r.Loss > 0.01 || r.Opened == 0 {
		t.Errorf("%+v", r)
	}
}

package meetpage

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// press clicks a control.
func press(b *browsertest.Tab, name string) {
	b.T.Helper()
	b.Run(chromedp.Click(fmt.Sprintf(`.controls [data-do="%s"]`, name)))
}

// sees waits until somebody's picture plays and changes.
func sees(b *browsertest.Tab, name, source string) {
	b.T.Helper()
	b.Until(fmt.Sprintf(`[...document.querySelectorAll('.tile[data-source="%s"]')].some((e) => {
		const v = e.querySelector("video");
		return e.querySelector("[data-name]").textContent.startsWith(%q) && !v.hidden && getComputedStyle(e.querySelector(".avatar")).display === "none" && v.videoWidth > 0 && v.currentTime > 0.5 && v.getVideoPlaybackQuality().totalVideoFrames > 10;
	})`, source, name))
}

// tile is a script's expression for somebody's tile.
func tile(name string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('.tile[data-source="camera"]')].find((e) => e.querySelector("[data-name]").textContent === %q)`, name)
}

// hears waits until sound is played that is not silence.
func hears(b *browsertest.Tab) {
	b.T.Helper()
	b.Until(`(() => {
		window.probe ??= (() => {
			const c = new AudioContext(), a = c.createAnalyser();
			for (const e of document.querySelectorAll("audio")) c.createMediaStreamSource(e.srcObject).connect(a);
			void c.resume();
			return { a, loud: false };
		})();
		const s = new Float32Array(probe.a.fftSize);
		probe.a.getFloatTimeDomainData(s);
		return s.some((v) => Math.abs(v) > 0.01) && [...document.querySelectorAll("audio")].every((e) => !e.paused);
	})()`)
}

// Two people meet by the page: each sees and hears the other, what one does the
// other is shown, and a page that is loaded anew goes on where it was.
func TestMeet(t *testing.T) {
	w := newWorld(t)
	anna, boris := w.browser("en"), w.browser("ru")
	w.join(anna, w.ticket("Anna", ticket.Host, nil))
	if got := anna.Value(`location.href + JSON.stringify(history.state)`); got != w.web.URL+"/mnull" {
		t.Errorf("the address is %s: who copies it copies the ticket", got)
	}
	w.join(boris, w.ticket("Boris Ivanov", ticket.Guest, nil))
	sees(anna, "Boris Ivanov", "camera")
	sees(boris, "Anna", "camera")
	hears(anna)
	hears(boris)
	for _, x := range []struct{ in, want string }{
		{`document.querySelector("[data-people-count]").textContent`, "2"},
		{`document.querySelectorAll(".tile").length`, "2"},
		{`document.querySelector("#topic").textContent`, "Weekly call"},
		{`document.title`, "Weekly call · Parley"},
	} {
		if got := anna.Value(x.in); got != x.want {
			t.Errorf("%s is %q, want %q", x.in, got, x.want)
		}
	}

	// The microphone goes off and on.
	press(boris, "microphone")
	anna.Until(tile("Boris Ivanov") + `.querySelector("[data-marks]").textContent === ", microphone off"`)
	press(boris, "microphone")
	anna.Until(tile("Boris Ivanov") + `.querySelector("[data-marks]").textContent === ""`)
	// So does the camera, by its key; its device is let go.
	boris.Run(chromedp.KeyEvent("v", chromedp.KeyModifiers(1)))
	anna.Until(tile("Boris Ivanov") + `.querySelector("video").hidden`)
	boris.Until(`document.querySelector('.tile.self video').srcObject === null`)
	boris.Run(chromedp.KeyEvent("v", chromedp.KeyModifiers(1)))
	sees(anna, "Boris Ivanov", "camera")

	// Chat arrives in both, and is counted where it is not open.
	press(anna, "chat")
	anna.Until(`document.activeElement?.id === "say"`)
	anna.Run(chromedp.SendKeys("#say", "Hello <b>Boris</b>\r"))
	anna.Until(`document.querySelector(".line.own .line-text")?.textContent === "Hello <b>Boris</b>"`)
	boris.Until(`document.querySelector("[data-unread]").textContent === "1"`)
	press(boris, "chat")
	boris.Until(`document.querySelector(".line .line-text")?.textContent === "Hello <b>Boris</b>" && document.querySelector("[data-unread]").hidden`)
	boris.Run(chromedp.SendKeys("#say", "Привет\r"))
	anna.Until(`document.querySelectorAll(".line").length === 2`)
	anna.Run(chromedp.KeyEvent("\x1b"))
	anna.Until(`document.querySelector("#panel-chat").hidden && document.activeElement?.dataset.do === "chat"`)

	// Signalling breaks: media goes on, and what was said meanwhile comes.
	w.breakLinks()
	anna.Until(`document.querySelector("[data-link]").dataset.state === "unhealthy"`)
	frames := `document.querySelector('.tile:not(.self) video').getVideoPlaybackQuality().totalVideoFrames`
	anna.Value(`window.before = ` + frames)
	anna.Until(frames + ` > before + 10`)
	boris.Run(chromedp.SendKeys("#say", "Ещё здесь?\r"))
	w.mendLinks()
	w.connected(anna)
	anna.Until(`[...document.querySelectorAll(".line-text")].some((e) => e.textContent === "Ещё здесь?")`)

	// A page that is loaded anew is the same participant.
	anna.Run(chromedp.Reload())
	w.connected(anna)
	sees(anna, "Boris Ivanov", "camera")
	sees(boris, "Anna", "camera")
	if got := boris.Value(`document.querySelectorAll(".tile").length + " " + document.querySelector("[data-people-count]").textContent`); got != "2 2" {
		t.Errorf("after a reload Boris sees %s tiles and people", got)
	}

	// Who leaves is gone, and can come back by the portal.
	press(boris, "leave")
	boris.Until(`document.querySelector("[data-again]")?.href === "` + testIssuer + `/j/123456789" && !document.querySelector("[data-again]").hidden`)
	anna.Until(`document.querySelectorAll(".tile").length === 1`)
	if got := boris.Value(`sessionStorage.getItem("meeting")`); strings.Contains(got, "secret") {
		t.Errorf("after leaving the tab still has %s", got)
	}
}

// The functions that only compute.
func TestPure(t *testing.T) {
	w := newWorld(t)
	b := w.browser("en")
	b.Run(chromedp.Navigate(w.web.URL + "/"))
	b.Until(`!!document.querySelector(".message")`)
	b.Value(`window.m = {}, ["room", "link", "kept", "words"].forEach((n) => import(document.querySelector('[href$="/' + n + '.js"]').href).then((x) => { m[n] = x; })), 1`)
	b.Until(`Object.keys(m).length === 4`)
	for script, want := range map[string]string{
		`m.room.initials("Анна  Мария Смирнова")`: "АС",
		`m.room.initials(" élodie ")`:             "É",
		`m.room.initials("(Bob) #7")`:             "B7",
		`m.room.initials("🙂 ")`:                   "",
		// One fills the box; four are two by two; a row of three where the box is wide.
		`JSON.stringify(m.room.fit(1, 1600, 900, 16 / 9))`: `{"width":1600,"height":900}`,
		`JSON.stringify(m.room.fit(4, 1610, 910, 16 / 9))`: `{"width":800,"height":450}`,
		`JSON.stringify(m.room.fit(3, 1620, 300, 16 / 9))`: `{"width":533,"height":300}`,
		`JSON.stringify(m.room.fit(2, 300, 610, 4 / 3))`:   `{"width":300,"height":225}`,
		// At once, then later and later, less up to half.
		`[0, 1, 2, 5, 50].map((n) => m.link.delay(n, 0)).join()`:  "0,500,1000,8000,8000",
		`[0, 1, 2, 5, 50].map((n) => m.link.delay(n, 1)).join()`:  "0,250,500,4000,4000",
		`[0, 1, 2, 3, 4, 5].map((n) => m.link.turn(n, 3)).join()`: "0,0,1,2,0,1",
		`[0, 1, 2, 3].map((n) => m.link.turn(n, 1)).join()`:       "0,0,0,0",
		// What is no ticket says nothing, and what it says is bounded.
		`["", "junk", "a.b.c", "a." + btoa("[]") + ".c", "a." + btoa("null") + ".c"].map((s) => JSON.stringify(m.kept.claims(s).name ?? null)).join()`: "null,null,null,null,null",
		`JSON.stringify(m.kept.claims("a." + btoa(JSON.stringify({name: "x".repeat(999), meeting: {number: "12345'/"}, exp: 5})) + ".c"))`:             `{"name":"` + strings.Repeat("x", 200) + `","test":false,"expires":5000}`,
		`m.kept.claims("` + w.ticket("Анна", ticket.Host, nil) + `").name`:                                                                             "Анна",
		`m.words.t("js.page-of", 2, 3) + m.words.t("none") + m.words.fault("meet-offer", ["%s"])`:                                                      "2 of 3noneThe browser's offer was not understood: %s",
	} {
		if got := b.Value(script); got != want {
			t.Errorf("%s is %q, want %q", script, got, want)
		}
	}
}

// A controller is lost: the page goes on by the other one of the zone, with the same
// session, and media notices nothing. Then its network is another one: ICE begins
// anew. What nobody looks at is not sent.
func TestFailover(t *testing.T) {
	w := newWorld(t)
	anna, boris := w.browser("en"), w.browser("en")
	w.arrive(anna, w.ticket("Anna", ticket.Host, nil))
	anna.Value(`window.RTCPeerConnection = class extends RTCPeerConnection { constructor(...a) { super(...a); window.pc = this; } }, 1`)
	anna.Value(`window.WebSocket = class extends WebSocket { constructor(u) { super(u); window.socket = String(u); } }, 1`)
	anna.Run(chromedp.Click("[data-join]"))
	w.connected(anna)
	// Boris's browser plays no sound until he presses something.
	w.arrive(boris, w.ticket("Boris", ticket.Guest, nil))
	boris.Value(`HTMLAudioElement.prototype.play = () => Promise.reject(new DOMException("", "NotAllowedError")), 1`)
	boris.Run(chromedp.Click("[data-join]"))
	w.connected(boris)
	sees(anna, "Boris", "camera")
	sees(boris, "Anna", "camera")
	boris.Until(`[...document.querySelectorAll("audio")].length === 3 && [...document.querySelectorAll("audio")].every((e) => e.paused)`)
	boris.Value(`delete HTMLAudioElement.prototype.play`)
	boris.Run(chromedp.Click(`[data-key="sound"] .small`))
	hears(boris)

	// Its figures are such as the router takes.
	anna.Value(`import(document.querySelector('[href$="/stats.js"]').href).then(async (m) => { window.stats = m.figures(await pc.getStats(), null).stats; }), 1`)
	anna.Until(`!!window.stats`)
	m, err := signal.ParseUp([]byte(`{"kind":"stats",` + anna.Value(`JSON.stringify(stats)`)[1:]))
	if s, ok := m.(*signal.Stats); err != nil || !ok || s.UpBits < 1000 || s.DownBits < 1000 || s.Protocol != "udp" || s.Relayed {
		t.Errorf("figures: %+v, %v", m, err)
	}

	// What the page agreed on with the router.
	if n := anna.Value(`pc.localDescription.sdp.length`); len(n) > 5 || n > "40000" && len(n) == 5 {
		t.Errorf("the offer has %s bytes", n)
	}
	for _, want := range []string{"usedtx=1", "useinbandfec=1", "a=simulcast:recv l;m;h"} {
		if got := anna.Value(`pc.remoteDescription.sdp.includes("` + want + `")`); got != "true" {
			t.Errorf("the answer lacks %s:\n%s", want, anna.Value(`pc.remoteDescription.sdp`))
		}
	}
	active := `pc.getSenders()[1].getParameters().encodings.map((e) => e.rid + ":" + e.active).join(" ")`
	anna.Until(active + `.includes("true") && ` + active + `.includes("false")`)
	boris.Size(360)
	anna.Until(active + `.includes("true") && ` + active + `.includes("h:false")`)
	t.Log(anna.Value(active))
	boris.Size(1280)

	// A screen is shared in two sizes.
	press(anna, "screen")
	sees(boris, "Anna", "screen")
	if got := anna.Value(`pc.remoteDescription.sdp.includes("a=simulcast:recv l;h")`); got != "true" {
		t.Error("the router does not take two sizes of the screen")
	}
	press(anna, "screen")
	boris.Until(`document.querySelector(".stage").hidden`)

	// The controller goes, and the other one goes on.
	frames := `document.querySelector('.tile:not(.self) video').getVideoPlaybackQuality().totalVideoFrames`
	anna.Value(`window.before = ` + frames)
	w.lost.Store(true)
	w.breakLinks()
	w.mendLinks()
	anna.Until(`socket.startsWith("wss` + strings.TrimPrefix(w.also.URL, "https") + `/signal?m=m1")`)
	w.connected(anna)
	w.connected(boris)
	press(boris, "chat")
	boris.Run(chromedp.SendKeys("#say", "by the other one\r"))
	anna.Until(`document.querySelector("[data-unread]").textContent === "1"`)
	anna.Until(frames + ` > before + 20`)

	// Another network: new ICE credentials, the same session.
	ufrag := `/a=ice-ufrag:(\S+)/.exec(pc.localDescription.sdp)[1]`
	anna.Value(`window.ufrag = ` + ufrag)
	anna.Value(`dispatchEvent(new Event("online"))`)
	anna.Until(ufrag + ` !== window.ufrag && pc.signalingState === "stable" && pc.connectionState === "connected"`)
	anna.Value(`window.before = ` + frames)
	anna.Until(frames + ` > before + 20`)

	// The connection for media is gone for good: the session begins anew by itself.
	anna.Value(`window.old = pc, pc.close(), 1`)
	anna.Value(`Object.defineProperty(old, "connectionState", { value: "failed" }), old.onconnectionstatechange(), 1`)
	anna.Until(`pc !== old && pc.connectionState === "connected"`)
	sees(anna, "Boris", "camera")
	sees(boris, "Anna", "camera")
}

// The router is lost with all it knew: by the tickets they have everybody meets at
// the next one, by himself.
func TestRouterLost(t *testing.T) {
	w := newWorld(t)
	anna, boris := w.browser("en"), w.browser("en")
	w.join(anna, w.ticket("Anna", ticket.Host, nil))
	w.join(boris, w.ticket("Boris", ticket.Guest, nil))
	sees(anna, "Boris", "camera")
	press(boris, "microphone")
	anna.Until(tile("Boris") + `.querySelector("[data-marks]").textContent !== ""`)
	for _, b := range []*browsertest.Tab{anna, boris} {
		b.Value(`document.querySelectorAll("video, audio").forEach((e) => e.dataset.old = "1"), window.room = document.querySelector(".room"), 1`)
	}
	w.breakLinks() // it says no word
	w.stop()
	w.router()
	w.mendLinks()
	for _, b := range []*browsertest.Tab{anna, boris} {
		b.Until(`[...document.querySelectorAll("audio")].length === 3 && ![...document.querySelectorAll("audio")].some((e) => e.dataset.old)`)
		w.connected(b)
		if got := b.Value(`window.room === document.querySelector(".room")`); got != "true" {
			t.Error("the screen was left meanwhile")
		}
	}
	sees(anna, "Boris", "camera")
	sees(boris, "Anna", "camera")
	anna.Until(tile("Boris") + `.querySelector("[data-marks]").textContent === ", microphone off" && document.querySelectorAll(".tile").length === 2`)
}

package webconsole

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/axetest"
)

// chromium returns where the browser is; without one the test is skipped on a
// desk and fails in CI.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("chromium is not installed")
	}
	t.Skip("chromium is not installed")
	return ""
}

// tab is a page in a real browser. What the browser complains about, a refused
// style as much as an exception, fails the test.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func newTab(t *testing.T, language string) *tab {
	t.Helper()
	path := chromium(t)
	opts := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Headless, chromedp.DisableGPU, chromedp.NoSandbox, // the tests may run as root
		chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("accept-lang", language),
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(func(ev any) {
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("exception in the page: %v", e.ExceptionDetails)
		case *log.EventEntryAdded:
			// Answers like 403 are entries too, and meant.
			if e.Entry.Source != log.EntrySourceNetwork {
				t.Errorf("the browser complains: %s %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
			}
		}
	}))
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser, which still writes into its folder
		cancel()
	})
	b := &tab{t, ctx}
	command(b, log.Enable, cdp.Empty{})
	b.size(1280)
	return b
}

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// reloaded reports whether a script was lost because the page was loaded anew
// meanwhile, as pages that stay fresh do when their parts change.
func reloaded(err error) bool {
	return strings.Contains(err.Error(), "navigated") || strings.Contains(err.Error(), "context with specified id") || strings.Contains(err.Error(), "context was destroyed")
}

// until waits for a script to return true.
func (b *tab) until(script string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	for {
		err := chromedp.Do(ctx, chromedp.Poll[chromedp.Void](script, chromedp.WithPollingInterval(50*time.Millisecond)))
		if err == nil {
			return
		}
		if ctx.Err() == nil && reloaded(err) {
			continue
		}
		body, _ := chromedp.Run(b.ctx, chromedp.Text("body"))
		b.t.Fatalf("%s: %v\n%s", script, err, body)
	}
}

func (b *tab) value(script string) string {
	b.t.Helper()
	for n := 0; ; n++ {
		s, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("String("+script+")"))
		if err == nil {
			return s
		}
		if n == 3 || !reloaded(err) {
			b.t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// command runs a command of the browser's protocol.
func command[P, R any](b *tab, cmd cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, cmd, params); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) size(width int64) {
	b.t.Helper()
	command(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1, Mobile: width < 500})
}

func (b *tab) media(features ...string) {
	b.t.Helper()
	var p emulation.SetEmulatedMediaParams
	for i := 0; i < len(features); i += 2 {
		p.Features = append(p.Features, &emulation.MediaFeature{Name: features[i], Value: features[i+1]})
	}
	command(b, emulation.SetEmulatedMedia, p)
}

func (b *tab) login(base string) {
	b.t.Helper()
	b.run(chromedp.Navigate(base+"/"), chromedp.WaitVisible("#password"),
		chromedp.SendKeys("#password", testPassword+"\r"), chromedp.WaitVisible(".services"))
}

// shots are taken when PARLEY_SHOTS names a folder, for people to look at.
func (b *tab) shots(name string) {
	dir := os.Getenv("PARLEY_SHOTS")
	if dir == "" {
		return
	}
	b.t.Helper()
	for _, x := range []struct {
		scheme string
		width  int64
	}{{"light", 360}, {"light", 1280}, {"light", 1920}, {"dark", 360}, {"dark", 1280}} {
		b.media("prefers-color-scheme", x.scheme)
		b.size(x.width)
		b.run(chromedp.Sleep(200 * time.Millisecond))
		png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
		if err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", name, x.scheme, x.width)), png, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	b.media()
	b.size(1280)
}

func TestBrowser(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := newTab(t, "en")
	b.run(chromedp.Navigate(r.base+"/"), chromedp.WaitVisible("#password"))
	if got := b.value("document.activeElement.id"); got != "password" {
		t.Errorf("the keyboard is at %q, want the password", got)
	}
	b.shots("login-en")
	// A wrong password, with the keyboard alone.
	b.run(chromedp.SendKeys("#password", "wrong\r"), chromedp.WaitVisible("#error"))
	b.until(`document.activeElement.id === "password"`)
	b.shots("login-wrong-en")
	b.run(chromedp.Click("#reveal"))
	if got := b.value("document.getElementById('password').type"); got != "text" {
		t.Errorf("the revealed password is in a field of type %q", got)
	}
	b.run(chromedp.SendKeys("#password", testPassword+"\r"), chromedp.WaitVisible(".services"))
	if got := b.value("document.cookie"); got != "" {
		t.Errorf("scripts see the cookies %q", got)
	}
	b.until(`document.getElementById("link").textContent === "Live"`)

	// News without loading the page anew.
	b.run(chromedp.Evaluate[chromedp.Void]("window.mark = 1"))
	r.server.Change(func(s *control.Status) {
		s.Services[3].State, s.Services[3].Since, s.Services[3].Detail = control.StateUnhealthy, time.Now(), "<b>no route</b>"
	})
	b.until(`document.querySelector('[data-live="svc.zctrl.state"]').textContent === "unhealthy"`)
	b.until(`document.getElementById("said").textContent.includes("zone controller: unhealthy")`)
	if got := b.value(`document.querySelector('[data-live="svc.zctrl.detail"]').textContent`); got != "<b>no route</b>" {
		t.Errorf("detail %q: markup is text", got)
	}
	r.server.Change(func(s *control.Status) {
		s.Perm = control.Perm{State: control.PermReadOnly, Message: "journal damaged: inode 12", Size: s.Perm.Size, Free: s.Perm.Free}
		s.LastBoot = "PID 1 panicked: index out of range"
		s.Services[3].State, s.Services[3].Detail = control.StateStopped, ""
		s.Services[4].State, s.Services[4].CrashLoop = control.StateWaiting, true
	})
	b.until(`!document.querySelector('[data-live="alert.storage"]').hidden`)
	b.until(`document.querySelector('[data-live="svc.zctrl.state"]').dataset.state === "stopped"`)
	if b.value("window.mark") != "1" {
		t.Error("the page was loaded anew for a change")
	}

	// The language switch comes back to where it was.
	b.run(chromedp.Navigate(r.base+"/services"), chromedp.WaitVisible(".services"))
	b.run(chromedp.Click(`button[lang="ru"]`), chromedp.WaitVisible(`button[lang="ru"][aria-pressed="true"]`))
	if got := b.value("document.documentElement.lang+location.pathname"); got != "ru/services" {
		t.Errorf("the switch led to %q", got)
	}
	b.until(`document.getElementById("link").textContent === "Обновляется"`)

	// An operation, and one that is asked about first.
	b.run(chromedp.Click(`[data-live="svc.zctrl.start"] button`), chromedp.WaitVisible(".note.good"))
	b.run(chromedp.Click(`[data-live="svc.console-web.stop"] button`), chromedp.WaitVisible("dialog[open]"))
	b.shots("dialog-ru")
	b.run(chromedp.Click(`dialog[open] button[value="no"]`))
	b.until(`!document.querySelector("dialog[open]")`)
	if got := r.server.Asked(); len(got) != 1 || got[0] != (control.Request{Op: control.OpStart, Service: "zctrl"}) {
		t.Errorf("asked for %+v", got)
	}
	b.run(chromedp.Navigate(r.base+"/"), chromedp.WaitVisible(".services"))
	b.shots("degraded-ru")

	// A new password ends the session, and the page notices by itself.
	r.setPassword(testPassword + " 2")
	b.run(chromedp.WaitVisible("#password"))
	if got := b.value("location.pathname+location.search"); got != "/login?ended=password" {
		t.Errorf("the page went to %s", got)
	}
	b.shots("login-ru")
}

// structure lists what assistive technology needs and a page has not.
const structure = `(() => {
	const out = [];
	for (const e of document.querySelectorAll("button, a, input, meter, select, textarea"))
		if (!(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length || e.type === "hidden" || e.hidden)) out.push(e.outerHTML);
	const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
	for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) out.push("id twice: " + id);
	for (const e of document.querySelectorAll("[aria-labelledby],[aria-describedby]"))
		for (const id of ((e.getAttribute("aria-labelledby") || "") + " " + (e.getAttribute("aria-describedby") || "")).trim().split(/ +/))
			if (!document.getElementById(id)) out.push("no element " + id);
	if (document.querySelectorAll("h1").length !== 1) out.push("h1");
	if (document.querySelectorAll("main").length !== 1) out.push("main");
	for (const e of document.querySelectorAll("th")) if (!e.scope) out.push(e.outerHTML);
	for (const e of document.querySelectorAll("img")) if (!e.hasAttribute("alt")) out.push(e.outerHTML);
	if (/<no value>|&lt;no value|\bundefined\b/.test(document.body.innerHTML)) out.push("a value is missing");
	return out.join("\n");
})()`

// Every page in both languages fits the narrowest screen and the widest text
// without scrolling sideways, gives every control a name, has enough contrast in
// both schemes, and is not heavier than maxWeight. PARLEY_PAGE limits the test to
// pages whose path has that text.
func TestBrowserPages(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	if err := r.admin.AddAccount(t.Context(), admintest.Operator, admin.AccountInput{Name: "vera", Authority: "view", Password: testPassword + " vera"}); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/services/zctrl"}
	for _, p := range r.c.pages {
		if !strings.Contains(p.Path, "{") {
			paths = append(paths, p.Path)
		}
	}
	only := os.Getenv("PARLEY_PAGE")
	for _, language := range []string{"en", "ru"} {
		b := newTab(t, language)
		b.login(r.base)
		for _, path := range paths {
			if !strings.Contains(path, only) {
				continue
			}
			b.run(chromedp.Navigate(r.base+path), chromedp.WaitVisible("h1"))
			b.judge(language + " " + path)
			name := strings.Trim(strings.ReplaceAll(path, "/", "-"), "-")
			if name == "" {
				name = "overview"
			}
			b.shots(name + "-" + language)
		}
	}
}

// maxWeight is how many bytes a page may load, all its files together.
const maxWeight = 150 << 10

func (b *tab) judge(name string) {
	b.t.Helper()
	for _, width := range []int64{320, 360, 768, 1023, 1024, 1250, 1280, 1920} {
		b.size(width)
		if got := b.value(`document.documentElement.scrollWidth > innerWidth`); got != "false" {
			b.t.Errorf("%s, %d pixels wide: the page scrolls sideways: %s", name, width, b.value(`document.documentElement.scrollWidth`))
		}
	}
	b.size(1280)
	if bad := b.value(structure); bad != "" {
		b.t.Errorf("%s: %s", name, bad)
	}
	weight, err := strconv.Atoi(b.value(`[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].reduce((n, e) => n + e.decodedBodySize, 0)`))
	if err != nil || weight == 0 || weight > maxWeight {
		b.t.Errorf("%s weighs %d bytes, want at most %d: %v", name, weight, maxWeight, err)
	}
	b.contrast(name)
	for _, scheme := range []string{"light", "dark"} {
		b.media("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce") // no colour is on its way to another
		for _, width := range []int64{360, 1280} {
			b.size(width)
			where := fmt.Sprintf("%s, %s, %d pixels", name, scheme, width)
			if os.Getenv("PARLEY_NO_AXE") == "" {
				axetest.Check(b.t, b.ctx, where)
			}
			b.keep(where)
		}
	}
	b.media()
	b.size(1280)
}

// keep keeps a picture in CI, in the folder artefacts/pages.
func (b *tab) keep(name string) {
	if os.Getenv("CI") == "" {
		return
	}
	b.t.Helper()
	dir := filepath.Join("..", "..", "..", "artefacts", "pages")
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.Join(strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune(" ,/", r) }), "-")+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// The first stop of the keyboard leads past the frame; the menu of a narrow
// screen opens with the keyboard.
func TestBrowserKeyboard(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := newTab(t, "en")
	b.login(r.base)
	b.run(chromedp.KeyEvent("\t"))
	if got := b.value("document.activeElement.className"); got != "skip" {
		t.Errorf("the first stop of the keyboard is %q", got)
	}
	if got := b.value("getComputedStyle(document.activeElement).outlineStyle"); got != "solid" {
		t.Errorf("focus is shown by an outline %q", got)
	}
	b.size(360)
	b.run(chromedp.Evaluate[chromedp.Void](`document.querySelector(".menu summary").focus()`), chromedp.KeyEvent("\r"), chromedp.WaitVisible(".menu nav a"))
	b.run(chromedp.KeyEvent("\t"))
	if got := b.value("document.activeElement.textContent"); got != "Overview" {
		t.Errorf("after the menu opened the keyboard is at %q", got)
	}
	b.shots("menu-en")
}

// contrast computes WCAG's ratio for every text in both schemes.
func (b *tab) contrast(name string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		b.media("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
		bad := b.value(`(() => {
			const lum = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126*r + 0.7152*g + 0.0722*b; };
			const parse = s => s.match(/[\d.]+/g).map(Number);
			const back = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
			const out = new Set();
			const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
			for (let n; n = walk.nextNode();) {
				const e = n.parentElement;
				if (!n.data.trim() || !e.checkVisibility()) continue;
				const a = lum(parse(getComputedStyle(e).color).slice(0, 3)), z = lum(back(e).slice(0, 3));
				const ratio = (Math.max(a, z) + 0.05) / (Math.min(a, z) + 0.05);
				if (ratio < 4.5) out.add(ratio.toFixed(2) + " " + n.data.trim());
			}
			return [...out].join("\n");
		})()`)
		if bad != "" {
			b.t.Errorf("%s, %s: contrast below 4.5:\n%s", name, scheme, strings.TrimSpace(bad))
		}
	}
	b.media()
}

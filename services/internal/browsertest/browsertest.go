// Package browsertest is a page in Chromium for tests of pages: what the browser
// complains about fails the test, and a page is judged as a whole.
package browsertest

import (
	"context"
	"errors"
	"fmt"
	"os"
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

	"github.com/parley-meet/parley/internal/judge"
	"github.com/parley-meet/parley/services/internal/axetest"
)

// Tab is a page in a real browser. What the browser complains about, a refused
// style as much as an exception, fails the test.
type Tab struct {
	T   *testing.T
	Ctx context.Context
}

// New opens a tab of a browser of its own, which prefers a language and has more
// options if some are given. Without Chromium the test is skipped on a desk and
// fails in CI.
func New(t *testing.T, language string, more ...chromedp.ExecAllocatorOption) *Tab {
	t.Helper()
	judge.Need(t, "chromium")
	opts := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath("chromium"), chromedp.UserDataDir(t.TempDir()), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Headless, chromedp.DisableGPU, chromedp.NoSandbox, // the tests may run as root
		chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("accept-lang", language),
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(opts, more...)...)
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
	b := &Tab{t, ctx}
	Command(b, log.Enable, cdp.Empty{})
	b.Size(1280)
	return b
}

// Run carries actions out.
func (b *Tab) Run(actions ...chromedp.Action[chromedp.Void]) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.Ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.T.Fatal(err)
	}
}

// reloaded reports whether a script was lost because the page was loaded anew
// meanwhile, as pages that stay fresh do when their parts change.
func reloaded(err error) bool {
	return strings.Contains(err.Error(), "navigated") || strings.Contains(err.Error(), "context with specified id") || strings.Contains(err.Error(), "context was destroyed")
}

// Until waits for a script to return true.
func (b *Tab) Until(script string) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.Ctx, 20*time.Second)
	defer cancel()
	for {
		err := chromedp.Do(ctx, chromedp.Poll[chromedp.Void](script, chromedp.WithPollingInterval(50*time.Millisecond)))
		if err == nil {
			return
		}
		if ctx.Err() == nil && reloaded(err) {
			continue
		}
		body, _ := chromedp.Run(b.Ctx, chromedp.Text("body"))
		b.T.Fatalf("%s: %v\n%s", script, err, body)
	}
}

// Value returns what a script gives, as text.
func (b *Tab) Value(script string) string {
	b.T.Helper()
	for n := 0; ; n++ {
		s, err := chromedp.Run(b.Ctx, chromedp.Evaluate[string]("String("+script+")"))
		if err == nil {
			return s
		}
		if n == 3 || !reloaded(err) {
			b.T.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Command runs a command of the browser's protocol.
func Command[P, R any](b *Tab, cmd cdp.Command[P, R], params P) {
	b.T.Helper()
	if _, err := chromedp.Call(b.Ctx, cmd, params); err != nil {
		b.T.Fatal(err)
	}
}

// Size makes the window WIDTH pixels wide.
func (b *Tab) Size(width int64) {
	b.T.Helper()
	Command(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1, Mobile: width < 500})
}

// Media sets features of the medium, as "prefers-color-scheme", "dark".
func (b *Tab) Media(features ...string) {
	b.T.Helper()
	var p emulation.SetEmulatedMediaParams
	for i := 0; i < len(features); i += 2 {
		p.Features = append(p.Features, &emulation.MediaFeature{Name: features[i], Value: features[i+1]})
	}
	Command(b, emulation.SetEmulatedMedia, p)
}

// Shots are taken when PARLEY_SHOTS names a folder, for people to look at.
func (b *Tab) Shots(name string) {
	dir := os.Getenv("PARLEY_SHOTS")
	if dir == "" {
		return
	}
	b.T.Helper()
	for _, x := range []struct {
		scheme string
		width  int64
	}{{"light", 360}, {"light", 1280}, {"light", 1920}, {"dark", 360}, {"dark", 1280}} {
		b.Media("prefers-color-scheme", x.scheme)
		b.Size(x.width)
		b.Run(chromedp.Sleep(200 * time.Millisecond))
		png, err := chromedp.Run(b.Ctx, chromedp.FullScreenshot(100))
		if err != nil {
			b.T.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", name, x.scheme, x.width)), png, 0o644); err != nil {
			b.T.Fatal(err)
		}
	}
	b.Media()
	b.Size(1280)
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

// Judge fails the test when the page scrolls sideways on some screen, when a
// control has no name or a text too little contrast, when axe-core finds
// something, or when all its files together have more than maxWeight bytes. It
// keeps pictures in a folder of artefacts.
func (b *Tab) Judge(folder, name string, maxWeight int) {
	b.T.Helper()
	for _, width := range []int64{320, 360, 768, 1023, 1024, 1250, 1280, 1920} {
		b.Size(width)
		if got := b.Value(`document.documentElement.scrollWidth > innerWidth`); got != "false" {
			b.T.Errorf("%s, %d pixels wide: the page scrolls sideways: %s", name, width, b.Value(`document.documentElement.scrollWidth`))
		}
	}
	b.Size(1280)
	if bad := b.Value(structure); bad != "" {
		b.T.Errorf("%s: %s", name, bad)
	}
	weight, err := strconv.Atoi(b.Value(`[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].reduce((n, e) => n + e.decodedBodySize, 0)`))
	if err != nil || weight == 0 || weight > maxWeight {
		b.T.Errorf("%s weighs %d bytes, want at most %d: %v", name, weight, maxWeight, err)
	}
	b.contrast(name)
	for _, scheme := range []string{"light", "dark"} {
		b.Media("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce") // no colour is on its way to another
		for _, width := range []int64{360, 1280} {
			b.Size(width)
			where := fmt.Sprintf("%s, %s, %d pixels", name, scheme, width)
			if os.Getenv("PARLEY_NO_AXE") == "" {
				axetest.Check(b.T, b.Ctx, where)
			}
			b.Keep(folder, where)
		}
	}
	b.Media()
	b.Size(1280)
}

// Keep keeps a picture in CI, in a folder of artefacts.
func (b *Tab) Keep(folder, name string) {
	if os.Getenv("CI") == "" {
		return
	}
	b.T.Helper()
	dir, err := artefacts()
	if err != nil {
		b.T.Fatal(err)
	}
	dir = filepath.Join(dir, folder)
	png, err := chromedp.Run(b.Ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.Join(strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune(" ,/", r) }), "-")+".png"), png, 0o644)
	}
	if err != nil {
		b.T.Fatal(err)
	}
}

// artefacts is the folder in the module's own that CI keeps.
func artefacts() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "artefacts"), nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = up
	}
}

// contrast computes WCAG's ratio for every text in both schemes.
func (b *Tab) contrast(name string) {
	b.T.Helper()
	for _, scheme := range []string{"light", "dark"} {
		b.Media("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
		bad := b.Value(`(() => {
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
			b.T.Errorf("%s, %s: contrast below 4.5:\n%s", name, scheme, strings.TrimSpace(bad))
		}
	}
	b.Media()
}

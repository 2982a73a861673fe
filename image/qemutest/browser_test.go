package qemutest_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/image/qemutest"
	"github.com/parley-meet/parley/internal/judge"
)

// browser is an administrator's: a tab that reaches the appliance by its own
// addresses. What the browser complains about fails the test.
type browser struct {
	t      *testing.T
	ctx    context.Context
	shots  int
	prefix string // of the parts of a journey
}

// newBrowser starts one. Connections to the addresses, of QEMU's network
// 10.0.2.0/24, go to the machine, also after it has taken another one.
func newBrowser(t *testing.T, m *qemutest.Machine, language string, addresses ...string) *browser {
	t.Helper()
	judge.Need(t, "chromium")
	var rules []string
	for _, a := range addresses {
		port, err := m.Forward(a)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, fmt.Sprintf("MAP %s:%d 127.0.0.1:%d", a, qemutest.ConsolePort, port))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath("chromium"), chromedp.UserDataDir(t.TempDir()), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Headless, chromedp.DisableGPU, chromedp.NoSandbox, chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("accept-lang", language),
		chromedp.Flag("host-resolver-rules", strings.Join(rules, ", ")))
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(func(ev any) {
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("exception in the page: %v", e.ExceptionDetails)
		case *log.EventEntryAdded:
			// Refusals are entries too, and connections that an address change cuts.
			if e.Entry.Source != log.EntrySourceNetwork {
				t.Errorf("the browser complains: %s %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
			}
		}
	}))
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
	})
	b := &browser{t: t, ctx: ctx, prefix: language}
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	b.size(1280)
	return b
}

func (b *browser) size(width int64) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride,
		emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 500}); err != nil {
		b.t.Fatal(err)
	}
}

// do runs steps; when one does not come about the page is shown.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := b.try(stepTime, steps...); err != nil {
		b.fail("%v", err)
	}
}

func (b *browser) try(limit time.Duration, steps ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	return chromedp.Do(ctx, steps...)
}

// fail ends the test with a picture of the page and its text.
func (b *browser) fail(format string, args ...any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTime)
	defer cancel()
	if png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100)); err == nil {
		_ = os.WriteFile(artefact(b.t, "failed.png"), png, 0o644)
	}
	where, _ := chromedp.Run(ctx, chromedp.Location())
	text, _ := chromedp.Run(ctx, chromedp.Text("body"))
	b.t.Fatalf("%s\nthe page %s says:\n%s", fmt.Sprintf(format, args...), where, text)
}

// open goes to a page of the appliance at an address.
func (b *browser) open(address, path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(fmt.Sprintf("https://%s:%d%s", address, qemutest.ConsolePort, path)), chromedp.WaitReady("main"))
}

// value returns an expression's value as text.
func (b *browser) value(script string) string {
	b.t.Helper()
	s, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("String("+script+")"))
	if err != nil {
		b.fail("%s: %v", script, err)
	}
	return s
}

// until waits for a script to return true.
func (b *browser) until(script string) { b.t.Helper(); b.within(stepTime, script) }

// within asks again and again; while a page gives way to another nobody answers.
func (b *browser) within(limit time.Duration, script string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+script+")"))
		if ok {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			b.fail("%s: not within %v (%v)", script, limit, err)
		}
	}
}

// shot keeps a picture of the page in the folder artefacts, numbered.
func (b *browser) shot(name string) {
	b.t.Helper()
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	b.shots++
	if err := os.WriteFile(artefact(b.t, fmt.Sprintf("%02d-%s.png", b.shots, name)), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

package axetest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/internal/judge"
)

// It finds what is wrong with a page, on one with the strictest policy for
// scripts, and finds nothing on one that is right.
func TestRun(t *testing.T) {
	judge.Need(t, "chromium")
	Need(t)
	const frame = `<!doctype html><html lang="en"><head><title>Page</title></head><body><main><h1>Page</h1>`
	pages := map[string]string{
		"/good": frame + `<label for="a">Name</label><input id="a"></main></body></html>`,
		"/bad":  frame + `<input><p style="color:#999;background:#fff">pale</p><img src="data:,"></main></body></html>`,
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; require-trusted-types-for 'script'; trusted-types 'none'")
		w.Write([]byte(pages[r.URL.Path]))
	}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, chromedp.ExecPath("chromium"), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoFirstRun, chromedp.Headless, chromedp.DisableGPU, chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true))
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	defer chromedp.Cancel(ctx)
	for path, want := range map[string][]string{"/good": nil, "/bad": {"color-contrast", "image-alt", "label"}} {
		if err := chromedp.Do(ctx, chromedp.Navigate(srv.URL+path)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time it is loaded
			found, err := Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var rules []string
			for _, v := range found {
				rules = append(rules, v.Rule)
				if len(v.Nodes) == 0 || v.Nodes[0].HTML == "" || v.Help == "" {
					t.Errorf("%s: %v tells nothing", path, v)
				}
			}
			slices.Sort(rules)
			if !slices.Equal(rules, want) {
				t.Errorf("%s: found %q, want %q", path, rules, want)
			}
		}
	}
}

package web_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// In a real browser what does not belong together is refused before any file is
// sent; the version comes from the OVF; what is lost is sent again, alone.
func TestUploadInBrowser(t *testing.T) {
	p := portaltest.New(t)
	b := browsertest.New(t, "en")
	op := p.Operator()
	become(t, b, p, op)
	dir, other := p.Output("1.4.0"), p.Output("1.5.0")
	open := func() {
		t.Helper()
		b.Run(chromedp.Navigate("about:blank"), chromedp.Navigate(p.Server.URL+"/operator/releases"), chromedp.WaitVisible("#main"))
	}
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	version := func() string { return b.Value(`document.querySelector("#version").value`) }
	open()
	b.Run(chromedp.SetUploadFiles("#release-files", all))
	b.Until(`document.querySelector("#version").value === "1.4.0"`)
	refused := func(want string, files ...string) {
		t.Helper()
		b.Run(chromedp.SetUploadFiles("#release-files", files), chromedp.Click("form[data-upload] button.primary"))
		b.Until(`!document.querySelector("[data-summary]").hidden`)
		if got := b.Value(`document.querySelector("[data-summary]").textContent`); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		list, err := p.All.Releases.List(t.Context(), false)
		if err != nil || len(list) > 0 && len(list[0].Files) > 0 {
			t.Errorf("files were sent: %+v %v", list, err)
		}
	}
	stray := filepath.Join(t.TempDir(), "holiday.jpg")
	if err := os.WriteFile(stray, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("choose without them: holiday.jpg", append(all[:len(all):len(all)], stray)...)
	mixed := slices.Clone(all)
	i := slices.Index(mixed, filepath.Join(dir, "parley-router.ovf"))
	mixed[i] = filepath.Join(other, "parley-router.ovf")
	refused("The version is another one in the file: parley-router.ovf (1.5.0)", mixed...)
	refused("not sent before: parley-router.ovf", slices.Delete(slices.Clone(all), i, i+1)...)

	publish := func(files []string) {
		t.Helper()
		open()
		b.Value(`String(document.body.dataset.before = "1")`)
		b.Run(chromedp.SetUploadFiles("#release-files", files))
		b.Until(`document.querySelector("#version").value === "1.4.0"`)
		b.Run(chromedp.Click("form[data-upload] button.primary"))
		b.Until(`document.readyState === "complete" && !document.body.dataset.before && !!document.querySelector('[data-state="ready"]')`)
	}
	publish(all)
	r, err := p.All.Releases.Get(t.Context(), "1.4.0")
	if err != nil || r.Published.IsZero() || len(r.Files) != len(all) {
		t.Fatalf("%+v %v", r, err)
	}
	if version() != "" {
		t.Error("the form is not empty again")
	}
	f, _ := r.File("parley-router.vmdk")
	if err := os.Remove(filepath.Join(p.Dir, "releases", f.Sum)); err != nil {
		t.Fatal(err)
	}
	publish(all)
	if m, err := p.All.Releases.Missing(t.Context()); err != nil || len(m) > 0 {
		t.Errorf("%v %v", m, err)
	}
}

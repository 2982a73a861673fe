package webconsole

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/browsertest"
)

// tab is a page in a real browser.
type tab struct{ *browsertest.Tab }

func newTab(t *testing.T, language string) *tab { return &tab{browsertest.New(t, language)} }

func (b *tab) login(base string) {
	b.T.Helper()
	b.Run(chromedp.Navigate(base+"/"), chromedp.WaitVisible("#password"),
		chromedp.SendKeys("#password", testPassword+"\r"), chromedp.WaitVisible(".services"))
}

func TestBrowser(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := newTab(t, "en")
	b.Run(chromedp.Navigate(r.base+"/"), chromedp.WaitVisible("#password"))
	if got := b.Value("document.activeElement.id"); got != "password" {
		t.Errorf("the keyboard is at %q, want the password", got)
	}
	b.Shots("login-en")
	// A wrong password, with the keyboard alone.
	b.Run(chromedp.SendKeys("#password", "wrong\r"), chromedp.WaitVisible("#error"))
	b.Until(`document.activeElement.id === "password"`)
	b.Shots("login-wrong-en")
	b.Run(chromedp.Click("#reveal"))
	if got := b.Value("document.getElementById('password').type"); got != "text" {
		t.Errorf("the revealed password is in a field of type %q", got)
	}
	b.Run(chromedp.SendKeys("#password", testPassword+"\r"), chromedp.WaitVisible(".services"))
	if got := b.Value("document.cookie"); got != "" {
		t.Errorf("scripts see the cookies %q", got)
	}
	b.Until(`document.getElementById("link").textContent === "Live"`)

	// News without loading the page anew.
	b.Run(chromedp.Evaluate[chromedp.Void]("window.mark = 1"))
	r.server.Change(func(s *control.Status) {
		s.Services[3].State, s.Services[3].Since, s.Services[3].Detail = control.StateUnhealthy, time.Now(), "<b>no route</b>"
	})
	b.Until(`document.querySelector('[data-live="svc.zctrl.state"]').textContent === "unhealthy"`)
	b.Until(`document.getElementById("said").textContent.includes("zone controller: unhealthy")`)
	if got := b.Value(`document.querySelector('[data-live="svc.zctrl.detail"]').textContent`); got != "<b>no route</b>" {
		t.Errorf("detail %q: markup is text", got)
	}
	r.server.Change(func(s *control.Status) {
		s.Perm = control.Perm{State: control.PermReadOnly, Message: "journal damaged: inode 12", Size: s.Perm.Size, Free: s.Perm.Free}
		s.LastBoot = "PID 1 panicked: index out of range"
		s.Services[3].State, s.Services[3].Detail = control.StateStopped, ""
		s.Services[4].State, s.Services[4].CrashLoop = control.StateWaiting, true
	})
	b.Until(`!document.querySelector('[data-live="alert.storage"]').hidden`)
	b.Until(`document.querySelector('[data-live="svc.zctrl.state"]').dataset.state === "stopped"`)
	if b.Value("window.mark") != "1" {
		t.Error("the page was loaded anew for a change")
	}

	// The language switch comes back to where it was.
	b.Run(chromedp.Navigate(r.base+"/services"), chromedp.WaitVisible(".services"))
	b.Run(chromedp.Click(`button[lang="ru"]`), chromedp.WaitVisible(`button[lang="ru"][aria-pressed="true"]`))
	if got := b.Value("document.documentElement.lang+location.pathname"); got != "ru/services" {
		t.Errorf("the switch led to %q", got)
	}
	b.Until(`document.getElementById("link").textContent === "Обновляется"`)

	// An operation, and one that is asked about first.
	b.Run(chromedp.Click(`[data-live="svc.zctrl.start"] button`), chromedp.WaitVisible(".note.good"))
	b.Run(chromedp.Click(`[data-live="svc.console-web.stop"] button`), chromedp.WaitVisible("dialog[open]"))
	b.Shots("dialog-ru")
	b.Run(chromedp.Click(`dialog[open] button[value="no"]`))
	b.Until(`!document.querySelector("dialog[open]")`)
	if got := r.server.Asked(); len(got) != 1 || got[0] != (control.Request{Op: control.OpStart, Service: "zctrl"}) {
		t.Errorf("asked for %+v", got)
	}
	b.Run(chromedp.Navigate(r.base+"/"), chromedp.WaitVisible(".services"))
	b.Shots("degraded-ru")

	// A new password ends the session, and the page notices by itself.
	r.setPassword(testPassword + " 2")
	b.Run(chromedp.WaitVisible("#password"))
	if got := b.Value("location.pathname+location.search"); got != "/login?ended=password" {
		t.Errorf("the page went to %s", got)
	}
	b.Shots("login-ru")
}

// maxWeight is how many bytes a page may load, all its files together.
const maxWeight = 150 << 10

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
			b.Run(chromedp.Navigate(r.base+path), chromedp.WaitVisible("h1"))
			b.Judge("pages", language+" "+path, maxWeight)
			name := strings.Trim(strings.ReplaceAll(path, "/", "-"), "-")
			if name == "" {
				name = "overview"
			}
			b.Shots(name + "-" + language)
		}
	}
}

// The first stop of the keyboard leads past the frame; the menu of a narrow
// screen opens with the keyboard.
func TestBrowserKeyboard(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := newTab(t, "en")
	b.login(r.base)
	b.Run(chromedp.KeyEvent("\t"))
	if got := b.Value("document.activeElement.className"); got != "skip" {
		t.Errorf("the first stop of the keyboard is %q", got)
	}
	if got := b.Value("getComputedStyle(document.activeElement).outlineStyle"); got != "solid" {
		t.Errorf("focus is shown by an outline %q", got)
	}
	b.Size(360)
	b.Run(chromedp.Evaluate[chromedp.Void](`document.querySelector(".menu summary").focus()`), chromedp.KeyEvent("\r"), chromedp.WaitVisible(".menu nav a"))
	b.Run(chromedp.KeyEvent("\t"))
	if got := b.Value("document.activeElement.textContent"); got != "Overview" {
		t.Errorf("after the menu opened the keyboard is at %q", got)
	}
	b.Shots("menu-en")
}

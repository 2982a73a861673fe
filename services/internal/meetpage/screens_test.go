package meetpage

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// maxWeight bounds the page with all its files, bytes: it opens on slow networks.
const maxWeight = 200 << 10

// Every screen in both languages, on phones and desks, light and dark: it fits, has
// contrast and names, and axe-core finds nothing. What a person does on each works.
func TestScreens(t *testing.T) {
	for _, language := range []string{"en", "ru"} {
		t.Run(language, func(t *testing.T) { screens(t, language) })
	}
}

func screens(t *testing.T, language string) {
	w := newWorld(t)
	ru := language == "ru"
	topic, anna, boris := "Weekly call of the northern branch", "Anna Smith", "Boris Johnson"
	if ru {
		topic, anna, boris = "Еженедельное совещание северного филиала", "Анна Смирнова", "Борис Иванов"
	}
	about := func(waiting bool) func(*ticket.Claims) {
		return func(c *ticket.Claims) { c.Meeting.Topic, c.Meeting.WaitingRoom, c.Meeting.Test = topic, waiting, true }
	}
	b := w.browser(language)
	judge := func(b *browsertest.Tab, name string) {
		t.Helper()
		b.Judge("meetpage", language+" "+name, maxWeight)
		b.Shots("meet-" + language + "-" + name)
	}

	// Without a meeting.
	b.Run(chromedp.Navigate(w.web.URL + "/"))
	b.Until(`!!document.querySelector(".message")`)
	judge(b, "none")

	// A trial meeting's link asks for a name, and says why it does not work.
	b.Run(chromedp.Navigate(w.web.URL + "/#trial=bad"))
	b.Until(`document.querySelector(".ready video")?.videoWidth > 0`)
	b.Run(chromedp.Click("[data-join]"))
	b.Until(`document.activeElement?.id === "name" && document.querySelector("#name").ariaInvalid === "true"`)
	b.Run(chromedp.SendKeys("#name", anna))
	b.Run(chromedp.Click("[data-join]"))
	b.Until(`document.querySelector("[data-error]").textContent === "This link is not good any more."`)
	judge(b, "trial")

	// With a ticket; the language changes and the ticket is still there.
	w.arrive(b, w.ticket(anna, ticket.Host, about(true)))
	other := map[string]string{"en": "ru", "ru": "en"}[language]
	for _, l := range []string{other, language} {
		b.Run(chromedp.Click(`.languages [value="` + l + `"]`))
		b.Until(`document.documentElement.lang === "` + l + `" && document.querySelector(".ready video")?.videoWidth > 0`)
	}
	if got := b.Value(`document.querySelector("h1").textContent`); got != topic {
		t.Errorf("after a change of the language it is %q", got)
	}
	b.Until(`document.querySelectorAll("[data-meter] .on").length > 0`)
	judge(b, "ready")
	// The camera is refused.
	b.Value(`navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotAllowedError")), 1`)
	for range 2 {
		b.Run(chromedp.Click(`.ready [data-do="camera"]`))
	}
	b.Until(`document.querySelector("[data-camera-why]").textContent.length > 40`)
	judge(b, "refused")

	// Inside, alone; then a guest waits, is let in, and others come.
	w.arrive(b, w.ticket(anna, ticket.Host, about(true)))
	b.Run(chromedp.Click("[data-join]"))
	w.connected(b)
	judge(b, "alone")
	guest := w.browser(language)
	w.arrive(guest, w.ticket(boris, ticket.Guest, about(true)))
	guest.Run(chromedp.Click("[data-join]"))
	guest.Until(`!!document.querySelector(".waiting") && document.title !== "" && !document.querySelector(".message .hint").hidden`)
	judge(guest, "waiting")
	b.Until(`document.querySelectorAll('.notes [data-key^="lobby-"]').length === 1`)
	judge(b, "knock")
	press(b, "people")
	b.Until(`document.activeElement?.id === "people-title" && document.querySelectorAll("[data-lobby] li").length === 1`)
	judge(b, "lobby")
	b.Run(chromedp.Click("[data-lobby] .primary"))
	w.connected(guest)
	b.Until(`document.querySelector(".lobby").hidden`)
	sees(b, boris, "camera")
	on := true
	names := []string{"Chen Wei", "Dora Müller-Lüdenscheidt", "Émile", "Faisal al-Rashid", "Grace O’Neill", "Hiro", "Ingrid Bergström", "João"}
	for i, n := range names {
		g := w.guest(n, ticket.Participant, about(true))
		b.Until(fmt.Sprintf(`document.querySelectorAll("[data-lobby] li").length === 1 || document.querySelector("[data-people-count]").textContent === "%d"`, i+3))
		if b.Value(`document.querySelectorAll("[data-lobby] li").length`) == "1" {
			b.Run(chromedp.Click("[data-lobby] .primary"))
		}
		b.Until(fmt.Sprintf(`document.querySelector("[data-people-count]").textContent === "%d"`, i+3))
		if i%2 == 0 {
			g.send(&signal.State{Microphone: &on})
		}
		if i < 3 {
			g.send(&signal.Say{Text: []string{"Hello everybody", "https://wiki.example/minutes/2026-03 — " + strings.Repeat("the long one ", 9), "👋"}[i]})
		}
	}
	b.Until(`document.querySelectorAll(".line").length === 3`)
	judge(b, "people")
	press(b, "chat")
	b.Run(chromedp.SendKeys("#say", "OK\r"))
	b.Until(`!!document.querySelector(".line.own")`)
	judge(b, "chat")
	press(b, "chat")
	for range 20 {
		b.Value(`document.querySelector(".notes .note button.quiet")?.click()`)
	}
	b.Size(1280)
	b.Until(`document.querySelectorAll(".tile").length === 10`)
	judge(b, "grid")
	// A phone shows six a page.
	b.Size(360)
	b.Until(`document.querySelectorAll(".tile").length === 6 && !document.querySelector(".pages").hidden`)
	b.Run(chromedp.Click(`[data-page="1"]`))
	b.Until(`document.querySelector("[data-page-of]").textContent.startsWith("2")`)
	b.Size(1280)
	b.Until(`document.querySelectorAll(".tile").length === 10`)

	// Who speaks, large; then a screen.
	b.Run(chromedp.Click(`[data-do="layout"]`))
	b.Until(`!document.querySelector(".stage").hidden`)
	judge(b, "stage")
	b.Run(chromedp.Click(`[data-do="layout"]`))
	press(guest, "screen")
	guest.Until(`document.querySelector('[data-do="screen"]').hasAttribute("data-on")`)
	sees(b, boris, "screen")
	judge(b, "screen")
	judge(guest, "sharing")
	press(guest, "screen")
	b.Until(`document.querySelector(".stage").hidden`)

	b.Run(chromedp.Click(`[data-do="settings"]`))
	b.Until(`document.querySelector("dialog").open && document.querySelector("#pick-microphone").options.length > 1`)
	judge(b, "devices")
	b.Run(chromedp.Click("dialog .primary"))

	// The connection is lost for a while.
	w.breakLinks()
	b.Until(`!!document.querySelector('[data-key="trouble"]')`)
	judge(b, "trouble")
	w.mendLinks()
	w.connected(b)
	b.Until(`!document.querySelector('[data-key="trouble"]')`)

	press(b, "leave")
	b.Until(`!!document.querySelector(".message") && !document.body.classList.contains("inside")`)
	judge(b, "left")
	// A ticket works once.
	used := w.ticket(anna, ticket.Participant, func(c *ticket.Claims) {
		about(false)(c)
		c.Expires = time.Now().Add(-time.Hour)
		c.Issued = c.Expires.Add(-time.Minute)
	})
	w.arrive(b, used)
	b.Run(chromedp.Click("[data-join]"))
	b.Until(`!!document.querySelector("[data-hint]") && !document.querySelector("[data-hint]").hidden`)
	judge(b, "ticket")
}

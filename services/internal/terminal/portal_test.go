package terminal

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/setuplink"
)

// answers is what a portal says, as setuplink.Ask tells it.
type answers struct {
	mu    sync.Mutex
	a     setuplink.Answer
	err   error
	asked int
}

func (p *answers) say(a setuplink.Answer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.a, p.err = a, err
}

func (p *answers) ask(context.Context) (setuplink.Answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return p.a, p.err
}

const setupURL = "https://192.0.2.7"

// setupSecret is as long as the real one, and must not be broken.
var setupSecret = strings.Repeat("Qx", 21) + "Q"

// asPortal makes the rig's machine a portal.
func asPortal(r *rig) *answers {
	p := &answers{}
	r.c.cfg.Setup = p.ask // before anybody has logged in
	r.server.Change(func(s *control.Status) {
		s.Role = rolePortal
		s.Services = []control.Service{{Name: "portal", Title: "portal", State: control.StateReady, PID: 106, Detail: "no operator yet, see the command portal"}}
	})
	return p
}

func TestPortalCommand(t *testing.T) {
	r := newRig(t)
	p := asPortal(r)
	if out := r.expect(`see the command portal\)[^$]*login: `); !strings.Contains(out, "portal: running (no operator yet") {
		t.Errorf("the banner:\n%s", out)
	}
	r.send("admin\r")
	r.expect("Password: ")
	r.send(r.keeper.Plain() + "\r")
	out := r.expect("parley> ")
	if flat := strings.Join(strings.Fields(out), " "); !strings.Contains(flat, "This machine is a portal: type portal") {
		t.Errorf("the welcome says nothing of the portal:\n%s", out)
	}
	link := setupURL + "/setup#" + setupSecret
	for _, test := range []struct {
		a      setuplink.Answer
		err    error
		en, ru string
	}{
		{setuplink.Answer{Waits: setuplink.WaitStart}, nil, "The portal is starting", "Портал запускается"},
		{setuplink.Answer{Waits: setuplink.WaitAddress}, nil, "waits for an address", "портал ждёт его"},
		{setuplink.Answer{}, errors.New("portal: \x1b[2J no disk"), `portal: \u001b[2J no disk`, `portal: \u001b[2J no disk`},
		{setuplink.Answer{URL: setupURL, Link: link}, nil, "\n  " + link + "\n", "\n  " + link + "\n"},
		{setuplink.Answer{URL: setupURL, Link: link}, nil, "links shown before are not good", "прежние ссылки больше не действуют"},
		{setuplink.Answer{URL: setupURL}, nil, "It has an operator", "Оператор у него уже есть"},
	} {
		p.say(test.a, test.err)
		for language, want := range map[string]string{"en": test.en, "ru": test.ru} {
			r.run("language " + language)
			out := strings.ReplaceAll(r.run("portal"), "\r", "")
			checkScreen(t, out)
			if !strings.Contains(out, want) && !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
				t.Errorf("%s: %+v, %v: no %q in:\n%s", language, test.a, test.err, want, out)
			}
			if strings.Contains(out, "/setup") != (test.a.Link != "") {
				t.Errorf("%s: %+v: a link, or none:\n%s", language, test.a, out)
			}
		}
	}
	// That it was shown is known; what it was is not.
	r.says("language en", "English")
	r.says("audit", "link for the portal's first operator shown")
	for _, text := range []string{r.logs.String(), r.run("audit -n 100"), r.run("logs -n 1000")} {
		if strings.Contains(text, setupSecret) {
			t.Errorf("the link is kept in:\n%s", text)
		}
	}
}

// Who may only look does not become the portal's operator, and elsewhere nobody
// asks for a portal.
func TestPortalRefusals(t *testing.T) {
	r := newRig(t)
	p := asPortal(r)
	p.say(setuplink.Answer{URL: setupURL, Link: setupURL + "/setup#" + setupSecret}, nil)
	r.expect("login: ")
	r.login(r.keeper.Plain())
	for _, command := range []string{"configure", "configure zone 192.0.2.9", "role router"} {
		r.says(command, "This appliance is a portal")
	}
	r.says("role", "Role: portal")
	r.server.Change(func(s *control.Status) { s.Role = "controller" })
	r.says("portal", "This appliance is no portal")
	if p.asked != 0 {
		t.Errorf("the portal was asked %d times", p.asked)
	}
	if got := r.server.Asked(); len(got) != 0 {
		t.Errorf("PID 1 was asked for %v", got)
	}
}

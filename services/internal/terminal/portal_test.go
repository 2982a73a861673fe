package terminal

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/portalctl"
)

// answers is what a portal says, as portalctl.Ask tells it.
type answers struct {
	mu    sync.Mutex
	a     portalctl.Answer
	err   error
	asked []portalctl.Request
}

func (p *answers) say(a portalctl.Answer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.a, p.err = a, err
}

func (p *answers) ask(_ context.Context, req portalctl.Request) (portalctl.Answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, req)
	return p.a, p.err
}

func (p *answers) took() []portalctl.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.asked
	p.asked = nil
	return out
}

const setupURL = "https://192.0.2.7"

// setupSecret is as long as the real one, and must not be broken.
var setupSecret = strings.Repeat("Qx", 21) + "Q"

// asPortal makes the rig's machine a portal.
func asPortal(r *rig) *answers {
	p := &answers{}
	r.c.cfg.Portal = p.ask // before anybody has logged in
	r.server.Change(func(s *control.Status) {
		s.Role = rolePortal
		s.Services = []control.Service{{Name: "portal", Title: "portal", State: control.StateReady, PID: 106, Detail: portalctl.NoOperator}}
	})
	return p
}

func TestPortalCommand(t *testing.T) {
	r := newRig(t)
	p := asPortal(r)
	if out := r.expect(`portal: running \(no operator[^$]*login: `); !strings.Contains(out, "portal: running (no operator yet)") {
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
		a      portalctl.Answer
		err    error
		en, ru string
	}{
		{portalctl.Answer{Waits: portalctl.WaitStart}, nil, "The portal is starting", "Портал запускается"},
		{portalctl.Answer{Waits: portalctl.WaitAddress}, nil, "waits for an address", "портал ждёт его"},
		{portalctl.Answer{}, errors.New("portal: \x1b[2J no disk"), `portal: \u001b[2J no disk`, `portal: \u001b[2J no disk`},
		{portalctl.Answer{URL: setupURL, Link: link, TLS: portalctl.OpSelf}, nil, "\n  " + link + "\n", "\n  " + link + "\n"},
		{portalctl.Answer{URL: setupURL, Link: link, TLS: portalctl.OpSelf}, nil, "links shown before are not good", "прежние ссылки больше не действуют"},
		{portalctl.Answer{URL: setupURL, TLS: portalctl.OpSelf}, nil, "It has an operator", "Оператор у него уже есть"},
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
	p.say(portalctl.Answer{URL: setupURL, Link: setupURL + "/setup#" + setupSecret}, nil)
	r.expect("login: ")
	r.login(r.keeper.Plain())
	for _, command := range []string{"configure", "configure zone 192.0.2.9", "role router"} {
		r.says(command, "This appliance is a portal")
	}
	r.says("role", "Role: portal")
	r.server.Change(func(s *control.Status) { s.Role = "controller" })
	r.says("portal", "This appliance is no portal")
	r.says("portal self", "This appliance is no portal")
	if got := p.took(); got != nil {
		t.Errorf("the portal was asked %v", got)
	}
	if got := r.server.Asked(); len(got) != 0 {
		t.Errorf("PID 1 was asked for %v", got)
	}
}

// The certificate: what is asked, and what each answer says.
func TestPortalCertificate(t *testing.T) {
	r := newRig(t)
	p := asPortal(r)
	r.expect("login: ")
	r.login(r.keeper.Plain())
	is := func(step string, want portalctl.Request) {
		t.Helper()
		if got := p.took(); len(got) != 1 || got[0] != want {
			t.Errorf("%s: asked %+v, want %+v", step, got, want)
		}
	}
	r.says("portal acme olga@example.com", "Saved. The portal starts anew")
	is("acme", portalctl.Request{Op: portalctl.OpACME, Email: "olga@example.com"})
	r.says("portal SELF", "Saved.")
	is("self", portalctl.Request{Op: portalctl.OpSelf})
	r.send("portal install\r")
	r.expect("a full stop. Nothing of it is shown")
	r.send("-----BEGIN X-----\r" + setupSecret + "\r-----END X-----\r.\r")
	if out := r.expect("Saved[^>]*parley> "); strings.Contains(out, setupSecret) {
		t.Errorf("what is pasted is shown:\n%s", out)
	}
	is("install", portalctl.Request{Op: portalctl.OpFiles, PEM: "-----BEGIN X-----\n" + setupSecret + "\n-----END X-----\n"})
	for problem, want := range map[portalctl.Problem]string{
		portalctl.NoName: "network set hostname", portalctl.NoEmail: "no e-mail address", portalctl.NoPair: "no certificate with the key",
		portalctl.Foreign: "for other names than " + setupURL, portalctl.Expired: "is over, or has not begun",
	} {
		p.say(portalctl.Answer{URL: setupURL, Problem: problem}, nil)
		r.says("portal acme a", want)
	}
	for mode, want := range map[portalctl.Op]string{portalctl.OpSelf: "browsers warn of it", portalctl.OpACME: "Let's Encrypt", portalctl.OpFiles: "was installed here"} {
		p.say(portalctl.Answer{URL: setupURL, TLS: mode}, nil)
		r.says("portal", want)
	}
	p.say(portalctl.Answer{Waits: portalctl.WaitAddress}, nil)
	r.says("portal self", "waits for an address")
	p.took()
	for _, command := range []string{"portal acme", "portal self now", "portal else", "portal install now"} {
		r.says(command, "Usage: portal portal acme EMAIL")
	}
	if got := p.took(); got != nil {
		t.Errorf("asked %v", got)
	}
	r.says("audit", "certificate of the portal changed: acme")
	if strings.Contains(r.logs.String(), setupSecret) {
		t.Error("the log has the key")
	}
}

package web

import (
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/identity"
)

// stepCookie holds the token of a sign-in that waits for its second step. The
// sign-in itself is in the database: any instance goes on with it. It is Lax:
// whoever comes from a provider has come from another site.
const stepCookie = "__Host-parley-step"

func setStep(w http.ResponseWriter, token string) {
	c := &http.Cookie{Name: stepCookie, Value: token, Path: "/", MaxAge: int(identity.StepTTL.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

func stepToken(r *http.Request) string {
	c, err := r.Cookie(stepCookie)
	if err != nil || len(c.Value) > 64 {
		return ""
	}
	return c.Value
}

type codeData struct{ Error string }

// step returns the sign-in that waits, or sends the browser back.
func (p *Portal) step(w http.ResponseWriter, r *http.Request, n identity.Need) (identity.Step, bool) {
	st, err := p.id.people.GetStep(r.Context(), n, stepToken(r))
	if err == nil {
		return st, true
	}
	if !errors.Is(err, identity.ErrStep) {
		p.cfg.Log.Error("sign-in step", "error", err)
	}
	setStep(w, "")
	http.Redirect(w, r, "/login?ended=step", http.StatusSeeOther)
	return st, false
}

func (p *Portal) codePage(w http.ResponseWriter, r *http.Request) {
	if _, ok := p.step(w, r, identity.NeedCode); ok {
		p.showCode(w, r, http.StatusOK, codeData{})
	}
}

func (p *Portal) showCode(w http.ResponseWriter, r *http.Request, status int, d codeData) {
	words := p.words(r)
	p.render(w, status, "code", look.Page{Words: words, Title: words.T("code.title"), Path: "/login/code", Narrow: true, Data: d})
}

// code takes the code of a second factor. Codes are counted by the account, by
// whatever address they come: whoever tries them has the password.
func (p *Portal) code(w http.ResponseWriter, r *http.Request) {
	form, ok := p.readForm(w, r)
	if !ok {
		return
	}
	st, ok := p.step(w, r, identity.NeedCode)
	if !ok {
		return
	}
	words, from := p.words(r), remote(r)
	after, done := p.id.guard.Enter(from, "code "+st.User.ID, p.id.devices.Known(r, st.User.Email), true, time.Now())
	if done == nil {
		w.Header().Set("Retry-After", strconv.Itoa(api.Seconds(after)))
		p.showCode(w, r, http.StatusTooManyRequests, codeData{words.T("login.wait", api.Seconds(after))})
		return
	}
	st, err := p.id.people.FinishStep(r.Context(), stepToken(r), strings.Join(strings.Fields(form.Get("code")), ""))
	done(err == nil, time.Now())
	if err == nil {
		err = p.enter(w, r, st.User)
	}
	switch {
	case err == nil:
		setStep(w, "")
		http.Redirect(w, r, p.place(st.To), http.StatusSeeOther)
	case errors.Is(err, identity.ErrCode):
		p.id.log.Line(slog.LevelWarn, "sign-in failed: wrong code", "from", from, "user", st.User.ID)
		p.showCode(w, r, http.StatusForbidden, codeData{words.T("code.wrong")})
	case errors.Is(err, identity.ErrStep):
		setStep(w, "")
		http.Redirect(w, r, "/login?ended=step", http.StatusSeeOther)
	default:
		p.refuseEntry(w, r, err, func(status int, text string) { p.showCode(w, r, status, codeData{text}) })
	}
}

// enrolData is the page on which a second factor is set up before the first
// sign-in, because the account demands one.
type enrolData struct {
	Error  string
	Secret string
	Path   template.HTMLAttr // "d" of the QR code's modules
	Size   int               // modules with the quiet zone
	Codes  []string          // recovery codes; then the person is in
	To     string
}

func (p *Portal) enrolPage(w http.ResponseWriter, r *http.Request) {
	if st, ok := p.step(w, r, identity.NeedEnrol); ok {
		p.showEnrol(w, r, http.StatusOK, st, "")
	}
}

func (p *Portal) showEnrol(w http.ResponseWriter, r *http.Request, status int, st identity.Step, text string) {
	secret, uri, err := p.id.people.BeginFactor(r.Context(), st.User.ID, p.cfg.URL.Hostname(), true)
	if err != nil {
		p.cfg.Log.Error("second factor", "error", err)
		p.message(w, r, http.StatusServiceUnavailable, "failed")
		return
	}
	d := enrolData{Error: text, Secret: secret}
	rows := qrRows(uri)
	var b strings.Builder
	b.WriteString(`d="`)
	for y, row := range rows {
		for x, m := range row {
			if m == '1' {
				b.WriteString("M" + strconv.Itoa(x+4) + " " + strconv.Itoa(y+4) + "h1v1h-1z")
			}
		}
	}
	b.WriteString(`"`)
	d.Path, d.Size = template.HTMLAttr(b.String()), len(rows)+8
	p.renderEnrol(w, r, status, d)
}

func (p *Portal) renderEnrol(w http.ResponseWriter, r *http.Request, status int, d enrolData) {
	words := p.words(r)
	p.render(w, status, "enrol", look.Page{Words: words, Title: words.T("enrol.title"), Path: "/login/enrol", Scripts: []string{"form.js"}, Narrow: true, Data: d})
}

func (p *Portal) enrol(w http.ResponseWriter, r *http.Request) {
	form, ok := p.readForm(w, r)
	if !ok {
		return
	}
	st, ok := p.step(w, r, identity.NeedEnrol)
	if !ok {
		return
	}
	who := identity.ActorOf(st.User, remote(r).String(), "web")
	codes, err := p.id.people.ConfirmFactor(r.Context(), who, strings.Join(strings.Fields(form.Get("code")), ""))
	if l := fault.Of(err); l != nil {
		p.showEnrol(w, r, http.StatusUnprocessableEntity, st, l[0].Text(p.words(r)))
		return
	}
	if err == nil {
		err = p.enter(w, r, st.User)
	}
	if err == nil {
		err = p.id.people.EndStep(r.Context(), stepToken(r))
	}
	if err != nil {
		p.refuseEntry(w, r, err, func(status int, text string) { p.showEnrol(w, r, status, st, text) })
		return
	}
	setStep(w, "")
	p.renderEnrol(w, r, http.StatusOK, enrolData{Codes: codes, To: p.place(st.To)})
}

// qrRows returns a QR code: rows of modules, "1" is dark, without the quiet zone
// (ISO/IEC 18004); none when the text is too long for one.
func qrRows(text string) []string {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return nil
	}
	b := code.Bounds()
	var out []string
	for y := b.Min.Y; y < b.Max.Y; y++ {
		row := make([]byte, 0, b.Dx())
		for x := b.Min.X; x < b.Max.X; x++ {
			m := byte('0')
			if v, _, _, _ := code.At(x, y).RGBA(); v < 0x8000 {
				m = '1'
			}
			row = append(row, m)
		}
		out = append(out, string(row))
	}
	return out
}

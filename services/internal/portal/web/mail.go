package web

import (
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/identity"
	"github.com/parley-meet/parley/services/internal/portal/mail"
)

// Operators' pages of signing in: mails that wait, the mail server, who may sign
// up, and providers of sign-in.
func (p *Portal) mailPages() []page {
	return []page{
		{Path: "/operator/mail", Section: "operator", Title: "mail.title", Template: "mail", Need: needOperator, Load: func(k *call) (any, error) {
			s, err := k.p.cfg.Mail.Settings(k.ctx(), k.who)
			if err != nil {
				return nil, err
			}
			w, err := k.p.cfg.Mail.Waiting(k.ctx(), k.who)
			d := mailData{Settings: s, Email: k.who.Email}
			for _, m := range w {
				d.Rows = append(d.Rows, mailRow{Waiting: m, What: k.words.Or("mail.kind.", m.Kind), At: when(m.Created), Until: when(m.Expires)})
			}
			for _, sec := range []mail.Security{mail.STARTTLS, mail.TLS, mail.Plain} {
				d.Security = append(d.Security, option{string(sec), k.words.T("mail.security." + string(sec)), ""})
			}
			return d, err
		}},
	}
}

type mailData struct {
	Settings mail.Settings
	Security []option
	Rows     []mailRow
	Email    string // of the operator
}

type mailRow struct {
	mail.Waiting
	What      string
	At, Until moment
}

// moment is a time for a <time data-local>.
type moment struct{ Time, Text string }

func when(t time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	return moment{t.UTC().Format(time.RFC3339), t.UTC().Format("2006-01-02 15:04 UTC")}
}

// MailText is what a mail that waits says.
type MailText struct {
	Link string `json:"link"`
}

// SignupInput says who may sign up.
type SignupInput struct {
	Mode identity.Mode `json:"mode"`
}

func (p *Portal) mailEndpoints() []endpoint {
	box, id := p.cfg.Mail, p.id.people
	return []endpoint{
		api.Get("/api/v1/operator/mail", "listMail", "Mails that are not sent, newest first.", needOperator,
			func(k *call) ([]mail.Waiting, error) { return box.Waiting(k.ctx(), k.who) }).With(person),
		api.Act("POST", "/api/v1/operator/mail/{id}/reveal", "revealMail", "Show the link of a mail that waits. The audit log tells.", needOperator,
			func(k *call) (MailText, error) {
				link, err := box.Reveal(k.ctx(), k.who, k.r.PathValue("id"))
				return MailText{link}, err
			}).With(person),
		api.Act("DELETE", "/api/v1/operator/mail/{id}", "dropMail", "Take a mail out of the outbox.", needOperator,
			func(k *call) (none, error) { return none{}, box.Drop(k.ctx(), k.who, k.r.PathValue("id")) }).With(person),
		api.Get("/api/v1/operator/mail/settings", "getMailSettings", "The mail server, without its password.", needOperator,
			func(k *call) (mail.Settings, error) { return box.Settings(k.ctx(), k.who) }).With(person),
		api.Send("PUT", "/api/v1/operator/mail/settings", "setMailSettings", "Change the mail server. A password that is left out stays, unless the host or the user changes.", needOperator,
			func(k *call, in mail.Settings) (none, error) { return none{}, box.SetSettings(k.ctx(), k.who, in) }).With(person),
		api.Act("POST", "/api/v1/operator/mail/test", "testMail", "Send a mail to the operator who asks.", needOperator,
			func(k *call) (none, error) {
				err := box.Test(k.ctx(), k.who, string(k.words.Language()))
				var said *mail.ServerError
				switch {
				case errors.Is(err, mail.ErrOff):
					err = fault.New("", "mail-off")
				case errors.As(err, &said):
					err = fault.New("", "mail-server", said.Text)
				}
				return none{}, err
			}).With(person),
		api.Send("PUT", "/api/v1/operator/signup", "setSignup", "Say who may sign up: open, invited or closed.", needOperator,
			func(k *call, in SignupInput) (none, error) { return none{}, id.SetSignupMode(k.ctx(), k.who, in.Mode) }).With(person),
		api.Send("POST", "/api/v1/operator/signup/invitations", "inviteAccount", "Send somebody a link to open an account with.", needOperator,
			func(k *call, in EmailInput) (none, error) {
				return none{}, id.InviteAccount(k.ctx(), k.who, in.Email, string(k.words.Language()))
			}).With(person),
	}
}

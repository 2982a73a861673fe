package webconsole

import (
	"time"

	"github.com/boombuler/barcode/qr"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/look"
)

// userPages are the operators, what programs log in with, who is logged in, and
// the user's own page.
func (c *Console) userPages() []page {
	return []page{
		{Path: "/users", Section: "users", Title: "users.manage", Template: "users", Load: c.usersPage},
		{Path: "/users/add", Section: "users", Title: "users.add", Template: "user_add", Need: account.Operate, Load: c.addUserPage},
		{Path: "/account", Section: "users", Title: "users.own", Template: "account", Scripts: []string{"reveal.js", "qr.js"}, Load: c.accountPage},
		{Path: "/users/sessions", Section: "users", Title: "users.sessions", Template: "sessions", Load: c.sessionsPage},
		{Path: "/users/tokens", Section: "users", Title: "users.tokens", Template: "tokens", Load: c.tokensPage},
	}
}

type usersData struct {
	title       string
	Rows        []userRow
	Authorities []option
}

// PageTitle says more than the tab, which stands below "Users".
func (d usersData) PageTitle() string { return d.title }

// userRow is an operator, with what may be done with him.
type userRow struct {
	Name      string
	Authority string
	Badge     string
	State     field
	Set       field
	Factor    bool
	Own       bool
	Fixed     bool // cannot be removed or given another authority
}

func authorities(w *look.Words) []option {
	var out []option
	for _, a := range []account.Authority{account.Operate, account.View} {
		out = append(out, option{string(a), w.T("authority." + string(a)), w.T("authority.hint." + string(a))})
	}
	return out
}

func (c *Console) usersPage(k *call) (any, error) {
	list, err := k.admin().Accounts(k.ctx())
	if err != nil {
		return nil, err
	}
	w, now := k.words, time.Now()
	d := usersData{title: w.T("users.manage.heading"), Authorities: authorities(w)}
	for _, a := range list {
		r := userRow{Name: api.Cut(a.Name, 64), Authority: string(a.Authority), Badge: w.T("authority." + string(a.Authority)),
			Factor: a.TOTP, Own: a.Name == k.account.Name, Set: field{Text: "–"}}
		r.Fixed = r.Own || a.Name == credential.User
		switch {
		case a.Generated:
			r.State = field{Text: w.T("users.generated"), State: fieldWarn}
		case a.MustChange:
			r.State = field{Text: w.T("users.must-change"), State: fieldWarn}
		default:
			r.State = field{Text: w.T("users.active"), State: fieldGood}
		}
		if !a.Set.IsZero() {
			r.Set = timeField(a.Set, w.T("ago", w.Duration(now.Sub(a.Set))))
		}
		d.Rows = append(d.Rows, r)
	}
	return d, nil
}

func (c *Console) addUserPage(k *call) (any, error) {
	return usersData{title: k.words.T("users.add.heading"), Authorities: authorities(k.words)}, nil
}

type accountData struct {
	account.Account
	Badge string
}

func (c *Console) accountPage(k *call) (any, error) {
	return accountData{k.account, k.words.T("authority." + string(k.account.Authority))}, nil
}

type sessionsData struct{ Rows []sessionRow }

type sessionRow struct {
	ID, Name, Address, Agent string
	Made, Used               field
	Own                      bool
}

func (c *Console) sessionsPage(k *call) (any, error) {
	list, err := c.listSessions(k)
	if err != nil {
		return nil, err
	}
	w, now := k.words, time.Now()
	d := sessionsData{}
	for _, s := range list {
		d.Rows = append(d.Rows, sessionRow{ID: s.ID, Name: api.Cut(s.Name, 64), Address: api.Cut(s.Address, 64), Agent: api.Cut(s.Agent, 160), Own: s.Own,
			Made: timeField(s.Made, w.T("ago", w.Duration(now.Sub(s.Made)))), Used: timeField(s.Used, w.T("ago", w.Duration(now.Sub(s.Used))))})
	}
	return d, nil
}

type tokensData struct {
	Rows        []tokenRow
	Authorities []option
}

type tokenRow struct {
	ID, Title, Badge, By   string
	Created, Expires, Used field
}

func (c *Console) tokensPage(k *call) (any, error) {
	list, err := k.admin().Tokens(k.ctx())
	if err != nil {
		return nil, err
	}
	w, now := k.words, time.Now()
	d := tokensData{Authorities: authorities(w)}
	for _, t := range list {
		r := tokenRow{ID: t.ID, Title: api.Cut(t.Title, 100), Badge: w.T("authority." + string(t.Authority)), By: api.Cut(t.By, 64),
			Created: timeField(t.Created, w.T("ago", w.Duration(now.Sub(t.Created)))),
			Expires: field{Text: w.T("tokens.never")}, Used: field{Text: w.T("tokens.unused")}}
		switch {
		case t.Expires.IsZero():
		case now.After(t.Expires):
			r.Expires = timeField(t.Expires, w.T("tokens.expired"))
		default:
			r.Expires = timeField(t.Expires, w.T("net.in", w.Duration(t.Expires.Sub(now))))
		}
		if !t.Used.IsZero() {
			r.Used = timeField(t.Used, w.T("ago", w.Duration(now.Sub(t.Used))))
		}
		d.Rows = append(d.Rows, r)
	}
	return d, nil
}

// SetupAnswer is a second factor that waits for its first code, with the QR code
// that authenticator apps read: rows of modules, "1" is dark, without the quiet
// zone (ISO/IEC 18004).
type SetupAnswer struct {
	admin.TOTPSetup
	QR []string `json:"qr"`
}

// beginTOTP begins a second factor.
func (c *Console) beginTOTP(k *call, in CurrentPassword) (SetupAnswer, error) {
	if err := k.prove(in.Password); err != nil {
		return SetupAnswer{}, err
	}
	s, err := k.admin().BeginTOTP(k.ctx(), k.who)
	if err != nil {
		return SetupAnswer{}, err
	}
	out := SetupAnswer{TOTPSetup: s}
	code, err := qr.Encode(s.URI, qr.M, qr.Auto)
	if err != nil {
		// Too long for a code: the secret can be typed.
		c.cfg.Log.Warn("QR code", "error", err)
		return out, nil
	}
	b := code.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		row := make([]byte, 0, b.Dx())
		for x := b.Min.X; x < b.Max.X; x++ {
			m := byte('0')
			if r, _, _, _ := code.At(x, y).RGBA(); r < 0x8000 {
				m = '1'
			}
			row = append(row, m)
		}
		out.QR = append(out.QR, string(row))
	}
	return out, nil
}

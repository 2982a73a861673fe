package webconsole

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/look"
)

// sessionCookie holds a session's token. Cookies do not know ports: what listens
// on 443 of this machine gets it too, and must not log it.
const sessionCookie = "__Host-parley-console"

// call is a request of somebody who has logged in, or has a token.
type call struct {
	c       *Console
	w       http.ResponseWriter
	r       *http.Request
	words   *look.Words
	session *look.Session // nil for a token
	account account.Account
	who     admin.Actor
}

func (k *call) ctx() context.Context       { return k.r.Context() }
func (k *call) admin() admin.Administrator { return k.c.cfg.Admin }

// may reports whether the caller may change things.
func (k *call) may() bool { return k.who.Authority == account.Operate }

// still reports whether the session, or the token, is as good as it was.
func (k *call) still() bool {
	if k.session != nil {
		s, _, _ := k.c.session(k.r, false)
		return s != nil
	}
	secret, _ := api.Bearer(k.r)
	_, err := k.admin().TokenActor(secret)
	return !errors.Is(err, admin.ErrUnknown)
}

// connected returns when the request's connection was made; without one that
// the gate let in it is the zero time, which confirms nothing.
func (k *call) connected() time.Time {
	if c, ok := k.r.Context().Value(connKey{}).(*conn); ok {
		return c.made
	}
	return time.Time{}
}

// session returns the request's session while it is good, and its account.
func (c *Console) session(r *http.Request, touch bool) (*look.Session, account.Account, look.Ended) {
	token := c.sessions.Token(r)
	if token == "" {
		return nil, account.Account{}, ""
	}
	var a account.Account
	s, why := c.sessions.Get(token, time.Now(), touch, func(name string) (string, bool) {
		of, stamp, err := c.cfg.Admin.Stamp(name)
		a = of
		return stamp, err == nil
	})
	if s == nil {
		return nil, account.Account{}, why
	}
	return s, a, ""
}

// caller returns the call of a request that has a session.
func (c *Console) caller(w http.ResponseWriter, r *http.Request, s *look.Session, a account.Account, via string) *call {
	return &call{c: c, w: w, r: r, words: c.words(r), session: s, account: a,
		who: admin.Actor{Name: a.Name, Authority: a.Authority, From: remote(r).String(), Via: via}}
}

// mustChange reports whether the account has to choose a password before
// anything else. While the storage is read-only none can be kept, and whoever
// comes to see what is wrong with it is let in.
func (c *Console) mustChange(ctx context.Context, a account.Account) bool {
	if !a.MustChange {
		return false
	}
	st := c.source.get(ctx, fresh).status
	return st == nil || st.Perm.State != control.PermReadOnly
}

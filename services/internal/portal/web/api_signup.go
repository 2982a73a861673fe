package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/identity"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// EmailInput names an address.
type EmailInput struct {
	Email string `json:"email"`
}

// SignupAnswer lets the mail be sent again.
type SignupAnswer struct {
	Handle string `json:"handle"`
}

// LinkInput is a link from a mail.
type LinkInput struct {
	Purpose people.Purpose `json:"purpose"`
	Link    string         `json:"link"` // what stands behind the "#"
}

// LinkPassword is a link, with a password.
type LinkPassword struct {
	Link     string `json:"link"`
	Password string `json:"password"`
}

// AcceptInput takes an invitation.
type AcceptInput struct {
	Link     string `json:"link"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

// SetupInput makes the first operator.
type SetupInput struct {
	Link     string `json:"link"`
	Name     string `json:"name"`
	Email    string `json:"email"`
	Password string `json:"password"`
}

func (p *Portal) signupEndpoints() []endpoint {
	id := p.id.people
	return []endpoint{
		api.Send("POST", "/api/v1/signup", "signUp", "Sign up: a link goes to the address. The answer does not tell whether the address has an account.", needNobody,
			func(k *call, in identity.Signup) (SignupAnswer, error) {
				if err := k.ask(); err != nil {
					return SignupAnswer{}, err
				}
				h, err := id.SignUp(k.ctx(), in, string(k.words.Language()))
				if errors.Is(err, identity.ErrClosed) {
					err = fault.New("", "signup-closed")
				}
				return SignupAnswer{h}, err
			}),
		api.Send("POST", "/api/v1/signup/again", "resendSignup", "Send the mail of a sign-up again.", needNobody,
			func(k *call, in SignupAnswer) (none, error) {
				if err := k.ask(); err != nil {
					return none{}, err
				}
				return none{}, id.Resend(k.ctx(), in.Handle)
			}),
		api.Send("POST", "/api/v1/signup/verify", "verifySignup", "End a sign-up with the link and the password that was chosen. The browser is signed in.", needNobody,
			func(k *call, in LinkPassword) (none, error) {
				u, err := holding(k, "verify "+people.Sum(in.Link), "password", func() (people.User, error) {
					return id.Verify(k.ctx(), in.Link, in.Password, remote(k.r).String())
				})
				return k.begin(u, err)
			}),
		api.Send("POST", "/api/v1/links", "lookAtLink", "What a link from a mail is about. It stays good.", needNobody,
			func(k *call, in LinkInput) (identity.LinkInfo, error) { return id.Look(k.ctx(), in.Purpose, in.Link) }),
		api.Send("POST", "/api/v1/reset", "askReset", "Ask for a mail with a link to set a new password. The answer does not tell whether somebody has the address.", needNobody,
			func(k *call, in EmailInput) (none, error) {
				if err := k.ask(); err != nil {
					return none{}, err
				}
				return none{}, id.AskReset(k.ctx(), in.Email, string(k.words.Language()))
			}),
		api.Send("POST", "/api/v1/reset/password", "resetPassword", "Set a new password with a link. All sessions end.", needNobody,
			func(k *call, in LinkPassword) (none, error) {
				return none{}, id.Reset(k.ctx(), in.Link, in.Password, remote(k.r).String())
			}),
		api.Send("POST", "/api/v1/invitation", "acceptInvitation", "Accept an invitation. The browser is signed in.", needNobody,
			func(k *call, in AcceptInput) (none, error) {
				u, err := id.Accept(k.ctx(), in.Link, in.Name, in.Password, string(k.words.Language()), remote(k.r).String())
				return k.begin(u, err)
			}),
		api.Send("POST", "/api/v1/setup", "setUp", "Make the first operator with the link that the portal showed at its start. The browser is signed in.", needNobody,
			func(k *call, in SetupInput) (none, error) {
				u, err := id.Setup(k.ctx(), in.Link, in.Name, in.Email, in.Password, string(k.words.Language()), remote(k.r).String())
				return k.begin(u, err)
			}),
	}
}

// ask slows strangers down who make the portal send mails.
func (k *call) ask() error {
	if wait := k.p.id.guard.Ask(remote(k.r), time.Now()); wait > 0 {
		return api.Throttled{Wait: wait}
	}
	return nil
}

// holding slows down who tries values of a field that only the owner of a session
// or a link knows.
func holding[T any](k *call, key, field string, do func() (T, error)) (T, error) {
	var v T
	wait, err := k.p.id.guard.Holding(key, time.Now(), func() (wrong bool, err error) {
		v, err = do()
		return fault.Of(err).Has(field), err
	})
	if wait > 0 {
		err = api.Throttled{Wait: wait}
	}
	return v, err
}

// begin signs a person in who has just proven his address, unless err.
func (k *call) begin(u people.User, err error) (none, error) {
	if err == nil {
		_, err = k.p.next(k.w, k.r, u, "/")
	}
	if errors.Is(err, identity.ErrSuspended) || errors.Is(err, identity.ErrUnverified) {
		err = api.StatusError{Status: http.StatusForbidden, Code: "denied"}
	}
	return none{}, err
}

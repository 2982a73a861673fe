package member

import (
	"context"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
)

// Waits between attempts to enrol.
const (
	enrolLeast = time.Second
	// enrolRefused is how long after the portal's no, by which somebody may have
	// changed his mind: that a zone is full, or an account suspended.
	enrolRefused = 5 * time.Minute
)

// enrolment is how the saved token gets the appliance into its zone.
type enrolment struct {
	token   string
	running bool
	attempt int
	next    time.Time // of the next attempt
	never   bool      // this token gets in nowhere
	// got are credentials that could not be saved yet: the portal counts them.
	got     *link.Credentials
	problem *fault.Fault
}

// outcome is the end of an attempt.
type outcome struct {
	token string
	cred  link.Credentials
	err   error
}

// enrol asks the portal of the token, in the background; the outcome comes on
// m.outcomes.
func (m *Member) enrol(ctx context.Context, token string) {
	o := link.EnrolOptions{Token: token, Role: m.cfg.Role, Host: m.cfg.Host, Version: m.cfg.Version, Roots: m.roots(), Proxy: m.cfg.Proxy}
	m.tasks.Go(func() {
		cred, err := link.Enrol(ctx, o)
		select {
		case m.outcomes <- outcome{token, cred, err}:
		case <-ctx.Done():
		}
	})
}

func (m *Member) roots() *x509.CertPool {
	if m.cfg.Roots == nil {
		return nil
	}
	return m.cfg.Roots()
}

// failed notes why an attempt failed, and when the next one is.
func (e *enrolment) failed(err error, now time.Time) {
	p, again := judge(err)
	e.problem = &p
	e.never = again < 0
	wait := max(enrolLeast, link.Backoff(e.attempt, rand.Float64()))
	if again > 0 {
		wait = again/2 + rand.N(again)
	}
	e.attempt++
	e.next = now.Add(wait)
}

// again is how long until the next attempt; less than 0 is never.
func (e *enrolment) again(now time.Time) time.Duration {
	if e.never {
		return -1
	}
	return e.next.Sub(now).Round(time.Millisecond)
}

// judge puts what went wrong with an enrolment into words for people. again is
// how long to wait: 0 is by backoff, and less than 0 that another token is needed.
func judge(err error) (p fault.Fault, again time.Duration) {
	var refused *link.RefusedError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var where *url.Error
	say := func(code string, args ...any) fault.Fault { return fault.Fault{Code: code, Args: args} }
	switch {
	case errors.Is(err, link.ErrNoToken):
		return say("member-token-none"), -1
	case errors.Is(err, link.ErrCutToken):
		return say("member-token-cut"), -1
	case errors.Is(err, link.ErrNewerToken):
		return say("member-token-newer"), -1
	case errors.As(err, &refused):
		switch {
		case refused.Code == "" || refused.Message == "":
			return say("member-answer", strconv.Itoa(refused.Status)+" "+http.StatusText(refused.Status)), 0
		case refused.Status == http.StatusTooManyRequests || refused.Status >= http.StatusInternalServerError:
			return say("member-busy", clip(refused.Message)), 0
		}
		return say("member-refused", clip(refused.Message)), enrolRefused
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid):
		if errors.As(err, &where) {
			err = where.Err
		}
		return say("member-untrusted", clip(err.Error())), 0
	case errors.As(err, &where): // what stands around it says no more
		err = where.Err
	}
	return say("member-unreachable", clip(err.Error())), 0
}

// clip bounds a text from outside, and takes what is no text out of it.
func clip(s string) string {
	const most = 300 // characters
	var out []rune
	for _, r := range s {
		if len(out) == most {
			return string(out) + "…"
		}
		if r == '\uFFFD' || !strconv.IsPrint(r) {
			r = ' '
		}
		out = append(out, r)
	}
	return string(out)
}

// judgeLink puts into words why the portal does not want the appliance; nil: it
// does, or does not answer.
func judgeLink(c link.Connection) *fault.Fault {
	if c.Connected {
		return nil
	}
	switch c.Why {
	case link.WhyRevoked, link.WhyExpired, link.WhyForeign, link.WhyDisabled:
		return &fault.Fault{Code: "member-" + c.Why}
	}
	return nil
}

package zctrl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/throttle"
)

// Bounds of requests.
const (
	maxTrial = 4 << 10
	// maxChallengers connect at a time: the authority, from a few places.
	maxChallengers = 32
)

// dictionary has the texts of what is wrong with requests. It is read when one is:
// on an appliance this package is in the processes of other services too.
var dictionary = sync.OnceValue(func() look.Dictionary { return look.MustLoad(fault.Words, "words") })

// handler serves HTTP.
func (s *Server) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /signal", s.signal)
	m.HandleFunc("GET /healthz", s.healthz)
	if s.cfg.Trials != nil {
		m.HandleFunc("POST /trial", s.trial)
	}
	for _, path := range []string{"/whip", "/whep"} {
		h := s.whip(path)
		m.Handle(path, h)
		m.Handle(path+"/", h)
	}
	if s.cfg.Page != nil {
		m.Handle("/", s.cfg.Page)
	}
	return look.Recovered(s.log, m)
}

// healthz answers as long as pages are let in.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if s.current() == nil {
		unavailable(w)
		return
	}
	fmt.Fprintln(w, "ok")
}

// TrialRequest is the body of POST /trial: who comes with the link of a trial
// meeting.
type TrialRequest struct {
	Code string `json:"code"`
	Name string `json:"name"` // that others see
}

// TrialAnswer is its answer. A ticket is good once.
type TrialAnswer struct {
	Ticket string `json:"ticket"`
}

// trial gives a ticket for a trial meeting. Whoever guesses codes waits longer and
// longer.
func (s *Server) trial(w http.ResponseWriter, r *http.Request) {
	language := look.RequestLanguage(r)
	words, now, from := dictionary()[language], time.Now(), trialKey(remote(r))
	refuse := func(status int, field, code string, after time.Duration) {
		f := fault.Fault{Field: field, Code: code}
		p := api.Problem{Code: code, Message: f.Text(words), Status: status, After: after}
		if field != "" {
			p = p.Invalid(fault.List{f}, words)
		}
		api.Refuse(w, string(language), p)
	}
	if wait := s.guesses.Wait(from, now); wait > 0 {
		refuse(http.StatusTooManyRequests, "", "trial-busy", wait)
		return
	}
	var in TrialRequest
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTrial))
	if err == nil {
		err = api.Decode(b, &in)
	}
	if err != nil {
		refuse(http.StatusBadRequest, "", "trial-request", 0)
		return
	}
	s.guesses.Fail(from, now) // attempts at once count too
	text, err := s.cfg.Trials.TrialTicket(in.Code, in.Name, now)
	if !errors.Is(err, member.ErrNoTrial) {
		s.guesses.TakeBack(from)
	}
	var wrong fault.List
	switch {
	case err == nil:
		w.Header().Set("Cache-Control", "no-store")
		api.WriteJSON(w, http.StatusOK, TrialAnswer{text})
	case errors.Is(err, member.ErrNoTrial):
		s.strangers.Line(0, "trial refused", "from", from)
		refuse(http.StatusNotFound, "code", "trial-none", 0)
	case errors.Is(err, member.ErrRate):
		refuse(http.StatusTooManyRequests, "", "trial-busy", time.Second)
	case errors.Is(err, member.ErrPortal):
		refuse(http.StatusConflict, "", "trial-portal", 0)
	case errors.As(err, &wrong):
		p := api.Problem{Code: "invalid", Message: wrong[0].Text(words), Status: http.StatusBadRequest}
		api.Refuse(w, string(language), p.Invalid(wrong, words))
	default:
		s.log.Error("trial", "error", err)
		refuse(http.StatusInternalServerError, "", "trial-failed", 0)
	}
}

// trialKey is whom guesses are counted for: of IPv6 a /64, in which addresses are
// free.
func trialKey(a netip.Addr) string {
	if a.Is6() {
		return throttle.Network(a)
	}
	return a.String()
}

// challenges answers ACME's http-01 on a port of its own, as long as the portal
// tells of some.
func (s *Server) challenges(ctx context.Context) {
	if !s.cfg.Challenge.IsValid() {
		return
	}
	changed, stop := s.cfg.Zone.Watch()
	defer stop()
	var (
		server *http.Server
		failed bool
	)
	for {
		switch want := len(s.challengeTexts()) > 0; {
		case want && server == nil:
			l, err := net.Listen("tcp", s.cfg.Challenge.String())
			if err != nil {
				if !failed {
					s.log.Error("challenges of the certificate cannot be answered", "address", s.cfg.Challenge, "error", err)
				}
				failed = true
				break
			}
			failed = false
			server = &http.Server{
				Handler: http.HandlerFunc(s.challenge), ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, WriteTimeout: headerTime, MaxHeaderBytes: maxHeader,
				ErrorLog: s.httpLog(),
			}
			server.SetKeepAlivesEnabled(false)
			go server.Serve(netutil.LimitListener(l, maxChallengers))
		case !want && server != nil:
			server.Close()
			server = nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if server != nil {
				server.Close()
			}
			return
		}
	}
}

// challengeTexts are the answers by path.
func (s *Server) challengeTexts() map[string]string {
	out := map[string]string{}
	if c := s.cfg.Zone.State().Config; c != nil {
		for _, x := range c.Challenges {
			if strings.HasPrefix(x.Path, "/.well-known/acme-challenge/") {
				out[x.Path] = x.Text
			}
		}
	}
	return out
}

func (s *Server) challenge(w http.ResponseWriter, r *http.Request) {
	text, ok := s.challengeTexts()[r.URL.Path]
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	io.WriteString(w, text)
}

package zctrl

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/placement"
	"github.com/parley-meet/parley/services/internal/carrier"
	"github.com/parley-meet/parley/services/internal/sfu/whip"
	"github.com/parley-meet/parley/services/internal/signal"
)

// Bounds of WHIP and WHEP.
const (
	askTimeWeb  = 20 * time.Second // for a router's answer
	meetTime    = 2 * time.Second  // for its word that it knows of the meeting
	maxForwards = 64               // at a time
	maxSession  = 64               // bytes of a session's name
)

// whip serves /whip or /whep. A POST's ticket is verified here, before any router
// hears of it, and its meeting found or placed as for a page. The router answers over
// the bus. A session's Location has the router's id in it, so that each controller of
// the zone knows where its PATCH and DELETE go.
func (s *Server) whip(path string) http.Handler {
	none := &whip.Handler{Path: path, Log: s.log} // of what needs no router
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		router, session, ok := location(r.URL.Path, path)
		var do func(context.Context, *zone, []byte) (carrier.Answer, string, error)
		switch {
		case r.Method == http.MethodPost && r.URL.Path == path:
			text, err := whip.Bearer(r)
			if err != nil {
				whip.Open(w.Header())
				whip.Refuse(w, err)
				return
			}
			do = func(ctx context.Context, z *zone, body []byte) (carrier.Answer, string, error) {
				return z.publish(ctx, text, ask(r, path, body))
			}
		case ok && (r.Method == http.MethodPatch || r.Method == http.MethodDelete):
			do = func(ctx context.Context, z *zone, body []byte) (carrier.Answer, string, error) {
				a, err := z.ofSession(ctx, router, ask(r, path+"/"+session, body))
				return a, router, err
			}
		default:
			none.ServeHTTP(w, r)
			return
		}
		whip.Open(w.Header())
		z := s.current()
		if z == nil || !z.trusts() {
			s.refuse("no zone")
			unavailable(w)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, carrier.MaxBody))
		if err != nil {
			whip.Refuse(w, &whip.Refusal{Status: http.StatusRequestEntityTooLarge, Text: "the body is too long, or broke off"})
			return
		}
		a, at, err := do(r.Context(), z, body)
		if err != nil {
			s.refuseWeb(w, err)
			return
		}
		answer(w, a, path, at)
	})
}

// location reads which router's session a path is: PATH/ROUTER/SESSION.
func location(is, path string) (router, session string, ok bool) {
	rest, found := strings.CutPrefix(is, path+"/")
	router, session, slash := strings.Cut(rest, "/")
	return router, session, found && slash && bus.GoodTopic(session) && len(session) <= maxSession
}

func ask(r *http.Request, path string, body []byte) carrier.Ask {
	return carrier.Ask{Method: r.Method, Path: path, Header: r.Header, Body: body}
}

// answer passes on what a router says, with its id in the session's Location.
func answer(w http.ResponseWriter, a carrier.Answer, path, router string) {
	for name, v := range a.Header {
		w.Header()[name] = v
	}
	if at := w.Header().Get("Location"); at != "" {
		w.Header().Set("Location", path+"/"+router+strings.TrimPrefix(at, path))
	}
	w.WriteHeader(a.Status)
	w.Write(a.Body)
}

// publish has the router of a ticket's meeting answer an offer.
func (z *zone) publish(ctx context.Context, text string, a carrier.Ask) (carrier.Answer, string, error) {
	wait, stop := context.WithTimeout(ctx, patience+time.Second)
	defer stop()
	meeting, err := z.verify(wait, text)
	if err != nil {
		return carrier.Answer{}, "", err
	}
	leave, err := z.s.webRoom()
	if err != nil {
		return carrier.Answer{}, "", err
	}
	defer leave()
	at, err := z.meet(wait, meeting)
	if err != nil {
		return carrier.Answer{}, "", err
	}
	out, err := z.askRouter(ctx, at.Router, a)
	return out, at.Router, err
}

// meet finds or places a meeting, and tells its router. One that does not answer may
// be lost: it is looked for again, for the ticket is not used yet.
func (z *zone) meet(ctx context.Context, meeting string) (placement.Place, error) {
	for {
		at, err := z.place(ctx, meeting)
		if err != nil {
			return at, err
		}
		wait, stop := context.WithTimeout(ctx, meetTime)
		err = z.carrier.Meet(wait, meeting, at)
		stop()
		if err == nil {
			return at, nil
		}
		select {
		case <-ctx.Done():
			return at, errAway
		case <-time.After(poll):
		}
	}
}

// ofSession has a router answer a request for one of its sessions.
func (z *zone) ofSession(ctx context.Context, router string, a carrier.Ask) (carrier.Answer, error) {
	leave, err := z.s.webRoom()
	if err != nil {
		return carrier.Answer{}, err
	}
	defer leave()
	if !z.live()[router] {
		return carrier.Answer{}, &whip.Refusal{Status: http.StatusNotFound, Text: "no such session: its router is not there"}
	}
	return z.askRouter(ctx, router, a)
}

func (z *zone) askRouter(ctx context.Context, router string, a carrier.Ask) (carrier.Answer, error) {
	ctx, stop := context.WithTimeout(ctx, askTimeWeb)
	defer stop()
	out, err := z.carrier.Ask(ctx, router, a)
	switch {
	case errors.Is(err, bus.ErrTooLong):
		return out, &whip.Refusal{Status: http.StatusRequestEntityTooLarge, Text: "the request is too long"}
	case err != nil:
		z.s.log.Warn("a router does not answer a request", "router", router, "method", a.Method, "error", err)
		return out, &whip.Refusal{Status: http.StatusGatewayTimeout, Text: "the meeting's router does not answer: try again, with another ticket"}
	}
	return out, nil
}

// errBusy is of a request more than maxForwards.
var errBusy = errors.New("too many requests at a time")

// webRoom takes the place of one request.
func (s *Server) webRoom() (leave func(), err error) {
	select {
	case s.webs <- struct{}{}:
		return func() { <-s.webs }, nil
	default:
		return nil, errBusy
	}
}

// refuseWeb says in HTTP why somebody is not let in.
func (s *Server) refuseWeb(w http.ResponseWriter, err error) {
	var code refusal
	switch {
	case errors.Is(err, errBusy):
		s.refuse("busy")
		unavailable(w)
		return
	case errors.Is(err, errAway):
		s.refuse("try again")
		unavailable(w)
		return
	case errors.As(err, &code):
		s.refuse(string(code))
		r := &whip.Refusal{Status: http.StatusServiceUnavailable, Text: "no router of the zone takes the meeting now: try again in a moment"}
		switch signal.Code(code) {
		case signal.BadTicket:
			r = &whip.Refusal{Status: http.StatusUnauthorized, Text: "the ticket is not good: expired, or not for this zone"}
		case signal.Full:
			r.Text = "no router of the zone has room"
		}
		err = r
	}
	whip.Refuse(w, err)
}

// Package whip lets encoders and players that nobody here wrote into a meeting:
// WHIP (RFC 9725) to publish, WHEP (draft-ietf-wish-whep) to play.
//
//	POST   PATH        an offer (application/sdp), with "Authorization: Bearer TICKET"
//	                   201, the answer, and Location: the session
//	PATCH  Location    an ICE restart (application/trickle-ice-sdpfrag with new
//	                   credentials): 200 and ours; candidates alone: 204, the router
//	                   is ICE-lite and needs none
//	DELETE Location    the end
//	OPTIONS PATH       Accept-Post, and CORS for players in pages
//
// A session's Location is a secret of its own: PATCH and DELETE need the ticket no
// more, which is used up.
package whip

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/parley-meet/parley/services/internal/sfu/sdp"
)

// Media types.
const (
	typeSDP      = "application/sdp"
	typeFragment = "application/trickle-ice-sdpfrag"
)

// maxSessions bounds what a router keeps.
const maxSessions = 1000

// Peer is what a session is to its meeting.
type Peer interface {
	// Offer answers an offer.
	Offer(sdp string) (answer string, err error)
	// Restart takes new ICE credentials and returns ours.
	Restart(sdp.ICE) (sdp.ICE, error)
	// Close leaves the meeting; it may be called more than once.
	Close() error
}

// Refusal is an error with a status of HTTP and a text for people.
type Refusal struct {
	Status int
	Text   string
}

func (r *Refusal) Error() string { return r.Text }

// Admit lets somebody in, or returns a *Refusal. Closed must be called when the
// peer ends by itself.
type Admit func(r *http.Request, ticket string, closed func()) (Peer, error)

// Handler serves one of the two.
type Handler struct {
	Path  string // "/whip"
	Admit Admit
	Log   *slog.Logger

	mu       sync.Mutex
	sessions map[string]Peer
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	Open(head)
	id, found := strings.CutPrefix(r.URL.Path, h.Path+"/")
	switch {
	case r.Method == http.MethodOptions:
		head.Set("Access-Control-Allow-Methods", "POST, PATCH, DELETE, OPTIONS")
		head.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match")
		head.Set("Accept-Post", typeSDP)
		head.Set("Accept-Patch", typeFragment)
		w.WriteHeader(http.StatusNoContent)
	case !found && r.URL.Path != h.Path:
		Refuse(w, &Refusal{http.StatusNotFound, "no such resource"})
	case !found && r.Method == http.MethodPost:
		h.open(w, r)
	case found && r.Method == http.MethodPatch:
		h.patch(w, r, id)
	case found && r.Method == http.MethodDelete:
		h.end(w, id)
	case found:
		head.Set("Allow", "PATCH, DELETE, OPTIONS")
		Refuse(w, &Refusal{http.StatusMethodNotAllowed, r.Method + " is not for a session"})
	default:
		head.Set("Allow", "POST, OPTIONS")
		Refuse(w, &Refusal{http.StatusMethodNotAllowed, r.Method + " is not for this resource: POST an offer"})
	}
}

// Open lets pages of any origin read an answer: a ticket lets in, not a cookie.
func Open(head http.Header) {
	head.Set("Access-Control-Allow-Origin", "*")
	head.Set("Access-Control-Expose-Headers", "Location, Accept-Post, ETag, Link")
	head.Set("Cache-Control", "no-store")
}

// Bearer returns the ticket of a POST, or a *Refusal.
func Bearer(r *http.Request) (string, error) {
	scheme, ticket, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if ticket = strings.TrimSpace(ticket); !strings.EqualFold(scheme, "Bearer") || ticket == "" {
		return "", &Refusal{http.StatusUnauthorized, "a meeting's ticket is needed: Authorization: Bearer TICKET"}
	}
	return ticket, nil
}

// Refuse answers with a *Refusal; another error is told as the router's failure.
func Refuse(w http.ResponseWriter, err error) {
	var r *Refusal
	if !errors.As(err, &r) {
		r = &Refusal{http.StatusInternalServerError, "the router failed"}
	}
	if r.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110, 11.6.1
	}
	http.Error(w, r.Text, r.Status)
}

// body reads a request of one media type.
func body(w http.ResponseWriter, r *http.Request, want string) (string, error) {
	if got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || got != want {
		return "", &Refusal{http.StatusUnsupportedMediaType, "the body must be " + want}
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, sdp.MaxText))
	if err != nil {
		return "", &Refusal{http.StatusRequestEntityTooLarge, "the body is too long, or broke off"}
	}
	return string(b), nil
}

func (h *Handler) open(w http.ResponseWriter, r *http.Request) {
	ticket, err := Bearer(r)
	if err != nil {
		Refuse(w, err)
		return
	}
	offer, err := body(w, r, typeSDP)
	if err != nil {
		Refuse(w, err)
		return
	}
	h.mu.Lock()
	full := len(h.sessions) >= maxSessions
	h.mu.Unlock()
	if full {
		w.Header().Set("Retry-After", "60")
		Refuse(w, &Refusal{http.StatusServiceUnavailable, "the router has no room for another session"})
		return
	}
	id := rand.Text()
	peer, err := h.Admit(r, ticket, func() { h.forget(id) })
	if err != nil {
		Refuse(w, err)
		return
	}
	h.mu.Lock()
	if h.sessions == nil {
		h.sessions = map[string]Peer{}
	}
	h.sessions[id] = peer
	h.mu.Unlock()
	answer, err := peer.Offer(offer)
	if err != nil {
		h.forget(id)
		peer.Close()
		// What is wrong with an offer is its sender's business.
		Refuse(w, &Refusal{http.StatusBadRequest, err.Error()})
		return
	}
	h.Log.Info("session begins", "path", h.Path)
	w.Header().Set("Content-Type", typeSDP)
	w.Header().Set("Location", h.Path+"/"+id)
	w.Header().Set("ETag", `"1"`)
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, answer)
}

func (h *Handler) find(id string) Peer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[id]
}

// forget drops a session that has ended.
func (h *Handler) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, id)
}

func (h *Handler) patch(w http.ResponseWriter, r *http.Request, id string) {
	peer := h.find(id)
	if peer == nil {
		Refuse(w, &Refusal{http.StatusNotFound, "no such session: it has ended"})
		return
	}
	text, err := body(w, r, typeFragment)
	if err != nil {
		Refuse(w, err)
		return
	}
	f, err := sdp.ParseFragment(text)
	if err != nil {
		Refuse(w, &Refusal{http.StatusBadRequest, err.Error()})
		return
	}
	// RFC 9725, 4.3.2: an ICE restart says that it does not match the session as it
	// is; candidates do.
	if r.Header.Get("If-Match") != "*" || f.ICE.Ufrag == "" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	local, err := peer.Restart(f.ICE)
	if err != nil {
		Refuse(w, &Refusal{http.StatusConflict, err.Error()})
		return
	}
	w.Header().Set("Content-Type", typeFragment)
	w.Header().Set("ETag", `"`+rand.Text()+`"`)
	io.WriteString(w, "a=ice-lite\r\na=ice-ufrag:"+local.Ufrag+"\r\na=ice-pwd:"+local.Pwd+"\r\n")
}

func (h *Handler) end(w http.ResponseWriter, id string) {
	h.mu.Lock()
	peer := h.sessions[id]
	delete(h.sessions, id)
	h.mu.Unlock()
	if peer == nil {
		Refuse(w, &Refusal{http.StatusNotFound, "no such session: it has ended"})
		return
	}
	if err := peer.Close(); err != nil {
		h.Log.Warn("end a session", "error", err)
	}
	h.Log.Info("session ends", "path", h.Path)
	w.WriteHeader(http.StatusOK)
}

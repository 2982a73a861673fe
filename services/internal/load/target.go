package load

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/parley-meet/parley/services/internal/ticket"
)

// Target is a server that is put under load.
type Target interface {
	// Publish and Subscribe post an offer and return the answer; n numbers them.
	Publish(ctx context.Context, n int, offer string) (answer string, err error)
	Subscribe(ctx context.Context, n int, offer string) (answer string, err error)
}

// Parley is a router, whose zone's key for tickets the load has.
type Parley struct {
	Base    string // "https://192.0.2.1"
	HTTP    *http.Client
	Key     ticket.Key
	Issuer  string
	Zone    string
	Meeting string
}

// NewKey makes a key for tickets of a trial.
func NewKey() (ticket.Key, ticket.Set, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return ticket.Key{}, nil, err
	}
	return ticket.Key{ID: KeyID, Private: private}, ticket.Set{KeyID: public}, nil
}

// Ticket makes one; each is used once.
func (p *Parley) Ticket(n int) (string, error) {
	now := time.Now()
	return ticket.Sign(p.Key, ticket.Claims{
		Issuer: p.Issuer, Zone: p.Zone, Subject: fmt.Sprintf("load-%d-%s", n, ticket.NewID()[:6]), ID: ticket.NewID(),
		Account: "load", Name: fmt.Sprintf("Load %d", n), Role: ticket.Host,
		Meeting: ticket.Meeting{ID: p.Meeting, Number: "100000001", JoinBeforeHost: true, Test: true},
		Issued:  now, Expires: now.Add(ticket.TTL),
	})
}

// Publish implements Target.
func (p *Parley) Publish(ctx context.Context, n int, offer string) (string, error) {
	return p.post(ctx, "/whip", n, offer)
}

// Subscribe implements Target.
func (p *Parley) Subscribe(ctx context.Context, n int, offer string) (string, error) {
	return p.post(ctx, "/whep", n, offer)
}

func (p *Parley) post(ctx context.Context, path string, n int, offer string) (string, error) {
	text, err := p.Ticket(n)
	if err != nil {
		return "", err
	}
	return post(ctx, p.HTTP, p.Base+path, text, offer, nil)
}

// post is a request of WHIP (RFC 9725, 4.2).
func post(ctx context.Context, c *http.Client, url, token, offer string, head map[string]string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(offer))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/sdp")
	r.Header.Set("Authorization", "Bearer "+token)
	for k, v := range head {
		r.Header.Set(k, v)
	}
	a, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(io.LimitReader(a.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if a.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("POST %s: %s: %s", url, a.Status, bytes.TrimSpace(b))
	}
	return string(b), nil
}

// LiveKit is a server of another project, to compare with. Its publisher is "pub0".
type LiveKit struct {
	Base        string // "http://127.0.0.1:7880"
	HTTP        *http.Client
	Key, Secret string
	Room        string
}

func (l *LiveKit) token(identity string, publish bool) (string, error) {
	sig, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(l.Secret)}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	now := time.Now()
	return jwt.Signed(sig).Claims(jwt.Claims{Issuer: l.Key, Subject: identity, NotBefore: jwt.NewNumericDate(now.Add(-time.Minute)), Expiry: jwt.NewNumericDate(now.Add(time.Hour))}).
		Claims(map[string]any{"name": identity, "video": map[string]any{"room": l.Room, "roomJoin": true, "canPublish": publish, "canSubscribe": !publish}}).Serialize()
}

// Publish implements Target.
func (l *LiveKit) Publish(ctx context.Context, n int, offer string) (string, error) {
	t, err := l.token(fmt.Sprintf("pub%d", n), true)
	if err != nil {
		return "", err
	}
	return post(ctx, l.HTTP, l.Base+"/whip/v1", t, offer, nil)
}

// Subscribe implements Target.
func (l *LiveKit) Subscribe(ctx context.Context, n int, offer string) (string, error) {
	t, err := l.token(fmt.Sprintf("sub%d", n), false)
	if err != nil {
		return "", err
	}
	info, err := json.Marshal(map[string]any{"subscribedParticipantTrackNames": map[string][]string{"pub0": {"synthesized-camera", "synthesized-microphone"}}})
	if err != nil {
		return "", err
	}
	return post(ctx, l.HTTP, l.Base+"/whip/v1", t, offer, map[string]string{"X-LiveKit-ClientInfo": string(info)})
}

package whip

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/sfu/sdp"
)

// listener is a peer that reads offers as the room does.
type listener struct{ closed int }

func (l *listener) Offer(text string) (string, error) {
	o, err := sdp.Parse(text)
	if err != nil {
		return "", err
	}
	s, err := sdp.Negotiate(o, sdp.DefaultPolicy())
	if err != nil {
		return "", err
	}
	return s.Answer(sdp.Local{
		SessionID: 1, Ufrag: "ufrag", Pwd: strings.Repeat("p", 24), Lite: true,
		Fingerprint: sdp.Fingerprint{Algorithm: "sha-256", Value: strings.TrimSuffix(strings.Repeat("AB:", 32), ":")},
	})
}

func (l *listener) Restart(ice sdp.ICE) (sdp.ICE, error) {
	if ice.Pwd == "" {
		return sdp.ICE{}, errors.New("no password")
	}
	return ice, nil
}

func (l *listener) Close() error {
	l.closed++
	return nil
}

// Whatever is posted gets an answer of HTTP's own, and a session only with an
// answer to an offer; what was refused leaves nothing behind.
func FuzzBody(f *testing.F) {
	offer := strings.Join([]string{
		"v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE 0",
		"m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=mid:0", "a=sendonly", "a=rtcp-mux",
		"a=ice-ufrag:abcd", "a=ice-pwd:" + strings.Repeat("x", 24), "a=setup:actpass",
		"a=fingerprint:sha-256 " + strings.TrimSuffix(strings.Repeat("AB:", 32), ":"), "a=rtpmap:111 opus/48000/2", "",
	}, "\r\n")
	const fragment = "a=ice-ufrag:abcd\r\na=ice-pwd:xxxxxxxxxxxxxxxxxxxxxxxx\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\n"
	for _, c := range []struct{ method, kind, match, body string }{
		{"POST", typeSDP, "", offer},
		{"POST", typeSDP, "", offer + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\na=sctp-port:5000\r\n"},
		{"POST", "text/plain", "", offer},
		{"PATCH", typeFragment, "*", fragment},
		{"PATCH", typeFragment, `"1"`, fragment},
		{"DELETE", "", "", ""},
	} {
		f.Add(c.method, c.kind, c.match, c.body)
	}
	f.Fuzz(func(t *testing.T, method, kind, match, body string) {
		peer := &listener{}
		h := &Handler{Path: "/whip", Log: slog.New(slog.DiscardHandler), Admit: func(*http.Request, string, func()) (Peer, error) { return peer, nil }}
		do := func(method, path, kind, match, body string) *http.Response {
			r, err := http.NewRequest(method, "https://router.example"+path, strings.NewReader(body))
			if err != nil {
				return nil // no request of HTTP
			}
			r.Header.Set("Authorization", "Bearer ticket")
			r.Header.Set("Content-Type", kind)
			r.Header.Set("If-Match", match)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Result()
		}
		first := do("POST", "/whip", kind, "", body)
		if begun := first.StatusCode == http.StatusCreated; begun != (first.Header.Get("Location") != "") || begun != (len(h.sessions) == 1) {
			t.Fatalf("%s, Location %q, %d sessions", first.Status, first.Header.Get("Location"), len(h.sessions))
		}
		opened := do("POST", "/whip", typeSDP, "", offer)
		at := opened.Header.Get("Location")
		if at == "" {
			text, _ := io.ReadAll(opened.Body)
			t.Fatalf("the offer was refused: %s", text)
		}
		r := do(method, at, kind, match, body)
		if r == nil {
			return
		}
		if r.StatusCode < 200 || r.StatusCode >= 500 {
			t.Errorf("%s %q: %s", method, body, r.Status)
		}
		if r.StatusCode == http.StatusOK && method == http.MethodPatch && match != "*" {
			t.Errorf("a restart without If-Match: *")
		}
	})
}

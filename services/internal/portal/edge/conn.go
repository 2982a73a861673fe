package edge

import (
	"net"
	"net/http"
	"time"
)

// Slow peers: each write must get on within writeLimit, so that downloads and
// streams may last and a peer that takes nothing may not; each read of a body
// within readLimit.
const (
	writeLimit = 30 * time.Second
	readLimit  = 30 * time.Second
)

// Patient is a listener whose connections end when a write makes no progress.
func Patient(l net.Listener) net.Listener { return patient{l} }

type patient struct{ net.Listener }

func (p patient) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{c}, nil
}

type conn struct{ net.Conn }

func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Bodies makes reads of a request's body end when nothing comes.
func Bodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &body{r.Body, http.NewResponseController(w)}
		}
		next.ServeHTTP(w, r)
	})
}

type body struct {
	from interface {
		Read([]byte) (int, error)
		Close() error
	}
	rc *http.ResponseController
}

func (b *body) Read(p []byte) (int, error) {
	_ = b.rc.SetReadDeadline(time.Now().Add(readLimit)) // an answer without a connection has none
	n, err := b.from.Read(p)
	if err != nil {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (b *body) Close() error { return b.from.Close() }

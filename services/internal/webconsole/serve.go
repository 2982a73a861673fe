package webconsole

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/parley-meet/parley/image/liveness"
)

// Times of the server.
const (
	headerTimeout = 5 * time.Second // also of a TLS handshake
	readTimeout   = 10 * time.Second
	writeTimeout  = 15 * time.Second
	idleTimeout   = 60 * time.Second
	maxHeader     = 16 << 10        // bytes
	stopAfter     = 1 * time.Second // requests under way at the end
)

// Serve answers on l until ctx ends; it returns nil then, within stopAfter and
// a little.
//
// It speaks HTTP/1.1 alone: a console has few users, and HTTP/2 would let a
// stranger hold hundreds of requests with one connection.
func (c *Console) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           c.handler,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.cfg.Certificate.Certificate},
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         c.gate.connState,
		ConnContext:       connContext,
		// Every browser that has not accepted the certificate yet would be a
		// line; what went wrong in a handler is logged by recovered.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	srv.Protocols.SetHTTP1(true)
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		c.gate.accept(l)
	}()
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		close(c.stopping)
		grace, cancel := context.WithTimeout(context.Background(), stopAfter)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	err := srv.ServeTLS(c.gate, "", "")
	if !stop() {
		<-done
	} else {
		srv.Close()
		close(c.stopping)
	}
	l.Close()
	c.gate.Close()
	<-accepting
	c.later.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}

// newProbe returns a client that reaches the server as a browser does, TLS and
// all, by a connection inside the process: the confinement lets it connect to no
// port, and the network may be away.
func (c *Console) newProbe() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return c.gate.dial(ctx) },
		MaxIdleConns:    1,
		IdleConnTimeout: idleTimeout / 2,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			// The certificate is self-signed and its names do not matter here;
			// whoever is at the other end of the pipe is this process.
			InsecureSkipVerify: true,
		},
	}}
}

// Check asks the running server for its health. It is a liveness.Check.
func (c *Console) Check() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), liveness.CheckLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://console/healthz", nil)
	if err != nil {
		return "", err
	}
	resp, err := c.probe.Do(req)
	if err != nil {
		return "", fmt.Errorf("own answer: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1024)); err != nil {
		return "", fmt.Errorf("own answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("own answer: status %d, want 200", resp.StatusCode)
	}
	if err := c.gate.trouble(); err != nil {
		return "", err
	}
	return "https on " + c.gate.address(), nil
}

package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/portal"
	"github.com/parley-meet/parley/services/internal/portal/edge"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/throttle"
)

// Limits of the server. A write or a read of a body ends when it makes no
// progress (package edge); how long it may last is not bound, for downloads and
// streams.
const (
	headerTimeout = 10 * time.Second // also of a TLS handshake
	idleTimeout   = 60 * time.Second
	maxHeader     = 32 << 10 // bytes
	maxStreams    = 64       // of an HTTP/2 connection at once
	maxConns      = 20_000
	maxPeerConns  = 1024 // of an IPv4 address, of an IPv6 /64
	stopAfter     = 5 * time.Second
	lookEvery     = 10 * time.Second // for changed certificates and addresses
)

// rootFile has the portal's own root in the folder.
const rootFile = "root.pem"

// Out is where a portal speaks to whoever started it.
type Out struct {
	io.Writer
	Terminal bool // somebody looks, and nothing keeps what is written
}

// Serve runs a portal until ctx ends.
func Serve(ctx context.Context, cfg Config, out Out, log *slog.Logger) error {
	s, err := open(ctx, cfg, log, alone|key)
	if err != nil {
		return err
	}
	defer s.close()
	if s.made != "" {
		fmt.Fprintf(out, "A master key was made: %s\nKeep a copy in another place than backups: without it sealed values are lost,\nand with it and a backup everything can be read.\n", s.made)
	}
	tlsConfig, pin, look, err := s.tls(ctx)
	if err != nil {
		return err
	}
	blobs, err := s.blobs(ctx)
	if err != nil {
		return err
	}
	p, err := portal.New(portal.Config{Blobs: blobs, DB: s.db, Vault: s.vault, URL: s.url, Dir: s.cfg.Dir, Pin: pin, ACMEPrivate: s.cfg.Private, Log: log})
	if err != nil {
		return err
	}
	m := newMetrics(s.db, log)
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return err
	}
	limit := throttle.NewLimit(l, throttle.Bounds{All: maxConns, Peer: maxPeerConns, Four: 32, Six: 64})
	m.connections(limit)
	m.gauge("links", "Appliances that are linked to this instance.", func() float64 { return float64(p.Live.Links()) })
	handler := m.watch(edge.Bodies(p), s.cfg.Requests)
	if s.cfg.TLS.Mode != ModeSelf {
		handler = strict(handler)
	}
	web := newServer(handler)
	web.TLSConfig = p.TLS(tlsConfig)
	g, ctx := errgroup.WithContext(ctx)
	if s.cfg.Metrics != "" {
		ml, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Metrics)
		if err != nil {
			l.Close()
			return fmt.Errorf("metricsListen: %w", err)
		}
		g.Go(func() error { return serve(ctx, newServer(m.handler()), ml, false) })
	}
	// The port may have been chosen by the system.
	if cfg.Started != nil {
		cfg.Started(&Running{s})
	} else if err := s.greet(ctx, out, l.Addr()); err != nil {
		l.Close()
		return err
	}
	log.Info("portal started", "version", s.cfg.Version, "url", s.url.String(), "listen", l.Addr().String(), "database", string(s.db.Kind()), "tls", s.cfg.TLS.Mode)
	g.Go(func() error { return p.Run(ctx) })
	g.Go(func() error { return serve(ctx, web, edge.Patient(limit), true) })
	// Not waited for at the end: an authority may take minutes.
	go func() {
		for {
			look()
			select {
			case <-ctx.Done():
				return
			case <-time.After(lookEvery):
			}
		}
	}()
	err = g.Wait()
	log.Info("portal stopped")
	return err
}

func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams, SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: 30 * time.Second},
		// Every browser that does not trust the certificate yet would be a line.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
}

// serve answers on l until ctx ends, then gives requests under way stopAfter.
func serve(ctx context.Context, srv *http.Server, l net.Listener, secure bool) error {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		grace, cancel := context.WithTimeout(context.Background(), stopAfter)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	var err error
	if secure {
		err = srv.ServeTLS(l, "", "")
	} else {
		err = srv.Serve(l)
	}
	if !stop() {
		<-done
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}

// strict tells browsers to use https alone (RFC 6797). It is for a certificate
// that they trust: with another one they would let nobody in any more.
func strict(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		next.ServeHTTP(w, r)
	})
}

// tls returns the listener's certificates, the pin of the portal's own root ("" is
// none) and what to call from time to time.
func (s *state) tls(ctx context.Context) (cfg *tls.Config, pin string, look func(), err error) {
	cfg = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	switch s.cfg.TLS.Mode {
	case ModeFiles:
		f, err := edge.LoadFiles(s.cfg.TLS.Cert, s.cfg.TLS.Key, s.log)
		if err != nil {
			return nil, "", nil, err
		}
		cfg.GetCertificate = f.Certificate
		return cfg, "", f.Look, nil
	case ModeACME:
		o := edge.Order{Host: s.url.Hostname(), Directory: s.cfg.TLS.Directory, Email: s.cfg.TLS.Email}
		if path := s.cfg.TLS.Roots; path != "" {
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, "", nil, fmt.Errorf("tls.acmeRoots: %w", err)
			}
			if o.Roots = x509.NewCertPool(); !o.Roots.AppendCertsFromPEM(b) {
				return nil, "", nil, fmt.Errorf("tls.acmeRoots: %s has no certificate, PEM", path)
			}
		}
		a := edge.ACME(s.db, s.vault, o, s.log)
		cfg.GetCertificate = a.Certificate
		cfg.NextProtos = append(cfg.NextProtos, acme.ALPNProto)
		return cfg, "", a.Look, nil
	}
	root, err := edge.LoadRoot(ctx, s.db, s.vault, s.url.Hostname())
	if err != nil {
		return nil, "", nil, err
	}
	if _, err := root.Certificate(nil); err != nil {
		return nil, "", nil, err
	}
	if err := durable.WriteFile(filepath.Join(s.cfg.Dir, rootFile), root.PEM(), 0o644); err != nil {
		return nil, "", nil, err
	}
	cfg.GetCertificate = root.Certificate
	return cfg, root.Pin(), root.Look, nil
}

// greet says where the portal is, and how its first operator gets in. The link
// goes where nothing keeps it, or into a file that only the portal's user reads.
func (s *state) greet(ctx context.Context, out Out, at net.Addr) error {
	fmt.Fprintf(out, "The portal is at %s (listening on %s).\n", s.url, at)
	if s.cfg.TLS.Mode == ModeSelf {
		fmt.Fprintf(out, "Its certificate is of a root of its own, for programs that are to trust it: %s\n", filepath.Join(s.cfg.Dir, rootFile))
	}
	file := filepath.Join(s.cfg.Dir, "setup-link")
	path, err := people.SetupLink(ctx, s.db)
	if err != nil {
		return fmt.Errorf("link for the first operator: %w", err)
	}
	if path == "" {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	}
	if out.Terminal {
		fmt.Fprintf(out, "It has no operator yet. Open this within %s; links shown before are not good any more:\n\n  %s%s\n\n", span(people.SetupTTL), s.url, path)
		return nil
	}
	if err := durable.WriteFile(file, []byte(s.url.String()+path+"\n"), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(out, "It has no operator yet. Open the link in %s within %s;\nlinks made before, by other instances too, are not good any more.\n", file, span(people.SetupTTL))
	return nil
}

// span is how people say a time of whole days or hours.
func span(d time.Duration) string {
	if n := d / (24 * time.Hour); n > 1 && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", n)
	}
	return fmt.Sprintf("%d hours", d/time.Hour)
}

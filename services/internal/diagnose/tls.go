package diagnose

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/parley-meet/parley/services/internal/certificate"
)

const (
	maxShown   = 10      // certificates
	maxHeaders = 8 << 10 // bytes of a proxy's answer
)

// connect tells whether a port is open.
func (j *job) connect(ctx context.Context) {
	if c := j.dial(ctx); c != nil {
		c.Close()
	}
}

// dial connects to the port, through the proxy when asked to, and tells how
// that went; nil when it did not.
func (j *job) dial(ctx context.Context) net.Conn {
	if !j.in.Proxy {
		return j.dialTCP(ctx, j.host, j.port)
	}
	p, err := j.Config.Proxy(ctx)
	switch {
	case err != nil:
		j.say("error", err.Error())
		return nil
	case p.Host == "":
		j.say("proxy.none")
		return nil
	}
	j.say("proxy.through", p.Host, p.Port)
	c := j.dialTCP(ctx, p.Host, p.Port)
	if c == nil {
		return nil
	}
	if conn := j.tunnel(c); conn != nil {
		return conn
	}
	c.Close()
	return nil
}

// tunnel asks a proxy for a connection (RFC 9110, 9.3.6).
func (j *job) tunnel(c net.Conn) net.Conn {
	to := net.JoinHostPort(j.host, strconv.Itoa(j.port))
	c.SetDeadline(time.Now().Add(dialWait))
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to); err != nil {
		j.say("proxy.broken", err.Error())
		return nil
	}
	lr := &io.LimitedReader{R: c, N: maxHeaders}
	br := bufio.NewReader(lr)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	switch {
	case err != nil:
		j.say("proxy.broken", err.Error())
		return nil
	case resp.StatusCode == http.StatusProxyAuthRequired:
		j.say("proxy.password")
		return nil
	case resp.StatusCode/100 != 2:
		j.say("proxy.refused", resp.Status)
		return nil
	}
	j.say("proxy.open", to)
	lr.N = 1 << 40 // the headers are over
	return &buffered{c, br}
}

// buffered is a connection whose first bytes have been read already.
type buffered struct {
	net.Conn
	r io.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

func (j *job) dialTCP(ctx context.Context, host string, port int) net.Conn {
	for i, a := range j.resolve(ctx, host) {
		if i == 4 || ctx.Err() != nil || j.err != nil {
			break
		}
		to := net.JoinHostPort(a.String(), strconv.Itoa(port))
		start := time.Now()
		d := net.Dialer{Timeout: dialWait}
		c, err := d.DialContext(ctx, "tcp", to)
		var timeout net.Error
		switch {
		case err == nil:
			j.say("tcp.open", to, milliseconds(time.Since(start)))
			return c
		case errors.Is(err, syscall.ECONNREFUSED):
			j.say("tcp.refused", to)
		case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
			j.say("tcp.unreachable", to)
		case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
			j.say("tcp.denied", to)
		case errors.As(err, &timeout) && timeout.Timeout():
			j.say("tcp.timeout", to, int(dialWait/time.Second))
		default:
			j.say("error", err.Error())
		}
	}
	return nil
}

// tls shakes hands and judges the certificates itself, to tell all that is wrong.
func (j *job) tls(ctx context.Context) {
	conn := j.dial(ctx)
	if conn == nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(dialWait))
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if !j.addr.IsValid() {
		cfg.ServerName = j.host
	}
	start := time.Now()
	c := tls.Client(conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		j.handshakeError(err)
		return
	}
	st := c.ConnectionState()
	j.say("tls.done", tls.VersionName(st.Version), tls.CipherSuiteName(st.CipherSuite), milliseconds(time.Since(start)))
	for i, cert := range st.PeerCertificates {
		if i == maxShown {
			break
		}
		j.say("tls.certificate", i+1, certificate.Clean(cert.Subject.String(), 150), certificate.Clean(cert.Issuer.String(), 150))
		if i == 0 {
			for k, n := range cert.DNSNames {
				if k == 20 {
					break
				}
				j.say("tls.name", n)
			}
			for k, a := range cert.IPAddresses {
				if k == 20 {
					break
				}
				j.say("tls.name", a.String())
			}
		}
		j.say("tls.dates", cert.NotBefore.UTC().Format(time.DateTime), cert.NotAfter.UTC().Format(time.DateTime))
		j.say("tls.sum", certificate.Sum(cert))
	}
	j.judge(st.PeerCertificates)
}

func (j *job) handshakeError(err error) {
	var alert *net.OpError
	var record tls.RecordHeaderError
	var timeout net.Error
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error": // crypto/tls's word for an alert
		j.say("tls.alert", alert.Err.Error())
	case errors.As(err, &record):
		j.say("tls.plain")
	case errors.As(err, &timeout) && timeout.Timeout():
		j.say("tls.timeout", int(dialWait/time.Second))
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		j.say("tls.closed")
	default:
		j.say("tls.error", err.Error())
	}
}

// judge says whether the certificates are good for the name, and what is not.
func (j *job) judge(certs []*x509.Certificate) {
	roots, err := j.Roots()
	if err != nil {
		j.say("error", err.Error()) // the usual ones count all the same
	}
	leaf, now, good := certs[0], j.Now(), true
	bad := func(key string, args ...any) {
		good = false
		j.say(key, args...)
	}
	if err := leaf.VerifyHostname(j.host); err != nil {
		bad("tls.mismatch", j.host)
	}
	between := x509.NewCertPool()
	at := now
	for _, c := range certs {
		between.AddCert(c)
		switch {
		case now.After(c.NotAfter):
			bad("tls.expired", certificate.Name(c), c.NotAfter.UTC().Format(time.DateTime))
		case now.Before(c.NotBefore):
			bad("tls.early", certificate.Name(c), c.NotBefore.UTC().Format(time.DateTime))
		}
	}
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		at = leaf.NotAfter // told already; is it trusted apart from that?
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown) && len(certs) == 1 && leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil:
		bad("tls.self")
	case errors.As(err, &unknown):
		bad("tls.unknown", certificate.Clean(certs[len(certs)-1].Issuer.String(), 150))
	case err != nil && good:
		bad("tls.untrusted", err.Error())
	case err == nil && !j.Usual(chains[0][len(chains[0])-1]):
		j.say("tls.private", certificate.Name(chains[0][len(chains[0])-1]))
	}
	if good {
		j.say("tls.good", j.host)
	}
}

package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// dialer opens the TLS connection of a link. http.Transport does not name an own
// ALPN protocol for a request that upgrades, with a proxy or without.
type dialer struct {
	tls   func(host string) *tls.Config
	roots *x509.CertPool // of a proxy that is reached by TLS
	proxy func(*http.Request) (*url.URL, error)
	// limit is for all of it. It is shorter than the request's, so that what is
	// told is where it got stuck.
	limit time.Duration
}

// dial returns a connection on which TLS has been agreed with addr.
func (d dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	var proxy *url.URL
	if d.proxy != nil {
		if proxy, err = d.proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: addr}}); err != nil {
			return nil, &proxyError{text: "its setting cannot be read"} // err may have its password
		}
	}
	var conn net.Conn
	if proxy != nil {
		conn, err = d.through(ctx, proxy, addr)
	} else {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
	}
	if err != nil {
		return nil, err
	}
	t := tls.Client(conn, d.tls(host))
	if err := t.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", addr, err)
	}
	return t, nil
}

// maxHead is how long the head of an answer may be, in bytes.
const maxHead = 64 << 10

// proxyError is why there is no way through a proxy. It never tells the proxy's
// name and password.
type proxyError struct {
	host string // and port
	text string
	err  error
}

func (e *proxyError) Error() string {
	out := "proxy"
	if e.host != "" {
		out += " " + e.host
	}
	out += ": " + e.text
	if e.err != nil {
		out += ": " + e.err.Error()
	}
	return out
}

func (e *proxyError) Unwrap() error { return e.err }

// through has a proxy make a tunnel (CONNECT, RFC 9110 9.3.6).
func (d dialer) through(ctx context.Context, proxy *url.URL, addr string) (net.Conn, error) {
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[proxy.Scheme]
	}
	if proxy.Scheme != "http" && proxy.Scheme != "https" || proxy.Hostname() == "" {
		return nil, &proxyError{proxy.Host, fmt.Sprintf("its address has the scheme %q, want http://HOST:PORT or https://HOST:PORT", proxy.Scheme), nil}
	}
	at := net.JoinHostPort(proxy.Hostname(), port)
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, &proxyError{at, "not reached", err}
	}
	if proxy.Scheme == "https" {
		t := tls.Client(conn, &tls.Config{ServerName: proxy.Hostname(), RootCAs: d.roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		if err := t.HandshakeContext(ctx); err != nil {
			conn.Close()
			text := "TLS to it"
			if bad := (tls.RecordHeaderError{}); errors.As(err, &bad) {
				text = "it does not speak TLS: its address is written http://, not https://"
			}
			return nil, &proxyError{at, text, err}
		}
		conn = t
	}
	if err := connect(ctx, conn, proxy, at, addr); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// connect asks for the tunnel to addr.
func connect(ctx context.Context, conn net.Conn, proxy *url.URL, at, addr string) error {
	// A context that ends breaks off what is under way.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return &proxyError{at, "the request breaks off", err}
	}
	r := bufio.NewReaderSize(io.LimitReader(conn, maxHead), 4096)
	b, err := r.Peek(3)
	switch {
	case err == nil && b[0] == 0x15 && b[1] == 3: // a TLS alert (RFC 8446, 6)
		return &proxyError{at, "it speaks TLS: its address is written https://, not http://", nil}
	case err != nil && ctx.Err() == nil && proxy.Scheme == "http":
		return &proxyError{at, "it hangs up without an answer: if it speaks TLS, its address is written https://", err}
	}
	resp, err := http.ReadResponse(r, req)
	if ctx.Err() != nil {
		return &proxyError{at, "it does not answer", ctx.Err()}
	}
	if err != nil {
		return &proxyError{at, "its answer", err}
	}
	text := ""
	switch c := resp.StatusCode; {
	case c/100 == 2 && r.Buffered() > 0:
		text = "it speaks before it is asked"
	case c/100 == 2:
		return nil
	case c == http.StatusProxyAuthRequired && !basic(resp.Header):
		text = "it takes no basic authentication, and nothing else is there"
	case c == http.StatusProxyAuthRequired && proxy.User == nil:
		text = "it asks for a name and a password"
	case c == http.StatusProxyAuthRequired:
		text = "it refuses the name and password"
	case c == http.StatusForbidden || c == http.StatusMethodNotAllowed:
		text = fmt.Sprintf("it does not let through to %s (%d)", addr, c)
	case c == http.StatusBadGateway || c == http.StatusServiceUnavailable || c == http.StatusGatewayTimeout:
		text = fmt.Sprintf("it does not reach %s (%d)", addr, c)
	case c == http.StatusBadRequest && proxy.Scheme == "http":
		text = "it does not understand the request (400): if it speaks TLS, its address is written https://"
	default:
		text = fmt.Sprintf("it answers %d for %s", c, addr)
	}
	return &proxyError{at, text, nil}
}

// basic reports whether a proxy takes a name and password (RFC 7617). One that
// does not say what it takes may.
func basic(h http.Header) bool {
	asks := h.Values("Proxy-Authenticate")
	for _, a := range asks {
		if strings.Contains(strings.ToLower(a), "basic") {
			return true
		}
	}
	return len(asks) == 0
}

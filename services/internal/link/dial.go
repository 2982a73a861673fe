package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// dialer opens the TLS connection of a link. http.Transport does not name an own
// ALPN protocol for a request that upgrades, with a proxy or without.
type dialer struct {
	tls   func(host string) *tls.Config
	roots *x509.CertPool // of a proxy that is reached by TLS
	proxy func(*http.Request) (*url.URL, error)
}

// dial returns a connection on which TLS has been agreed with addr.
func (d dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	var proxy *url.URL
	if d.proxy != nil {
		if proxy, err = d.proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: addr}}); err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
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
		return nil, err
	}
	return t, nil
}

// through has a proxy make a tunnel (CONNECT, RFC 9110 9.3.6).
func (d dialer) through(ctx context.Context, proxy *url.URL, addr string) (net.Conn, error) {
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[proxy.Scheme]
	}
	if port == "" {
		return nil, fmt.Errorf("proxy of scheme %q, want http or https", proxy.Scheme)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if proxy.Scheme == "https" {
		t := tls.Client(conn, &tls.Config{ServerName: proxy.Hostname(), RootCAs: d.roots, MinVersion: tls.VersionTLS12})
		if err := t.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("proxy: %w", err)
		}
		conn = t
	}
	// A context that ends breaks off what is under way.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	r := bufio.NewReaderSize(conn, 4096)
	err = req.Write(conn)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(r, req)
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %d", resp.StatusCode)
	}
	if err == nil && r.Buffered() > 0 {
		err = fmt.Errorf("it speaks before it is asked")
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return conn, nil
}

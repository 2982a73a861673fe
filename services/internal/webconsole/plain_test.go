package webconsole

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Whoever types the address without https is led there; nothing else is said in
// plain.
func TestPlainHTTP(t *testing.T) {
	r := newRig(t, testPassword)
	ask := func(request string) *http.Response {
		c, err := net.Dial("tcp", r.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(headerTimeout + 5*time.Second))
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%.40q: %v", request, err)
		}
		resp.Body.Close()
		return resp
	}
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: 192.0.2.7:5480\r\n\r\n":                           "https://192.0.2.7:5480/",
		"GET /network?x=1 HTTP/1.1\r\nHost: [2001:db8::7]:5480\r\n\r\n":            "https://[2001:db8::7]:5480/network?x=1",
		"HEAD /a%0d%0ab HTTP/1.1\r\nHost: parley.example\r\n\r\n":                  "https://parley.example/a%0d%0ab",
		"GET http://evil.example/x HTTP/1.1\r\nHost: parley.example\r\n\r\n":       "https://evil.example/x", // a proxy's request: the host is its own
		"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na":            "",
		"GET / HTTP/1.1\r\nHost: a/../b\r\n\r\n":                                   "",
		"GET / HTTP/1.1\r\nHost: user@evil.example\r\n\r\n":                        "",
		"GET / HTTP/1.0\r\n\r\n":                                                   "",
		"GARBAGE\r\n\r\n":                                                          "",
		"GET /" + strings.Repeat("x", 2*maxPlain) + " HTTP/1.1\r\nHost: x\r\n\r\n": "",
	} {
		resp := ask(request)
		if got := resp.Header.Get("Location"); got != want || (want == "") != (resp.StatusCode == http.StatusBadRequest) {
			t.Errorf("%.60q: %d to %q, want %q", request, resp.StatusCode, got, want)
		}
		if resp.Header.Get("Set-Cookie") != "" {
			t.Error("a cookie in plain")
		}
	}
	// TLS goes on as ever, and one who says nothing more is not waited for long.
	if a := r.browser().get("/healthz"); a.status != http.StatusOK {
		t.Errorf("TLS: %d", a.status)
	}
	c, err := net.Dial("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	c.SetDeadline(began.Add(3 * headerTimeout))
	io.WriteString(c, "G")
	b, err := io.ReadAll(c)
	if err != nil || time.Since(began) > headerTimeout+2*time.Second {
		t.Errorf("half a request: %q, %v after %v", b, err, time.Since(began))
	}
}

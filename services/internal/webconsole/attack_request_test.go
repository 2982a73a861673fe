package webconsole

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/apitest"
)

// raw sends bytes over TLS and returns the answer's status, 0 when there is
// none, and its text. What net/http's client would not send goes too.
func (r *rig) raw(request string) (status int, text string) {
	r.t.Helper()
	c, err := tls.Dial("tcp", r.addr(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(readTimeout + writeTimeout))
	go io.WriteString(c, request) // the answer may come before all is sent
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// cookie returns the session's, for raw requests.
func (b *browser) cookie() string {
	b.r.t.Helper()
	req, err := http.NewRequest("GET", b.r.base+"/", nil)
	if err != nil {
		b.r.t.Fatal(err)
	}
	for _, c := range b.Jar.Cookies(req.URL) {
		if c.Name == sessionCookie {
			return c.Name + "=" + c.Value
		}
	}
	b.r.t.Fatal("there is no session")
	return ""
}

// Paths that lead out of where they begin find nothing, for strangers and for
// those inside; files of the machine are not served.
func TestAttackPaths(t *testing.T) {
	r := newRig(t, testPassword)
	cookie := r.loggedIn().cookie()
	for _, begin := range []string{"/", "/assets/", "/services/", "/api/", "/api/v1/", "/api/v1/logs/", "/api/v1/services/", "/network/", "/users/"} {
		for _, rest := range apitest.Climbs {
			path := begin + rest
			for _, who := range []string{"", "Cookie: " + cookie + "\r\n"} {
				status, text := r.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\n" + who + "Connection: close\r\n\r\n")
				// A redirect is the mux's, to the clean path, or the login's.
				if status >= 500 || status == 0 || status == 200 && begin != "/" {
					t.Errorf("GET %s (session: %v): status %d\n%.300s", path, who != "", status, text)
				}
				if strings.Contains(text, "root:") || strings.Contains(text, `"hash"`) {
					t.Errorf("GET %s: served a file", path)
				}
			}
		}
	}
	if got := r.server.Asked(); len(got) != 0 {
		t.Errorf("PID 1 was asked for %+v", got)
	}
	quiet(t, r)
}

// Headers, request lines and methods that no browser sends are refused, and the
// console goes on.
func TestAttackHeaders(t *testing.T) {
	r := newRig(t, testPassword)
	cookie := r.loggedIn().cookie()
	long := strings.Repeat("x", 2*maxHeader)
	var many strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&many, "X-%d: y\r\n", i)
	}
	for name, request := range map[string]string{
		"long line":         "GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"long header":       "GET / HTTP/1.1\r\nHost: x\r\nX: " + long + "\r\n\r\n",
		"many headers":      "GET / HTTP/1.1\r\nHost: x\r\n" + many.String() + "\r\n",
		"long cookie":       "GET / HTTP/1.1\r\nHost: x\r\nCookie: " + sessionCookie + "=" + long + "\r\n\r\n",
		"no host":           "GET / HTTP/1.1\r\n\r\n",
		"two hosts":         "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"two lengths":       "POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"length and chunks": "POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"negative length":   "POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"space in name":     "GET / HTTP/1.1\r\nHost: x\r\nX Y: z\r\n\r\n",
		"NUL in value":      "GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
		"method":            "BREW / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"connect":           "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
		"absolute":          "GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\n\r\n",
		"noise":             "\x00\xff\xfe\x1b[2J\r\n\r\n",
		"version":           "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
		"upgrade":           "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
		"override":          "POST /nothing HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: DELETE\r\nCookie: " + cookie + "\r\nContent-Length: 0\r\n\r\n",
		"session":           "GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + strings.Repeat("A", 8000) + "\r\n\r\n",
	} {
		status, text := r.raw(request)
		switch {
		case name == "session" && status != 200,
			name != "session" && (status < 300 || status > 499) && status != 501 && status != 505 && status != 0:
			t.Errorf("%s: status %d\n%.200s", name, status, text)
		}
	}
	// A stranger may send what he likes as the host; it comes back nowhere.
	status, text := r.raw("GET /login HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n")
	if status != 200 || strings.Contains(text, "evil.example") {
		t.Errorf("another host's name: status %d\n%s", status, text)
	}
	if a := r.browser().from("127.50.0.1").login(testPassword); a.status != http.StatusSeeOther {
		t.Errorf("login afterwards: %d", a.status)
	}
	quiet(t, r)
}

// quiet fails when the console panicked, or when its log has control characters
// that a terminal would obey.
func quiet(t *testing.T, r *rig) {
	t.Helper()
	log := r.logs.String()
	if strings.Contains(log, "msg=panic") {
		t.Errorf("the console panicked:\n%s", log)
	}
	for _, c := range log {
		if c < ' ' && c != '\n' || c == 0x7f || c >= 0x80 && c < 0xa0 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
			t.Errorf("the log has the character %U", c)
			break
		}
	}
}

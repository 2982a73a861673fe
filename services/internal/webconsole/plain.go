package webconsole

import (
	"bufio"
	"io"
	"net/http"
	"regexp"
	"strings"
)

// maxPlain is how much of a request without TLS is read, in bytes.
const maxPlain = 4 << 10

// hostText is what a Host header may be to be repeated: a name or an address,
// with a port or without.
var hostText = regexp.MustCompile(`^(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$`)

// Read reads for TLS. Whoever begins with a letter speaks plain HTTP: he typed
// the address without https. He is told where to go, and gets no more. It takes
// at most the time of a handshake, whose deadline is set, and maxPlain bytes.
func (c *conn) Read(p []byte) (int, error) {
	if c.begun || len(p) == 0 {
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(p[:1])
	if n == 0 {
		return n, err
	}
	c.begun = true
	if first := p[0]; first >= 'A' && first <= 'Z' {
		c.redirect(first)
		return 0, io.EOF
	}
	return n, err
}

// redirect answers a request whose first byte has been read.
func (c *conn) redirect(first byte) {
	in := io.MultiReader(strings.NewReader(string(rune(first))), io.LimitReader(c.Conn, maxPlain))
	r, err := http.ReadRequest(bufio.NewReader(in))
	if err != nil || !hostText.MatchString(r.Host) || r.Method != http.MethodGet && r.Method != http.MethodHead {
		_, _ = io.WriteString(c.Conn, plainRefusal)
		return
	}
	_, _ = io.WriteString(c.Conn, "HTTP/1.1 302 Found\r\nLocation: https://"+r.Host+r.URL.RequestURI()+"\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}

const plainRefusal = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 34\r\n\r\nThis port speaks https, not http.\n"

package mmr

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pion/turn/v4"
)

// Who has joined gets a relay at the router's TLS port, and by it an answer of the
// router; nobody else does.
func TestTURN(t *testing.T) {
	target := start(t)
	p := open(t, target, 1)
	if p.turn == nil || len(p.turn.URLs) != 1 {
		t.Fatalf("joined without a relay: %+v", p.turn)
	}
	at := strings.TrimSuffix(strings.TrimPrefix(p.turn.URLs[0], "turns:"), "?transport=tcp")
	allocate := func(password string) (net.PacketConn, error) {
		t.Helper()
		c, err := tls.Dial("tcp", at, target.HTTP.Transport.(*http.Transport).TLSClientConfig.Clone())
		if err != nil {
			t.Fatal(err)
		}
		client, err := turn.NewClient(&turn.ClientConfig{
			STUNServerAddr: at, TURNServerAddr: at, Conn: turn.NewSTUNConn(c),
			Username: p.turn.Username, Password: password, RTO: 500 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			client.Close()
			c.Close()
		})
		if err := client.Listen(); err != nil {
			t.Fatal(err)
		}
		return client.Allocate()
	}
	if _, err := allocate("guess"); err == nil {
		t.Error("a guessed password was taken")
	}
	if _, err := allocate(p.turn.Credential); err != nil {
		t.Fatal(err)
	}
}

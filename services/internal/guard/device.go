package guard

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
)

// DeviceCookie marks a browser in which somebody has logged in (OWASP: device
// cookies against denial of service by guessing). It opens nothing: its attempts
// at that account are counted by themselves, whatever others at the same
// address, or at all addresses, have tried.
const DeviceCookie = "__Host-parley-device"

// deviceLife is how long a browser keeps the mark.
const deviceLife = 180 * 24 * time.Hour

// nonceSize is how many random bytes tell two marks apart.
const nonceSize = 12

// Devices makes marks and knows its own. The key is lost with the process: then
// addresses count until the next login.
type Devices struct{ key [32]byte }

// NewDevices returns a maker of marks with a key of its own.
func NewDevices() *Devices {
	d := &Devices{}
	rand.Read(d.key[:])
	return d
}

// NewDevicesOf returns a maker of marks with a key that outlives the process.
func NewDevicesOf(key [32]byte) *Devices { return &Devices{key: key} }

// sum binds a mark to the account.
func (d *Devices) sum(nonce []byte, name string) []byte {
	m := hmac.New(sha256.New, d.key[:])
	m.Write(nonce)
	m.Write([]byte(account.FoldName(name)))
	return m.Sum(nil)
}

// Known returns what the browser's mark is counted by, or "" when it has none
// for the account.
func (d *Devices) Known(r *http.Request, name string) string {
	c, err := r.Cookie(DeviceCookie)
	if err != nil {
		return ""
	}
	head, tail, _ := strings.Cut(c.Value, ".")
	nonce, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil || len(nonce) != nonceSize {
		return ""
	}
	sum, err := base64.RawURLEncoding.DecodeString(tail)
	if err != nil || !hmac.Equal(sum, d.sum(nonce, name)) {
		return ""
	}
	return head
}

// Mark marks the browser after a login, unless it is marked.
func (d *Devices) Mark(w http.ResponseWriter, r *http.Request, name string) {
	if d.Known(r, name) != "" {
		return
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	b64 := base64.RawURLEncoding
	http.SetCookie(w, &http.Cookie{Name: DeviceCookie, Value: b64.EncodeToString(nonce) + "." + b64.EncodeToString(d.sum(nonce, name)),
		Path: "/", MaxAge: int(deviceLife.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

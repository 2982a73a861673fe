package qemutest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image"
	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/qemutest"
	"github.com/parley-meet/parley/internal/judge"
)

const (
	portalAt   = "https://10.0.2.15"
	portalUser = "olga@example.com"
	portalPass = "quiet river under stones"
)

// The portal's image: its first operator comes in by the link of the serial line,
// and what he has set is there after a power cut and in the other slot.
func TestPortal(t *testing.T) {
	judge.Need(t, "qemu-system-x86_64", "debugfs", "e2fsck")
	disk, size := portalDisk(t)
	v := boot(t, qemutest.Options{Disk: disk})
	v.up()
	v.login()
	v.want("version", `slot a`)
	v.address()
	v.until("portal", regexp.QuoteMeta(portalAt)+`/setup#`)
	v.want("language ru", "Русский")
	old := v.setupLink(`Оператора ещё нет`)
	v.want("language en", "English")
	link := v.setupLink(`It has no operator yet`)
	v.until("services", `portal portal running .*no operator yet`)

	c := v.outside(443)
	if status, text := c.get("/healthz", ""); status != http.StatusOK || text != "ok\n" {
		t.Errorf("/healthz: %d %q", status, text)
	}
	for language, want := range map[string]string{"en": "Sign in", "ru": "Вход"} {
		if status, text := c.get("/login", language); status != http.StatusOK || !strings.Contains(text, want) || !strings.Contains(text, `type="password"`) {
			t.Errorf("/login in %s: %d, no %q in\n%s", language, status, want, text)
		}
	}
	// The figures, which have no protection, are for the machine alone.
	figures := v.outside(9464)
	figures.Timeout = 5 * time.Second // what is dropped has no answer
	if status, _, err := figures.ask(http.MethodGet, "http://10.0.2.15:9464/metrics", nil, ""); err == nil {
		t.Errorf("port 9464 is open: %d", status)
	}

	if status := c.setUp(old); status < 400 || status > 499 {
		t.Errorf("a link that was shown before another: %d", status)
	}
	if status := c.setUp(link); status/100 != 2 {
		t.Fatalf("the link: %d", status)
	}
	if status, text := c.get("/", "en"); status != http.StatusOK || !strings.Contains(text, "Olga") {
		t.Errorf("the operator's first page: %d\n%s", status, text)
	}
	if out := v.command("portal"); strings.Contains(out, "/setup") || !strings.Contains(out, "It has an operator") {
		t.Errorf("with an operator, portal prints\n%s", out)
	}
	text, der := ownCertificate(t)
	v.send("portal install\r")
	v.expect("full stop", stepTime)
	v.send(strings.ReplaceAll(text, "\n", "\r") + ".\r")
	v.expect("Saved", stepTime)
	v.expect(prompt, stepTime)
	c.shows(der)
	for _, service := range []string{"portal", "console-serial"} {
		out := v.command("logs " + service + " -n 500")
		if strings.Contains(out, link) || strings.Contains(out, old) || strings.Contains(out, "PRIVATE KEY") {
			t.Errorf("the log of %s has the link or the key", service)
		}
	}
	v.Kill()

	otherSlot(t, disk, size)
	v = boot(t, qemutest.Options{Disk: disk})
	v.up() // the console's password was not set
	v.login()
	v.want("version", `slot b`)
	v.address()
	v.until("services", `portal portal running .*`+regexp.QuoteMeta(portalAt))
	c = v.outside(443)
	c.shows(der)
	if status := c.signIn("not the password"); status != http.StatusForbidden {
		t.Errorf("a wrong password: %d", status)
	}
	if status := c.signIn(portalPass); status != http.StatusSeeOther {
		t.Errorf("the operator's password after a power cut: %d", status)
	}
	if status, text := c.get("/", "en"); status != http.StatusOK || !strings.Contains(text, "Olga") {
		t.Errorf("the operator's page: %d\n%s", status, text)
	}
	v.webConsole()
	v.off()
	private(t, disk, part(t, size, layout.Perm))
}

// webConsole logs in there and asks for a link, which there is none any more.
func (v *vm) webConsole() {
	v.t.Helper()
	c := v.administrator()
	c.wants(http.MethodGet, "/", "", http.StatusOK, "portal")
	c.wants(http.MethodPost, "/api/v1/portal/link", "", http.StatusUnprocessableEntity, "who signs in at "+portalAt)
}

// consoleAt is the web console, and Content-Type of what it is sent.
const (
	consoleHost = "10.0.2.15"
	consoleAt   = "https://" + consoleHost + ":5480"
	ofForm      = "application/x-www-form-urlencoded"
	ofJSON      = "application/json"
)

// administrator logs in to the web console and sets a new password.
func (v *vm) administrator() *visitor {
	v.t.Helper()
	form := url.Values{"name": {"admin"}, "password": {v.password}}.Encode()
	var (
		c      *visitor
		status int
		text   string
		err    error
	)
	// The certificate follows the machine's addresses, some seconds later.
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		c = v.outside(qemutest.ConsolePort)
		status, text, err = c.ask(http.MethodPost, consoleAt+"/login", map[string]string{"Content-Type": ofForm}, form)
		if err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil || status != http.StatusSeeOther {
		v.t.Fatalf("web console: log in: %d, %v\n%.2000s", status, err, text)
	}
	c.wants(http.MethodPut, "/api/v1/account/password", fmt.Sprintf(`{"current":%q,"new":%q,"confirm":%q}`, v.password, newPassword, newPassword), http.StatusNoContent, "")
	return c
}

// wants asks the web console, and fails the test unless it answers so.
func (c *visitor) wants(method, path, body string, status int, part string) (text string) {
	c.t.Helper()
	header := map[string]string{"Accept-Language": "en"}
	if body != "" {
		header["Content-Type"] = ofJSON
	}
	got, text, err := c.ask(method, consoleAt+path, header, body)
	if err != nil || got != status || !strings.Contains(text, part) {
		c.t.Fatalf("web console: %s %s: %d, %v, want %d with %q:\n%.2000s", method, path, got, err, status, part, text)
	}
	return text
}

// private looks at who may enter what on /perm, and whether it is sound.
func private(t *testing.T, disk string, perm layout.Partition) {
	t.Helper()
	for path, want := range map[string]string{
		"/parley/portal":                 `Mode: +0750 .*User: +106 +Group: +110`,
		"/parley/portal/key":             `Mode: +0700 .*User: +106 `,
		"/parley/portal/key/master.key":  `Mode: +0[46]00 .*User: +106 `,
		"/parley/portal/state":           `Mode: +0700 .*User: +106 `,
		"/parley/portal/state/portal.db": `Mode: +0600 .*User: +106 `,
		"/parley/portal/state/tls.pem":   `Mode: +0600 .*User: +106 `,
	} {
		out := strings.Join(strings.Fields(judge.Run(t, "debugfs", "-R", "stat "+path, fmt.Sprintf("%s?offset=%d", disk, perm.Start.Bytes()))), " ")
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: want %q in\n%s", path, want, out)
		}
	}
	file := filepath.Join(filepath.Dir(disk), "perm")
	copyPart(t, disk, perm.Start.Bytes(), file, 0, perm.Bytes())
	judge.Run(t, "e2fsck", "-fn", file)
}

// portalDisk builds the portal's image, which the test writes to.
func portalDisk(t *testing.T) (disk string, size int64) {
	t.Helper()
	began := time.Now()
	cfg, err := config.Load(filepath.Join(root, "portal.json"))
	if err != nil {
		t.Fatal(err)
	}
	version, err := image.GitVersion(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	disk = filepath.Join(t.TempDir(), "disk.raw")
	res, err := buildDisk(t.Context(), cfg, version, disk)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("built in %.1f s, a root of %.1f MB", time.Since(began).Seconds(), float64(res.Root.Size)/1e6)
	return disk, res.Size
}

func part(t *testing.T, size int64, n int) layout.Partition {
	t.Helper()
	ps, err := layout.Partitions(size)
	if err != nil {
		t.Fatal(err)
	}
	return ps[n-1]
}

// otherSlot puts slot A's root into slot B and has the disk start from there.
func otherSlot(t *testing.T, disk string, size int64) {
	t.Helper()
	a, b := part(t, size, layout.RootA), part(t, size, layout.RootB)
	copyPart(t, disk, a.Start.Bytes(), disk, b.Start.Bytes(), a.Bytes())
	withArguments(t, disk, "root="+layout.SlotB.RootParameter(), "parley.slot="+layout.SlotB.String())
}

// copyPart copies n bytes, and leaves holes where they are zero.
func copyPart(t *testing.T, from string, at int64, to string, into, n int64) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if st, err := out.Stat(); err != nil || st.Size() < into+n {
		if err := out.Truncate(into + n); err != nil {
			t.Fatal(err)
		}
	}
	buf, zero := make([]byte, layout.MiB), make([]byte, layout.MiB)
	for i := int64(0); i < n; i += layout.MiB {
		b := buf[:min(layout.MiB, n-i)]
		if _, err := in.ReadAt(b, at+i); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(b, zero[:len(b)]) {
			continue
		}
		if _, err := out.WriteAt(b, into+i); err != nil {
			t.Fatal(err)
		}
	}
}

// setupLink asks for a new link, and returns what it is worth.
func (v *vm) setupLink(want string) string {
	v.t.Helper()
	return v.want("portal", `(?s)`+want+`.*`+regexp.QuoteMeta(portalAt)+`/setup#([A-Za-z0-9_-]{20,})\n`)[1]
}

// ownCertificate is one that an administrator brings with its key.
func ownCertificate(t *testing.T) (text string, der []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(10, 0, 2, 15)}}
	der, err = x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k})), der
}

// shows waits until the portal answers with the certificate: it starts anew with
// another one.
func (c *visitor) shows(der []byte) {
	c.t.Helper()
	for end := time.Now().Add(stepTime); ; time.Sleep(200 * time.Millisecond) {
		c.CloseIdleConnections()
		if res, err := c.Get(portalAt + "/healthz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK && bytes.Equal(res.TLS.PeerCertificates[0].Raw, der) {
				return
			}
		}
		if time.Now().After(end) {
			c.t.Fatal("the portal does not show the certificate that was brought")
		}
	}
}

// visitor is a browser in front of a port of the appliance.
type visitor struct {
	t *testing.T
	http.Client
}

// outside is one, through the appliance's firewall.
func (v *vm) outside(port int) *visitor {
	v.t.Helper()
	local, err := v.ForwardPort("10.0.2.15", port)
	if err != nil {
		v.t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return &visitor{v.t, http.Client{
		Jar: jar, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", local))
			},
			// The certificate is the portal's own; it has to be for the address.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
				return s.PeerCertificates[0].VerifyHostname("10.0.2.15")
			}},
		},
	}}
}

// ask sends a request and returns the answer's status and text.
func (c *visitor) ask(method, to string, header map[string]string, body string) (status int, text string, err error) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, to, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, string(b), err
}

// get reads a page in a language.
func (c *visitor) get(path, language string) (status int, text string) {
	c.t.Helper()
	status, text, err := c.ask(http.MethodGet, portalAt+path, map[string]string{"Accept-Language": language}, "")
	if err != nil {
		c.t.Fatal(err)
	}
	return status, text
}

func (c *visitor) post(path, kind, body string) int {
	c.t.Helper()
	status, text, err := c.ask(http.MethodPost, portalAt+path, map[string]string{"Content-Type": kind}, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if status >= 400 {
		c.t.Logf("%s: %d %.300s", path, status, strings.Join(strings.Fields(text), " "))
	}
	return status
}

func (c *visitor) setUp(link string) int {
	c.t.Helper()
	b, err := json.Marshal(map[string]string{"link": link, "name": "Olga", "email": portalUser, "password": portalPass})
	if err != nil {
		c.t.Fatal(err)
	}
	return c.post("/api/v1/setup", "application/json", string(b))
}

func (c *visitor) signIn(password string) int {
	c.t.Helper()
	return c.post("/login", "application/x-www-form-urlencoded", url.Values{"email": {portalUser}, "password": {password}}.Encode())
}

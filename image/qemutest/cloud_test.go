package qemutest_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/judge"
)

// cloudAt is a portal outside: who is inside reaches it by the gateway.
const cloudAt = "https://203.0.113.1"

// cloud is such a portal, the program as everybody builds it, with a certificate of
// its own root.
type cloud struct {
	t       *testing.T
	program string
	dir     string
	process *judge.Process
}

// buildPortal compiles the program.
func buildPortal(t *testing.T) (program string) {
	t.Helper()
	judge.Need(t, "go")
	program = filepath.Join(t.TempDir(), "portal")
	judge.Run(t, "go", "-C", root, "build", "-o", program, "./services/portal")
	return program
}

// start starts it, for the first time or again with what it has kept.
func (c *cloud) start() {
	c.t.Helper()
	c.process = judge.Start(c.t, c.program, "-dir", c.dir, "-url", cloudAt, "-listen", strings.TrimPrefix(cloudAt, "https://")+":443", "-metrics-listen", "")
	for end := time.Now().Add(stepTime); ; time.Sleep(100 * time.Millisecond) {
		if strings.Contains(c.process.String(), "The portal is at "+cloudAt) {
			return
		}
		if time.Now().After(end) {
			c.t.Fatal("the portal does not start")
		}
	}
}

// person is somebody at the portal, with a browser's cookies.
type person struct {
	t *testing.T
	http.Client
}

// person returns one who has not signed in, and who trusts the portal's root.
func (c *cloud) person() *person {
	c.t.Helper()
	pem, err := os.ReadFile(filepath.Join(c.dir, "root.pem"))
	if err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		c.t.Fatal("root.pem has no certificate")
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return &person{c.t, http.Client{Jar: jar, Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}}
}

// does calls the portal's API and decodes the answer into out, unless that is nil.
func (p *person) does(method, path string, in, out any) {
	p.t.Helper()
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			p.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, cloudAt+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	if in != nil {
		req.Header.Set("Content-Type", ofJSON)
	}
	res, err := p.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil || res.StatusCode/100 != 2 {
		p.t.Fatalf("%s %s: %s, %v\n%.1000s", method, path, res.Status, err, b)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(b, out); err != nil {
		p.t.Fatalf("%s %s: %v in %s", method, path, err, b)
	}
}

// until asks the same again and again, and waits for an answer that is so.
func until[T any](p *person, what, path string, so func(T) bool) T {
	p.t.Helper()
	for end := time.Now().Add(2 * stepTime); ; time.Sleep(500 * time.Millisecond) {
		var v T
		p.does(http.MethodGet, path, nil, &v)
		if so(v) {
			return v
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s: the portal goes on to say %+v", what, v)
		}
	}
}

// owner makes the first operator by the link of the portal's folder, an account of
// his, and returns the account's owner, whose invitation waits for a mail server.
func (c *cloud) owner() *person {
	c.t.Helper()
	const email = "anna@acme.example"
	b, err := os.ReadFile(filepath.Join(c.dir, "setup-link"))
	if err != nil {
		c.t.Fatal(err)
	}
	secret := func(link string) string {
		_, s, ok := strings.Cut(strings.TrimSpace(link), "#")
		if !ok {
			c.t.Fatalf("the link %q", link)
		}
		return s
	}
	operator, owner := c.person(), c.person()
	operator.does(http.MethodPost, "/api/v1/setup", map[string]string{"link": secret(string(b)), "name": "Olga", "email": portalUser, "password": portalPass}, nil)
	operator.does(http.MethodPost, "/api/v1/operator/accounts", map[string]string{"name": "Acme", "type": "business", "ownerName": "Anna", "ownerEmail": email}, nil)
	var mails []struct{ ID, To string }
	operator.does(http.MethodGet, "/api/v1/operator/mail", nil, &mails)
	if len(mails) != 1 || mails[0].To != email {
		c.t.Fatalf("the mails that wait: %+v", mails)
	}
	var mail struct{ Link string }
	operator.does(http.MethodPost, "/api/v1/operator/mail/"+mails[0].ID+"/reveal", nil, &mail)
	owner.does(http.MethodPost, "/api/v1/invitation", map[string]string{"link": secret(mail.Link), "name": "Anna", "password": portalPass}, nil)
	return owner
}

// token enables the connector and makes a token for its first zone.
func (p *person) token(zone string) string {
	p.t.Helper()
	p.does(http.MethodPost, "/api/v1/connector/enable", map[string]string{"zone": zone}, nil)
	var connector struct {
		Zones []struct{ ID, Name string }
	}
	p.does(http.MethodGet, "/api/v1/connector", nil, &connector)
	if len(connector.Zones) != 1 || connector.Zones[0].Name != zone {
		p.t.Fatalf("the zones are %+v", connector.Zones)
	}
	var made struct{ Secret string }
	p.does(http.MethodPost, "/api/v1/connector/tokens", map[string]string{"zone": connector.Zones[0].ID, "title": "Rack 7"}, &made)
	return made.Secret
}

// appliance is one on the Monitor.
type appliance struct {
	Appliance, Role, Host, Version string
	Running                        bool
	Status                         struct {
		Addresses              []string
		HTTPS                  int
		Synced                 bool
		Meetings, Participants int
		Limit                  int
		Services               []struct{ Name, State string }
		Media                  []int
		ConfigInUse            int64
	}
}

// ready says whether it runs with all its services.
func (a appliance) ready() bool {
	return a.Running && a.Role == "controller" && fmt.Sprint(a.Status.Services) == "[{zctrl ready} {mmr ready}]"
}

// monitored waits until the Monitor has one appliance, which is so.
func (p *person) monitored(what string, so func(appliance) bool) appliance {
	p.t.Helper()
	type monitor struct{ Appliances []appliance }
	return until(p, what, "/api/v1/connector/monitor", func(m monitor) bool {
		return len(m.Appliances) == 1 && so(m.Appliances[0])
	}).Appliances[0]
}

// Package portaltest is a whole portal for tests: a database, an https server,
// accounts with people, and clients that are signed in as one of them.
package portaltest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/portal"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// Portal is a portal that runs.
type Portal struct {
	T      testing.TB
	DB     *store.DB
	Vault  *vault.Vault
	All    *portal.Portal
	Server *httptest.Server
	Dir    string // of files that are no database

	cord *cord
}

// New starts a portal on a new SQLite database; it ends with the test.
func New(t testing.TB) *Portal {
	t.Helper()
	return On(t, "sqlite:"+filepath.Join(t.TempDir(), "portal.db"), make([]byte, 32))
}

// On starts a portal on the database of a URL, with a master key: several on one
// are instances.
func On(t testing.TB, url string, key []byte) *Portal {
	t.Helper()
	db, err := store.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	v, err := vault.New(key)
	if err != nil {
		t.Fatal(err)
	}
	p := &Portal{T: t, DB: db, Vault: v, Dir: t.TempDir()}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.All.ServeHTTP(w, r) }))
	p.cord = &cord{Listener: p.Server.Listener, conns: map[net.Conn]bool{}}
	p.Server.Listener = p.cord
	p.Server.TLS = live.TLS(&tls.Config{NextProtos: []string{"http/1.1"}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &p.Server.TLS.Certificates[0], nil // StartTLS makes it
	}})
	p.Server.StartTLS()
	p.All, err = portal.New(portal.Config{DB: db, Vault: v, URL: p.url(), Dir: p.Dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.All.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		p.Server.Close()
	})
	return p
}

func (p *Portal) url() *url.URL {
	u, err := url.Parse(p.Server.URL)
	if err != nil {
		p.T.Fatal(err)
	}
	return u
}

// Account makes an account of a type, with an owner, and returns both.
func (p *Portal) Account(name string, kind people.Type) (people.Account, people.User) {
	p.T.Helper()
	a := people.Account{Name: name, Type: kind, DefaultKind: people.KindBasic}
	var owner people.User
	p.write(func(tx *store.Tx) (err error) {
		if a, err = people.InsertAccount(tx, a); err != nil {
			return err
		}
		owner, err = people.InsertUser(tx, people.User{Account: a.ID, Email: "owner@" + a.ID + ".example", Name: name + " Owner", Role: people.Owner, State: people.Active})
		return err
	})
	return a, owner
}

// User adds a person to an account.
func (p *Portal) User(account, name string, role people.Role, kind people.Kind) people.User {
	p.T.Helper()
	var u people.User
	p.write(func(tx *store.Tx) (err error) {
		id := store.NewID()
		u, err = people.InsertUser(tx, people.User{ID: id, Account: account, Email: id + "@people.example", Name: name, Role: role, Kind: kind, State: people.Active})
		return err
	})
	return u
}

// Operator adds an operator of the portal, without an account.
func (p *Portal) Operator() people.User {
	p.T.Helper()
	var u people.User
	p.write(func(tx *store.Tx) (err error) {
		id := store.NewID()
		u, err = people.InsertUser(tx, people.User{ID: id, Email: id + "@operators.example", Name: "Operator", Operator: true, State: people.Active})
		return err
	})
	return u
}

func (p *Portal) write(f func(tx *store.Tx) error) {
	p.T.Helper()
	if err := p.DB.Write(context.Background(), f); err != nil {
		p.T.Fatal(err)
	}
}

// Client is a browser, or a program.
type Client struct {
	P     *Portal
	HTTP  *http.Client
	Token string // sent as a bearer token; "": none
}

// Stranger returns a client that has not signed in.
func (p *Portal) Stranger() *Client {
	p.T.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.T.Fatal(err)
	}
	return &Client{P: p, HTTP: &http.Client{
		Jar:           jar,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.Server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Client returns a client that is signed in as a person.
func (p *Portal) Client(u people.User) *Client {
	p.T.Helper()
	token, err := people.CreateSession(context.Background(), p.DB, u.ID, "192.0.2.1", "test", time.Now())
	if err != nil {
		p.T.Fatal(err)
	}
	c := p.Stranger()
	c.HTTP.Jar.SetCookies(p.url(), []*http.Cookie{{Name: "__Host-parley-portal", Value: token, Path: "/", Secure: true}})
	return c
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request; body is sent as JSON unless it is nil, a []byte as it is.
func (c *Client) Do(method, path string, body any) Answer {
	c.P.T.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(b)
	default:
		j, err := json.Marshal(body)
		if err != nil {
			c.P.T.Fatal(err)
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequest(method, c.P.Server.URL+path, r)
	if err != nil {
		c.P.T.Fatal(err)
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		c.P.T.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.P.T.Fatal(err)
	}
	return Answer{resp.StatusCode, resp.Header, b}
}

// JSON sends a request that must succeed, and decodes its answer into to unless
// that is nil.
func (c *Client) JSON(method, path string, body, to any) {
	c.P.T.Helper()
	a := c.Do(method, path, body)
	if a.Status != http.StatusOK && a.Status != http.StatusNoContent {
		c.P.T.Fatalf("%s %s: %d %s", method, path, a.Status, a.Body)
	}
	if to == nil {
		return
	}
	if err := json.Unmarshal(a.Body, to); err != nil {
		c.P.T.Fatalf("%s %s: %v: %s", method, path, err, a.Body)
	}
}

// Find returns the person of an e-mail address.
func (p *Portal) Find(email string) people.User {
	p.T.Helper()
	var u people.User
	p.write(func(tx *store.Tx) (err error) {
		u, err = people.FindUser(tx, email)
		return err
	})
	return u
}

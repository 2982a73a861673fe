package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	netmail "net/mail"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// server is somebody else's SMTP server.
type server struct {
	mu     sync.Mutex
	got    []string
	users  []string
	refuse error // of RCPT
	port   int
	tls    *tls.Config // for clients
}

func (s *server) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{s: s}, nil }

type session struct {
	s    *server
	user string
}

func (c *session) AuthMechanisms() []string { return []string{sasl.Plain} }
func (c *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "portal" || password != "open sesame" {
			return errors.New("wrong")
		}
		c.user = user
		return nil
	}), nil
}
func (c *session) Reset()                               {}
func (c *session) Logout() error                        { return nil }
func (c *session) Mail(string, *smtp.MailOptions) error { return nil }
func (c *session) Rcpt(string, *smtp.RcptOptions) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.refuse
}
func (c *session) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.got, c.s.users = append(c.s.got, string(b)), append(c.s.users, c.user)
	return err
}

func (s *server) mails() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.got...)
}

// newServer starts a server with STARTTLS, or with TLS from the first byte.
func newServer(t *testing.T, implicit bool) *server {
	t.Helper()
	h := httptest.NewUnstartedServer(nil)
	h.StartTLS() // for its certificate of 127.0.0.1
	roots := x509.NewCertPool()
	roots.AddCert(h.Certificate())
	config := &tls.Config{Certificates: h.TLS.Certificates}
	h.Close()
	s := &server{tls: &tls.Config{RootCAs: roots}}
	srv := smtp.NewServer(s)
	srv.Domain = "mx.example"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	if implicit {
		l = tls.NewListener(l, config)
	} else {
		srv.TLSConfig = config
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return s
}

var operator = people.Actor{User: "op", Name: "Operator", Email: "op@example.com", Operator: true}

func newBox(t *testing.T) *Box {
	t.Helper()
	return newBoxOn(t, storetest.SQLite(t))
}

func newBoxOn(t *testing.T, database string) *Box {
	t.Helper()
	db, err := store.Open(t.Context(), database, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse("https://portal.example.com")
	return NewBox(db, v, u, nil)
}

func queue(t *testing.T, b *Box, m Message, ttl time.Duration) error {
	t.Helper()
	return b.db.Write(t.Context(), func(tx *store.Tx) error { return Queue(tx, b.vault, m, ttl) })
}

func configure(t *testing.T, b *Box, s *server, security Security) {
	t.Helper()
	b.tls = s.tls
	password := "open sesame"
	if err := b.SetSettings(t.Context(), operator, Settings{Host: "127.0.0.1", Port: s.port, Security: security, User: "portal", Password: &password, From: "parley@example.com"}); err != nil {
		t.Fatal(err)
	}
}

func TestSend(t *testing.T) {
	for _, security := range []Security{STARTTLS, TLS} {
		t.Run(string(security), func(t *testing.T) {
			b := newBox(t)
			s := newServer(t, security == TLS)
			m := Message{To: "anna@example.com", Kind: "invite", Language: "ru", Args: []string{"Acme\r\nBcc: x@evil.example", "Olga"}, Link: "/invite#secret"}
			if err := queue(t, b, m, time.Hour); err != nil {
				t.Fatal(err)
			}
			// Without a server it waits, and an operator can see its link.
			if more, err := b.one(t.Context()); more || err != nil {
				t.Fatal(more, err)
			}
			w, err := b.Waiting(t.Context(), operator)
			if err != nil || len(w) != 1 || w[0].To != m.To || w[0].Attempts != 0 {
				t.Fatalf("%+v %v", w, err)
			}
			if link, err := b.Reveal(t.Context(), operator, w[0].ID); err != nil || link != "https://portal.example.com/invite#secret" {
				t.Errorf("%q %v", link, err)
			}
			configure(t, b, s, security)
			if more, err := b.one(t.Context()); !more || err != nil {
				t.Fatal(more, err)
			}
			got := s.mails()
			if len(got) != 1 || s.users[0] != "portal" {
				t.Fatalf("%q %q", got, s.users)
			}
			msg, err := netmail.ReadMessage(strings.NewReader(got[0]))
			if err != nil {
				t.Fatal(err)
			}
			if msg.Header.Get("Bcc") != "" || msg.Header.Get("To") != "<anna@example.com>" || msg.Header.Get("Auto-Submitted") != "auto-generated" ||
				!strings.HasSuffix(msg.Header.Get("Message-Id"), "@portal.example.com>") {
				t.Errorf("%v", msg.Header)
			}
			if w, err := b.Waiting(t.Context(), operator); err != nil || len(w) != 0 {
				t.Errorf("%v %v", w, err)
			}
			if err := b.Test(t.Context(), operator, "en"); err != nil || len(s.mails()) != 2 {
				t.Errorf("%v", err)
			}
		})
	}
}

// What a server refuses for good is not tried again; what it refuses for now is;
// a certificate that nobody vouches for gets no password.
func TestRefused(t *testing.T) {
	b := newBox(t)
	s := newServer(t, false)
	configure(t, b, s, STARTTLS)
	waits := func() (attempts int, wait time.Duration, text string) {
		var next int64
		if err := b.db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Row("SELECT attempts, next, error FROM mails WHERE sent = 0").Scan(&attempts, &next, &text)
		}); err != nil {
			t.Fatal(err)
		}
		return attempts, time.Until(store.FromMillis(next)), text
	}
	again := func() {
		if err := b.db.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec("UPDATE mails SET next = 0"); return err }); err != nil {
			t.Fatal(err)
		}
		if _, err := b.one(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := queue(t, b, Message{To: "anna@example.com", Kind: "test"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	b.tls = nil
	again()
	if n, wait, text := waits(); n != 1 || wait < firstWait/2 || wait > firstWait || !strings.Contains(text, "certificate") || len(s.users) != 0 {
		t.Errorf("%d %v %s", n, wait, text)
	}
	b.tls = s.tls
	s.refuse = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 2, 0}, Message: "later"}
	again()
	if n, wait, text := waits(); n != 2 || wait > 2*firstWait || !strings.Contains(text, "later") {
		t.Errorf("%d %v %s", n, wait, text)
	}
	s.refuse = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody here"}
	again()
	if n, wait, text := waits(); n != 3 || wait < 30*time.Minute || !strings.Contains(text, "nobody here") {
		t.Errorf("%d %v %s", n, wait, text)
	}
	if more, err := b.one(t.Context()); more || err != nil {
		t.Error("it is tried again")
	}
}

// Two instances send each mail once; one that died with a mail in its hands
// leaves it to the other after the lease.
func TestInstances(t *testing.T) { storetest.Each(t, testInstances) }

func testInstances(t *testing.T, database string) {
	b := newBoxOn(t, database)
	s := newServer(t, false)
	configure(t, b, s, STARTTLS)
	const mails = 12
	for i := range mails {
		if err := queue(t, b, Message{To: "p" + strconv.Itoa(i) + "@example.com", Kind: "test"}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	// What a killed instance had: claimed, and not sent.
	if err := b.db.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE mails SET next = ?, attempts = 1 WHERE address = 'p0@example.com'", store.Millis(time.Now().Add(lease)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	other := NewBox(b.db, b.vault, b.url, nil)
	other.tls = b.tls
	var g sync.WaitGroup
	for _, x := range []*Box{b, other} {
		g.Go(func() {
			for {
				if more, err := x.one(t.Context()); err != nil || !more {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	g.Wait()
	if n := len(s.mails()); n != mails-1 {
		t.Errorf("%d mails came, want %d", n, mails-1)
	}
	if err := b.db.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec("UPDATE mails SET next = 1 WHERE sent = 0"); return err }); err != nil {
		t.Fatal(err)
	}
	if more, err := other.one(t.Context()); !more || err != nil || len(s.mails()) != mails {
		t.Error(more, err)
	}
}

// The task sends what is queued while it runs, as soon as the server is named.
func TestRun(t *testing.T) {
	b := newBox(t)
	s := newServer(t, true)
	b.tls = s.tls
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	if err := queue(t, b, Message{To: "anna@example.com", Kind: "test"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	configure(t, b, s, TLS)
	if err := queue(t, b, Message{To: "boris@example.com", Kind: "test"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		if len(s.mails()) == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := len(s.mails()); n != 2 {
		t.Errorf("%d mails came", n)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// An account that invites without end keeps out no resets, and strangers who ask
// for those no warning.
func TestShares(t *testing.T) {
	b := newBox(t)
	waiting := 0
	fill := func(to int) {
		t.Helper()
		if err := b.db.Write(t.Context(), func(tx *store.Tx) error {
			for ; waiting < to; waiting++ {
				if _, err := tx.Exec("INSERT INTO mails (id, address, kind, message, created, expires, next) VALUES (?,?,'invite',?,?,?,0)", store.NewID(), "x@example.com", []byte{}, store.Millis(time.Now()), store.Millis(time.Now().Add(time.Hour))); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(kind string) error {
		return queue(t, b, Message{To: kind + "@example.com", Kind: kind, Args: []string{"a", "b"}}, time.Hour)
	}
	fill(maxWaiting / 2)
	if err := ask("invite"); !errors.Is(err, ErrFull) {
		t.Errorf("an invitation: %v", err)
	}
	if err := ask("reset"); err != nil {
		t.Errorf("a reset: %v", err)
	}
	fill(maxWaiting)
	if err := ask("reset"); !errors.Is(err, ErrFull) {
		t.Errorf("a reset: %v", err)
	}
	for _, kind := range warnings {
		if err := ask(kind); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// Whoever waits for a reset does not wait for the invitations before it.
func TestInvitationsLast(t *testing.T) {
	s, b := newServer(t, false), newBox(t)
	configure(t, b, s, STARTTLS)
	for i, kind := range []string{"invite", "invite", "reset"} {
		if err := queue(t, b, Message{To: kind + strconv.Itoa(i) + "@example.com", Kind: kind, Args: []string{"a", "b"}}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.one(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.mails(); len(got) != 1 || !strings.Contains(got[0], "reset2@example.com") {
		t.Errorf("%q", got)
	}
}

func TestBounds(t *testing.T) {
	b := newBox(t)
	for i := range maxHour + 1 {
		if err := queue(t, b, Message{To: "anna@example.com", Kind: "test"}, time.Hour); (err == nil) != (i < maxHour) || err != nil && !errors.Is(err, ErrMany) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := queue(t, b, Message{To: "boris@example.com", Kind: "nonsense"}, time.Hour); err == nil {
		t.Error("a mail without a text")
	}
	// What is too old is not sent, and goes.
	if err := queue(t, b, Message{To: "boris@example.com", Kind: "test"}, -time.Second); err != nil {
		t.Fatal(err)
	}
	if more, err := b.one(t.Context()); more || err != nil {
		t.Error(more, err)
	}
	if w, _ := b.Waiting(t.Context(), operator); len(w) != maxHour {
		t.Errorf("%d wait", len(w))
	}
	for n, want := range map[int]time.Duration{1: firstWait, 2: 2 * firstWait, 50: mostWait} {
		if got := backoff(n); got != want {
			t.Errorf("backoff(%d) = %v, want %v", n, got, want)
		}
	}
}

func TestSettings(t *testing.T) {
	b := newBox(t)
	pw := "x"
	for field, s := range map[string]Settings{
		"host":     {Host: "bad host", Port: 25, Security: TLS, From: "a@example.com"},
		"port":     {Host: "mx.example", Security: TLS, From: "a@example.com"},
		"security": {Host: "mx.example", Port: 25, Security: Plain, Password: &pw, From: "a@example.com"},
		"from":     {Host: "mx.example", Port: 25, Security: TLS, From: "nobody"},
	} {
		if err := b.SetSettings(t.Context(), operator, s); !fault.Of(err).Has(field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := b.SetSettings(t.Context(), people.Actor{Account: "a", Role: people.Owner}, Settings{}); !errors.Is(err, people.ErrDenied) {
		t.Error(err)
	}
	good := Settings{Host: "mx.example", Port: 587, Security: STARTTLS, User: "u", Password: &pw, From: "a@example.com"}
	if err := b.SetSettings(t.Context(), operator, good); err != nil {
		t.Fatal(err)
	}
	good.Password = nil
	good.Port = 588
	read := func() Settings {
		var s Settings
		if err := b.db.Read(t.Context(), func(tx *store.Tx) (err error) { s, err = b.load(tx, true); return err }); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := b.SetSettings(t.Context(), operator, good); err != nil || *read().Password != pw {
		t.Errorf("the password is lost: %v", err)
	}
	// Whoever names another server does not get the password sent to it.
	good.Host = "evil.example"
	if err := b.SetSettings(t.Context(), operator, good); err != nil || read().Password != nil {
		t.Errorf("%v %v", err, read().Password)
	}
	if s, err := b.Settings(t.Context(), operator); err != nil || s.Password != nil || s.Set {
		t.Errorf("%+v %v", s, err)
	}
}

func TestTexts(t *testing.T) {
	for _, f := range dictionary.Faults() {
		t.Error(f)
	}
	for _, l := range look.Languages {
		for _, kind := range []string{"test", "verify", "taken", "reset", "invite", "signup", "email", "moved", "password"} {
			m := Message{Kind: kind, Language: string(l), Link: "/x#y"}
			if kind == "invite" {
				m.Args = []string{"Acme", "Olga"}
			}
			if kind == "moved" {
				m.Args = []string{"new@example.com"}
			}
			subject, body := m.text("https://portal.example.com")
			if strings.Contains(subject+body, "%!") || strings.HasPrefix(subject, "mail.") || strings.Contains(body, "mail.") || !strings.Contains(body, "\nhttps://portal.example.com/x#y\n") {
				t.Errorf("%s %s: %s\n%s", l, kind, subject, body)
			}
		}
	}
}

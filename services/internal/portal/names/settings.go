package names

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// LetsEncrypt is the directory of whoever says nothing.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Methods by which an account proves that a name is its own.
const (
	HTTP = "http-01"
	DNS  = "dns-01"
)

// Settings are how an account orders certificates.
type Settings struct {
	Directory string `json:"directory"` // URL of the authority's directory; "": Let's Encrypt's
	Email     string `json:"email"`     // for the authority's messages
	Terms     bool   `json:"terms"`     // of the authority are accepted; else nothing is ordered
	Method    string `json:"method"`    // http-01, dns-01
	Server    string `json:"server,omitempty"`
	Zone      string `json:"zone,omitempty"`
	Key       string `json:"key,omitempty"`       // name of the TSIG key
	Algorithm string `json:"algorithm,omitempty"` // hmac-sha256, hmac-sha512
	// Secret is base64, written and never read; "" leaves it as it is.
	Secret string `json:"secret,omitempty"`
	Set    bool   `json:"secretSet"` // there is one; of an answer alone
}

// Settings returns the actor's account's, without the secret.
func (s *Service) Settings(ctx context.Context, who people.Actor) (Settings, error) {
	var out Settings
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		out, err = s.load(tx, who.Account)
		out.Secret = ""
		return err
	})
	return out, err
}

func (s *Service) load(tx *store.Tx, account string) (Settings, error) {
	o := Settings{}
	var sealed []byte
	err := tx.Row("SELECT directory, email, terms, method, server, zone, key_name, algorithm, secret FROM name_settings WHERE account_id = ?", account).
		Scan(&o.Directory, &o.Email, &o.Terms, &o.Method, &o.Server, &o.Zone, &o.Key, &o.Algorithm, &sealed)
	if errors.Is(err, store.ErrNotFound) {
		return Settings{Directory: LetsEncrypt, Method: HTTP, Algorithm: "hmac-sha256"}, nil
	}
	if err != nil || len(sealed) == 0 {
		return o, err
	}
	b, err := s.cfg.Vault.Open("tsig", account, sealed)
	o.Secret, o.Set = string(b), err == nil
	return o, err
}

// SetSettings changes them. What waits is tried with the new ones at once.
func (s *Service) SetSettings(ctx context.Context, who people.Actor, in Settings) error {
	if err := in.check(); err != nil {
		return err
	}
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		set := in
		old, err := s.load(tx, who.Account)
		if err != nil {
			old = Settings{} // sealed with another key: to be set anew
		}
		// A secret goes to the server that it was typed for, and to no other.
		if set.Secret == "" && set.Server == old.Server && set.Key == old.Key {
			set.Secret = old.Secret
		}
		var sealed []byte
		if set.Method == DNS {
			if set.Secret == "" {
				return fault.New("secret", "required")
			}
			sealed = s.cfg.Vault.Seal("tsig", who.Account, []byte(set.Secret))
		}
		if _, err := tx.Exec(`INSERT INTO name_settings (account_id, directory, email, terms, method, server, zone, key_name, algorithm, secret) VALUES (?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (account_id) DO UPDATE SET directory = excluded.directory, email = excluded.email, terms = excluded.terms, method = excluded.method, server = excluded.server,
  zone = excluded.zone, key_name = excluded.key_name, algorithm = excluded.algorithm, secret = excluded.secret`,
			who.Account, set.Directory, set.Email, set.Terms, set.Method, set.Server, set.Zone, set.Key, set.Algorithm, sealed); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE name_orders SET try_after = 0, tries = 0 WHERE account_id = ? AND state = ?", who.Account, Failed); err != nil {
			return err
		}
		tx.Notify(topic, "")
		return people.Audit(tx, who, "names.settings", who.Account, map[string]any{"directory": set.Directory, "method": set.Method, "terms": set.Terms, "server": set.Server})
	})
}

func (in *Settings) check() error {
	var l fault.List
	in.Set = false
	in.Directory = strings.TrimSpace(in.Directory)
	if in.Directory == "" {
		in.Directory = LetsEncrypt
	}
	if u, err := url.Parse(in.Directory); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || len(in.Directory) > 500 {
		l.Add("directory", "names-directory", api.Cut(in.Directory, 100))
	}
	var err error
	if in.Email, err = people.NormalizeEmail("email", in.Email); err != nil {
		l = append(l, fault.Of(err)...)
	}
	switch in.Method {
	case HTTP:
		in.Server, in.Zone, in.Key, in.Algorithm, in.Secret = "", "", "", "hmac-sha256", ""
	case DNS:
		in.checkDNS(&l)
	default:
		l.Add("method", "choice", api.Cut(in.Method, 20), HTTP+", "+DNS)
	}
	return l.Err()
}

func (in *Settings) checkDNS(l *fault.List) {
	in.Server = strings.ToLower(strings.TrimSpace(in.Server))
	host, port, err := net.SplitHostPort(in.Server)
	n, bad := strconv.Atoi(port)
	if err != nil || host == "" || bad != nil || n < 1 || n > 65535 || len(in.Server) > 260 || strings.ContainsAny(host, " /@") {
		l.Add("server", "names-server", api.Cut(in.Server, 100))
	}
	for _, f := range []struct {
		field string
		value *string
	}{{"zone", &in.Zone}, {"key", &in.Key}} {
		*f.value = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(*f.value)), ".")
		if *f.value == "" {
			l.Add(f.field, "required")
		} else if !plainName(*f.value) {
			l.Add(f.field, "names-zone", api.Cut(*f.value, 100))
		}
	}
	if in.Algorithm != "hmac-sha256" && in.Algorithm != "hmac-sha512" {
		l.Add("algorithm", "choice", api.Cut(in.Algorithm, 20), "hmac-sha256, hmac-sha512")
	}
	in.Secret = strings.TrimSpace(in.Secret)
	if b, err := base64.StdEncoding.DecodeString(in.Secret); err != nil || in.Secret != "" && (len(b) < 16 || len(b) > 256) {
		l.Add("secret", "names-secret")
	}
}

// plainName reports whether s is a domain name of letters, digits, "-" and "_".
func plainName(s string) bool {
	_, ok := dns.IsDomainName(s)
	return ok && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}

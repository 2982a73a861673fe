package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/portal/server"
	"github.com/parley-meet/parley/services/internal/portalctl"
)

// choice is where the portal's certificate comes from, as the console has said. It
// is kept beside the database; without the file it is the portal's own root.
type choice struct {
	Version int          `json:"version"`
	Mode    portalctl.Op `json:"mode"` // OpSelf, OpACME, OpFiles
	Email   string       `json:"email,omitempty"`
}

const choiceVersion = 1

func (a *appliance) choicePath() string { return filepath.Join(a.cfg.Dir, "tls.json") }

// pemPath is of the certificate that was brought, and its key, in one file.
func (a *appliance) pemPath() string { return filepath.Join(a.cfg.Dir, "tls.pem") }

func (a *appliance) chosen() (choice, error) {
	b, err := os.ReadFile(a.choicePath())
	if errors.Is(err, fs.ErrNotExist) {
		return choice{Mode: portalctl.OpSelf}, nil
	}
	var c choice
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err == nil && c.Version != choiceVersion {
		err = fmt.Errorf("%s: version %d, want %d", a.choicePath(), c.Version, choiceVersion)
	}
	return c, err
}

// tls is the choice as settings for a portal under the URL. What cannot be served
// gives way to the portal's own root: a portal that is warned of is better than
// none, and its consoles tell.
func (a *appliance) tls(at string) server.TLS {
	c, err := a.chosen()
	if err == nil {
		switch c.Mode {
		case portalctl.OpSelf:
			return server.TLS{Mode: server.ModeSelf}
		case portalctl.OpACME:
			if hostOf(at) != "" {
				return server.TLS{Mode: server.ModeACME, Email: c.Email}
			}
			err = errors.New("acme needs a whole host name, and the machine has none")
		case portalctl.OpFiles:
			if _, err = tls.LoadX509KeyPair(a.pemPath(), a.pemPath()); err == nil {
				return server.TLS{Mode: server.ModeFiles, Cert: a.pemPath(), Key: a.pemPath()}
			}
		default:
			err = fmt.Errorf("there is no certificate from %q", c.Mode)
		}
	}
	a.log.Error("certificate: the portal's own root is used", "error", err)
	return server.TLS{Mode: server.ModeSelf}
}

// hostOf is the host of a URL when it is a name, and "" for an address.
func hostOf(at string) string {
	u, err := url.Parse(at)
	if err != nil || !strings.Contains(u.Hostname(), ".") || strings.Trim(u.Hostname(), "0123456789.") == "" {
		return ""
	}
	return u.Hostname()
}

// choose keeps what the console asks for, and has the portal start anew.
func (a *appliance) choose(req portalctl.Request, now time.Time) (portalctl.Problem, error) {
	c := choice{Version: choiceVersion, Mode: req.Op}
	at := a.url()
	switch req.Op {
	case portalctl.OpACME:
		if hostOf(at) == "" {
			return portalctl.NoName, nil
		}
		m, err := mail.ParseAddress(req.Email)
		if err != nil || m.Name != "" || m.Address != req.Email || len(req.Email) > 254 {
			return portalctl.NoEmail, nil
		}
		c.Email = req.Email
	case portalctl.OpFiles:
		if p := examine(req.PEM, at, now); p != "" {
			return p, nil
		}
		if err := durable.WriteFile(a.pemPath(), []byte(req.PEM), 0o600); err != nil {
			return "", err
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	if err := durable.WriteFile(a.choicePath(), b, 0o600); err != nil {
		return "", err
	}
	if req.Op != portalctl.OpFiles { // the key is not needed any more
		if err := durable.Remove(a.pemPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	select {
	case a.again <- struct{}{}:
	default: // it will
	}
	return "", nil
}

// examine looks at a chain with its key, for the portal at a URL.
func examine(pem, at string, now time.Time) portalctl.Problem {
	pair, err := tls.X509KeyPair([]byte(pem), []byte(pem))
	if err != nil {
		return portalctl.NoPair
	}
	if now.Before(pair.Leaf.NotBefore) || now.After(pair.Leaf.NotAfter) {
		return portalctl.Expired
	}
	u, err := url.Parse(at)
	if err != nil || pair.Leaf.VerifyHostname(u.Hostname()) != nil {
		return portalctl.Foreign
	}
	return ""
}

package terminal

import (
	"context"
	"strings"

	"github.com/parley-meet/parley/services/internal/admin"
)

var certsForms = []string{"certs", "certs reset", "certs request NAME…", "certs install", "certs authorities", "certs trust", "certs distrust SHA256"}

func certsWords(_ *session, before []string) []string {
	if len(before) > 0 {
		return nil
	}
	return []string{"reset", "request", "install", "authorities", "trust", "distrust"}
}

func (s *session) cmdCerts(ctx context.Context, args []string) error {
	a := s.c.cfg.Admin
	if len(args) == 0 {
		return s.showCertificate(ctx)
	}
	switch verb := strings.ToLower(args[0]); {
	case verb == "reset" && len(args) == 1:
		if ok, err := s.confirm(ctx, "certs.reset-sure"); err != nil || !ok {
			return err
		}
		return s.done(s.do(ctx, "certs reset", opLimit, a.ResetCertificate), "certs.is-reset")
	case verb == "request" && len(args) > 1:
		text := make(chan string, 1)
		err := s.do(ctx, "certs request", opLimit, func(ctx context.Context, who admin.Actor) error {
			pem, err := a.RequestCertificate(ctx, who, admin.RequestInput{Names: args[1:]})
			text <- pem
			return err
		})
		if err != nil {
			return err
		}
		s.say("certs.request")
		s.printPEM(<-text)
		return nil
	case verb == "install" && len(args) == 1:
		pem, err := s.readPEM(ctx, "certs.install")
		if err != nil || pem == "" {
			return err
		}
		err = s.do(ctx, "certs install", opLimit, func(ctx context.Context, who admin.Actor) error { return a.InstallCertificate(ctx, who, pem, "") })
		return s.done(err, "certs.installed")
	case verb == "authorities" && len(args) == 1:
		return s.showAuthorities(ctx)
	case verb == "trust" && len(args) == 1:
		pem, err := s.readPEM(ctx, "certs.trust")
		if err != nil || pem == "" {
			return err
		}
		err = s.do(ctx, "certs trust", opLimit, func(ctx context.Context, who admin.Actor) error { return a.AddAuthority(ctx, who, pem) })
		return s.done(err, "certs.trusted")
	case verb == "distrust" && len(args) == 2:
		err := s.do(ctx, "certs distrust", opLimit, func(ctx context.Context, who admin.Actor) error { return a.RemoveAuthority(ctx, who, args[1]) })
		return s.done(err, "certs.distrusted")
	}
	return find("certs").wrong()
}

// printPEM prints lines that are to be copied as they are.
func (s *session) printPEM(pem string) {
	for line := range strings.Lines(pem) {
		s.printf("%s\n", clean(strings.TrimRight(line, "\r\n"), 200))
	}
}

// maxPEM is how many bytes of a pasted text are taken.
const maxPEM = 64 << 10

// readPEM reads a text that is pasted, until a line with nothing but a full stop.
// It is not shown: a terminal that echoes so much is slow, and it is no use.
func (s *session) readPEM(ctx context.Context, key string) (string, error) {
	s.say(key)
	var b strings.Builder
	for {
		line, err := s.readLine(ctx, "", true, idleLogout, nil)
		if err != nil {
			return "", err
		}
		if line = strings.TrimSpace(line); line == "." {
			return b.String(), nil
		}
		if b.Len()+len(line) >= maxPEM {
			return "", errLong
		}
		b.WriteString(line + "\n")
	}
}

func (s *session) showCertificate(ctx context.Context) error {
	c, err := get(s, ctx, statusLimit, s.c.cfg.Admin.Certificate)
	if err != nil {
		return err
	}
	w := s.words()
	s.row("certs.subject", clean(c.Subject, 300))
	issuer := clean(c.Issuer, 300)
	if c.SelfSigned {
		issuer = w.T("certs.self-signed")
	}
	s.row("certs.issuer", issuer)
	s.row("certs.names", clean(strings.Join(c.Names, " "), 1000))
	s.row("certs.valid", w.T("certs.from-to", c.NotBefore.UTC().Format("2006-01-02"), c.NotAfter.UTC().Format("2006-01-02")))
	s.row("certs.key", clean(c.Key, 60))
	if f := strings.Split(c.SHA256, ":"); len(f) == 32 {
		s.row("certs.sha256", clean(strings.Join(f[:16], ":"), 60)+" "+clean(strings.Join(f[16:], ":"), 60))
	} else {
		s.row("certs.sha256", clean(c.SHA256, 120))
	}
	switch {
	case c.Fault != nil:
		s.row("certs.problem", clean(c.Fault.Text(s.words()), 400))
	case c.Problem != "":
		s.row("certs.problem", clean(c.Problem, 400))
	}
	if !c.CoversName {
		s.say("certs.not-covered")
	}
	if c.Request != "" {
		s.say("certs.waiting")
		s.printPEM(c.Request)
	}
	return nil
}

func (s *session) showAuthorities(ctx context.Context) error {
	list, err := get(s, ctx, statusLimit, s.c.cfg.Admin.Authorities)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		s.say("certs.no-authorities")
	}
	for _, a := range list {
		s.row("certs.subject", clean(a.Subject, 300))
		s.row("certs.until", a.NotAfter.UTC().Format("2006-01-02"))
		s.row("certs.sha256", strings.ReplaceAll(clean(a.SHA256, 120), ":", ""))
	}
	return nil
}

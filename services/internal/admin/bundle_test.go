package admin_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/link"
)

func TestBundle(t *testing.T) {
	r := admintest.New(t)
	ctx := t.Context()
	token := link.Token{URL: "https://portal.example.com", ID: "t1", Secret: strings.Repeat("planted", 6) + "A"}.String()
	if _, err := r.SetConnector(ctx, admintest.Operator, admin.ConnectorInput{Token: &token, PublicName: "meet.example.org"}); err != nil {
		t.Fatal(err)
	}
	if err := r.ResetCertificate(ctx, admintest.Operator); err != nil {
		t.Fatal(err)
	}
	r.Note(admintest.Operator, "login", "password=planted parley_planted", nil)
	var b bytes.Buffer
	if err := r.Bundle(ctx, admintest.Viewer, &b); !errors.Is(err, admin.ErrDenied) || b.Len() > 0 {
		t.Errorf("%v, %d bytes", err, b.Len())
	}
	if err := r.Bundle(ctx, admintest.Operator, &b); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		files[name] = string(text)
		for _, secret := range []string{"planted", "$argon2", "PRIVATE KEY", admintest.Password} {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s has %q", name, secret)
			}
		}
	}
	for name, want := range map[string]string{
		"README.txt": "Support bundle", "status.json": `"version": "1.2.3"`, "network.json": `"config"`, "connector.json": "meet.example.org",
		"certificate.json": `"selfSigned": true`, "audit.jsonl": `"certificate.reset"`, "logs/zctrl.log": "waiting for a token",
		"proc/meminfo": "MemTotal", "counters.txt": "Ip:", "versions.txt": "go1", "proc/net/route": "Iface",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s: want %q in %.300q", name, want, files[name])
		}
	}
}

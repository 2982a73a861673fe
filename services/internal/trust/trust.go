// Package trust is which certificate authorities the appliance trusts when it
// connects outwards: the usual ones (those of Mozilla, compiled in, because
// there is no distribution to bring them) and those that the administrator
// added, for private authorities and for proxies that look into TLS.
//
// The administrator's are in the file authorities.pem, PEM as it was given,
// without comments. It is replaced atomically; whoever changes it holds the
// lock of the folder.
package trust

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/certificate"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/statefile"
)

const (
	// Max is how many authorities can be added.
	Max      = 32
	fileName = "authorities.pem"
	maxFile  = 512 << 10 // bytes
)

// ErrUnknown means that no authority has the fingerprint.
var ErrUnknown = errors.New("no such authority")

// Store keeps the administrator's authorities in a folder.
type Store struct {
	path   string
	folder *statefile.Folder
}

// New returns the store of a folder.
func New(dir string) *Store {
	return &Store{path: filepath.Join(dir, fileName), folder: statefile.New(dir)}
}

// List returns the authorities that were added. No file is none.
func (s *Store) List() ([]*x509.Certificate, error) {
	f, err := durable.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s: more bytes, want at most %d", s.path, maxFile)
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, fmt.Errorf("%s: block %d of type %.40q: %w", s.path, len(out)+1, block.Type, errors.Join(err, errBlock))
		}
		out = append(out, c)
	}
	if len(bytes.TrimSpace(b)) > 0 || len(out) > Max {
		return nil, fmt.Errorf("%s: %d certificates and %d bytes more: %w", s.path, len(out), len(b), errBlock)
	}
	return out, nil
}

var errBlock = errors.New("not what was written there")

// Add adds the authorities of a PEM text, all or none, and returns them. An
// error may be a fault.List of the field "pem".
func (s *Store) Add(ctx context.Context, text string, now time.Time) ([]*x509.Certificate, error) {
	added, err := certificate.ParsePEM("pem", text, Max)
	if err != nil {
		return nil, err
	}
	for i, c := range added {
		if err := check(c, now); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(added[:i], c.Equal) {
			return nil, fault.New("pem", "authority-twice", certificate.Name(c))
		}
	}
	return added, s.change(ctx, func(list []*x509.Certificate) ([]*x509.Certificate, error) {
		for _, c := range added {
			if slices.ContainsFunc(list, c.Equal) {
				return nil, fault.New("pem", "authority-twice", certificate.Name(c))
			}
		}
		if len(list)+len(added) > Max {
			return nil, fault.New("pem", "authority-many", Max)
		}
		return append(list, added...), nil
	})
}

func check(c *x509.Certificate, now time.Time) error {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fault.New("pem", "authority-none", certificate.Name(c))
	case !now.Before(c.NotAfter):
		return fault.New("pem", "authority-expired", certificate.Name(c), c.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}

// Remove removes the authority of that SHA-256 fingerprint, "AB:CD:…" or plain
// hexadecimal, and returns it.
func (s *Store) Remove(ctx context.Context, sum string) (*x509.Certificate, error) {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, ":", "")) }
	var removed *x509.Certificate
	err := s.change(ctx, func(list []*x509.Certificate) ([]*x509.Certificate, error) {
		i := slices.IndexFunc(list, func(c *x509.Certificate) bool { return plain(certificate.Sum(c)) == plain(sum) })
		if i < 0 {
			return nil, ErrUnknown
		}
		removed = list[i]
		return slices.Delete(list, i, i+1), nil
	})
	return removed, err
}

// change replaces the file. Where it cannot be read nothing is replaced: the
// authorities in it would be lost.
func (s *Store) change(ctx context.Context, change func([]*x509.Certificate) ([]*x509.Certificate, error)) error {
	unlock, err := s.folder.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	list, err := s.List()
	if err != nil {
		return err
	}
	if list, err = change(list); err != nil {
		return err
	}
	var b bytes.Buffer
	for _, c := range list {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return err
		}
	}
	return durable.WriteFile(s.path, b.Bytes(), 0o660)
}

// Pool returns the usual authorities and those that were added. With an error
// it has the usual ones alone.
func (s *Store) Pool() (*x509.CertPool, error) {
	p := usual().Clone()
	list, err := s.List()
	for _, c := range list {
		p.AddCert(c)
	}
	return p, err
}

// usual are the authorities that come with the appliance, parsed when a chain
// needs them.
var usual = sync.OnceValue(func() *x509.CertPool {
	p := x509.NewCertPool()
	for r := range bundle.Roots() {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			continue // one that this version of Go does not read is not trusted
		}
		if r.Constraint != nil {
			p.AddCertWithConstraint(c, r.Constraint)
		} else {
			p.AddCert(c)
		}
	}
	return p
})

// Usual reports whether a certificate of that fingerprint is among the usual
// authorities: whoever signs with another is a private one.
func Usual(c *x509.Certificate) bool {
	for sum := range bundle.Roots() {
		if sha256.Sum256(sum.Certificate) == sha256.Sum256(c.Raw) {
			return true
		}
	}
	return false
}

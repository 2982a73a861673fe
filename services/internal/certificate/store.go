package certificate

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netconfig"
	"github.com/parley-meet/parley/services/internal/statefile"
)

// Names of the files in Store.Dir. Both consoles write them (0660), and their
// folder is open to the connector's group alone.
const (
	selfName     = "self.pem"
	uploadedName = "uploaded.pem"
	requestName  = "request.pem"

	fileMode = 0o660
	maxFile  = maxChain + maxKey // bytes
)

// Bounds of a signing request.
const (
	MaxNames = 50
	maxOrg   = 64 // characters (RFC 5280, A.1: ub-organization-name)
)

// Store is the folder of the certificates. Make it with NewStore.
type Store struct {
	Dir string
	// RAM is where the web console keeps a self-signed certificate while Dir
	// cannot be written to; "" is nowhere.
	RAM string

	folder *statefile.Folder
}

// NewStore returns the store in a folder, which need not be there.
func NewStore(dir, ram string) *Store {
	return &Store{Dir: dir, RAM: ram, folder: statefile.New(dir)}
}

// Shared returns the consoles' store below the folder that they share with the
// zone controller and the router (layout.ConnectorDir).
func Shared(dir string) *Store {
	return NewStore(filepath.Join(dir, "certificates"), filepath.Join(layout.RunDir, "console-web"))
}

// lock makes the folder and waits until nobody else changes something in it.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	err = os.Mkdir(s.Dir, 0o770)
	if err == nil {
		err = os.Chmod(s.Dir, fs.ModeSetgid|0o770) // whatever the umask
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return s.folder.Lock(ctx)
}

func (s *Store) path(name string) string { return filepath.Join(s.Dir, name) }

// encode is the content of self.pem and uploaded.pem.
func encode(c *tls.Certificate) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, der := range c.Certificate {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return b, nil
}

// readPair reads what encode made. It does not judge dates.
func readPair(path string) (*tls.Certificate, error) {
	b, err := readFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(b, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &c, nil
}

// dead reports whether a certificate has expired. That its time has not come is
// no reason not to serve it: the clock may be wrong.
func dead(c *x509.Certificate, now time.Time) bool { return !later(now).Before(c.NotAfter) }

func due(c *x509.Certificate, now time.Time) bool { return dead(c, now.Add(renewal)) }

// State is what the files say.
type State struct {
	Current *tls.Certificate // that is to be served; nil: there is none yet
	Self    bool             // Current is the self-signed one
	Problem *fault.Fault     // why an uploaded one is not Current
	Request string           // that waits for its certificate, PEM

	selfErr error // why there is no self-signed one; nil when there was none
	renew   bool  // the self-signed one is to be made
	inRAM   bool  // the self-signed one is in RAM alone
}

// Read returns the state at a time.
func (s *Store) Read(now time.Time) State {
	var st State
	self, err := readPair(s.path(selfName))
	if err == nil && due(self.Leaf, now) || err != nil {
		if ram, ramErr := readPair(filepath.Join(s.RAM, selfName)); s.RAM != "" && ramErr == nil && !due(ram.Leaf, now) {
			self, err, st.inRAM = ram, nil, true
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		st.renew = true
	case err != nil:
		st.renew, st.selfErr = true, err
	case dead(self.Leaf, now):
		st.renew, st.selfErr = true, fmt.Errorf("%s: expired on %s", s.path(selfName), self.Leaf.NotAfter.Format(time.DateOnly))
	default:
		st.Current, st.Self, st.renew = self, true, due(self.Leaf, now)
	}
	up, err := readPair(s.path(uploadedName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil && strings.Contains(err.Error(), "private key does not match"):
		st.Problem = &fault.Fault{Field: "chain", Code: "used-mismatch"}
	case err != nil:
		st.Problem = &fault.Fault{Field: "chain", Code: "used-damaged", Args: []any{Clean(err.Error(), 200)}}
	case dead(up.Leaf, now):
		st.Problem = &fault.Fault{Field: "chain", Code: "used-expired", Args: []any{Name(up.Leaf), up.Leaf.NotAfter.UTC().Format(dateFormat)}}
	default:
		st.Current, st.Self = up, false
	}
	if _, text, err := s.request(); err == nil {
		st.Request = text
	}
	return st
}

// request reads the key and the signing request.
func (s *Store) request() (crypto.Signer, string, error) {
	b, err := readFile(s.path(requestName), maxFile)
	if err != nil {
		return nil, "", err
	}
	keyBlock, rest := pem.Decode(b)
	if keyBlock == nil || keyBlock.Type != "PRIVATE KEY" {
		return nil, "", fmt.Errorf("%s: it does not begin with a key", s.path(requestName))
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", s.path(requestName), err)
	}
	block, _ := pem.Decode(rest)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, "", fmt.Errorf("%s: there is no request behind the key", s.path(requestName))
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, "", fmt.Errorf("%s: %T is no key that signs", s.path(requestName), key)
	}
	return signer, string(pem.EncodeToMemory(block)), nil
}

// Install takes a chain and its key into use; without a key that of the signing
// request, which is then answered. A fault names "chain" or "key".
func (s *Store) Install(ctx context.Context, chain, key string, now time.Time) (*x509.Certificate, error) {
	certs, err := ParsePEM("chain", chain, MaxChain)
	if err != nil {
		return nil, err
	}
	if certs, err = order(certs); err != nil {
		return nil, err
	}
	if err := checkLeaf(certs[0], now); err != nil {
		return nil, err
	}
	for _, c := range certs[1:] {
		if err := checkDates("chain", c, now); err != nil {
			return nil, err
		}
	}
	var signer crypto.Signer
	if strings.TrimSpace(key) != "" {
		if signer, err = parseKey(key); err != nil {
			return nil, err
		}
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	waiting, _, rerr := s.request()
	answered := rerr == nil && matches(certs[0], waiting)
	switch {
	case signer == nil && errors.Is(rerr, fs.ErrNotExist):
		return nil, fault.New("key", "key-no-request")
	case signer == nil && rerr != nil:
		return nil, rerr
	case signer == nil && !answered:
		return nil, fault.New("chain", "key-not-requested")
	case signer == nil:
		signer = waiting
	case !matches(certs[0], signer):
		return nil, fault.New("key", "key-mismatch", Name(certs[0]))
	}
	pair := &tls.Certificate{PrivateKey: signer, Leaf: certs[0]}
	for _, c := range certs {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	b, err := encode(pair)
	if err != nil {
		return nil, err
	}
	// What could not be read again must not go into use.
	if _, err := tls.X509KeyPair(b, b); err != nil {
		return nil, fault.New("chain", "used-damaged", Clean(err.Error(), 200))
	}
	if err := durable.WriteFile(s.path(uploadedName), b, fileMode); err != nil {
		return nil, err
	}
	if answered {
		return certs[0], durable.Remove(s.path(requestName))
	}
	return certs[0], nil
}

// Reset makes a new self-signed certificate and removes an uploaded one. A
// signing request keeps waiting.
func (s *Store) Reset(ctx context.Context, n Names, now time.Time) (*x509.Certificate, error) {
	c, err := selfSign(now, n)
	if err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.writeSelf(s.Dir, c); err != nil {
		return nil, err
	}
	return c.Leaf, durable.Remove(s.path(uploadedName))
}

func (s *Store) writeSelf(dir string, c *tls.Certificate) error {
	b, err := encode(c)
	if err != nil {
		return err
	}
	mode := fs.FileMode(fileMode)
	if dir != s.Dir {
		mode = 0o640 // the web console's own: another only looks
	}
	return durable.WriteFile(filepath.Join(dir, selfName), b, mode)
}

// Request is what a signing request says.
type Request struct {
	Names        []string
	Organization string
	Country      string
}

// MakeRequest makes a key and a signing request in the place of the one that is
// there. Faults name "names.0", "organization" and "country".
func (s *Store) MakeRequest(ctx context.Context, in Request) (string, error) {
	t, err := in.template()
	if err != nil {
		return "", err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		return "", fmt.Errorf("signing request: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	unlock, err := s.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	b := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), text...)
	return string(text), durable.WriteFile(s.path(requestName), b, fileMode)
}

func (in Request) template() (*x509.CertificateRequest, error) {
	var faults fault.List
	t := &x509.CertificateRequest{}
	var seen []string
	for i, name := range in.Names {
		name = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), ".")
		if name == "" || slices.Contains(seen, name) {
			continue
		}
		seen = append(seen, name)
		field := fmt.Sprintf("names.%d", i)
		if a, err := netip.ParseAddr(name); err == nil {
			if a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
				faults.Add(field, "request-address", Clean(name, 60))
			}
			t.IPAddresses = append(t.IPAddresses, net.IP(a.Unmap().AsSlice()))
		} else if netconfig.CheckName(strings.TrimPrefix(name, "*.")) != nil || numeric(name) || strings.Contains(name, "_") {
			faults.Add(field, "request-name", Clean(name, 60))
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	switch {
	case len(seen) == 0:
		faults.Add("names", "required")
	case len(in.Names) > MaxNames:
		faults.Add("names", "many", MaxNames)
	case len(seen[0]) > maxCommonName:
		faults.Add("names.0", "request-common", maxCommonName)
	default:
		t.Subject.CommonName = seen[0]
	}
	if org := strings.TrimSpace(in.Organization); org != "" {
		if utf8.RuneCountInString(org) > maxOrg {
			faults.Add("organization", "long", maxOrg)
		}
		if !utf8.ValidString(org) || strings.ContainsFunc(org, func(r rune) bool { return !unicode.IsPrint(r) }) {
			faults.Add("organization", "control-character")
		}
		t.Subject.Organization = []string{org}
	}
	if c := strings.ToUpper(strings.TrimSpace(in.Country)); c != "" {
		if len(c) != 2 || c[0] < 'A' || c[0] > 'Z' || c[1] < 'A' || c[1] > 'Z' {
			faults.Add("country", "request-country", Clean(c, 20))
		}
		t.Subject.Country = []string{c}
	}
	return t, faults.Err()
}

// numeric reports whether a name would be taken for an IPv4 address that it is
// not: its last label is a number.
func numeric(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// takeOver moves the certificate that an earlier version kept in its own folder
// into the store, once.
func (s *Store) takeOver(ctx context.Context, old string) error {
	if old == "" {
		return nil
	}
	certPath, keyPath := filepath.Join(old, "cert.pem"), filepath.Join(old, "key.pem")
	cert, err := readFile(certPath, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	key, kerr := readFile(keyPath, maxKey)
	if err := errors.Join(err, kerr); err != nil {
		return fmt.Errorf("certificate of an earlier version: %w", err)
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(s.path(selfName)); errors.Is(err, fs.ErrNotExist) {
		c, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("certificate of an earlier version: %w", errors.Join(err, durable.Remove(certPath), durable.Remove(keyPath)))
		}
		if err := s.writeSelf(s.Dir, &c); err != nil {
			return err
		}
	}
	return errors.Join(durable.Remove(certPath), durable.Remove(keyPath))
}

// Info is a certificate in use, for people.
type Info struct {
	State
	Leaf  *x509.Certificate
	Names []string // and addresses
	Key   string   // "ECDSA P-256"
	Chain []string // subjects of what stands above it
	// Incomplete says that the chain leads to no authority: an intermediate
	// certificate is missing, or the authority is a private one.
	Incomplete bool
}

// Info describes what is in use; nil when there is no certificate yet. roots
// are the authorities that a chain may end at.
func (s *Store) Info(now time.Time, roots *x509.CertPool) *Info {
	i := &Info{State: s.Read(now)}
	if i.Current == nil {
		return nil
	}
	i.Leaf = i.Current.Leaf
	for _, n := range i.Leaf.DNSNames {
		i.Names = append(i.Names, Clean(n, 253))
	}
	for _, a := range i.Leaf.IPAddresses {
		i.Names = append(i.Names, a.String())
	}
	i.Key = keyName(i.Leaf.PublicKey)
	between := x509.NewCertPool()
	last := i.Leaf
	for _, der := range i.Current.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		between.AddCert(c)
		last = c
		i.Chain = append(i.Chain, Clean(c.Subject.String(), maxShown))
	}
	if !i.Self && !bytes.Equal(last.RawIssuer, last.RawSubject) {
		_, err := i.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: later(now)})
		var unknown x509.UnknownAuthorityError
		i.Incomplete = errors.As(err, &unknown)
	}
	return i
}

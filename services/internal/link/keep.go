package link

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/parley-meet/parley/internal/durable"
)

// Bounds of the file that keeps credentials.
const (
	credentialsVersion = 1
	maxCredentials     = 64 << 10 // bytes
	credentialsMode    = 0o600
)

// DamagedError means that a file of credentials is there and cannot be used: a
// write was torn, or somebody else changed it. The appliance has to be enrolled
// again.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("credentials %s: %v; the appliance is enrolled again, with a token", e.Path, e.Err)
}

// Unwrap returns the reason.
func (e *DamagedError) Unwrap() error { return e.Err }

// kept is the file: an object, so that the sum is seen to be missing when its end
// is.
type kept struct {
	Version     int             `json:"version"`
	Credentials json.RawMessage `json:"credentials"`
	Sum         string          `json:"sum"` // SHA-256 of the bytes of Credentials, hexadecimal
}

// Write keeps the credentials in a file that its owner alone reads, atomically
// and durably: after a power cut the ones before are there, or these.
func (c Credentials) Write(path string) error {
	// What cannot be used must not replace what can.
	if err := errors.Join(c.check(), c.portals()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	sum := sha256.Sum256(b)
	b, err = json.Marshal(kept{credentialsVersion, b, hex.EncodeToString(sum[:])})
	if err == nil && len(b) >= maxCredentials {
		err = fmt.Errorf("%d bytes, at most %d", len(b), maxCredentials)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return durable.WriteFile(path, append(b, '\n'), credentialsMode)
}

// ReadCredentials reads what Write kept. The error is fs.ErrNotExist where
// nothing was, which is an appliance that has not been enrolled, a *DamagedError,
// or another one when the file cannot be read now.
func ReadCredentials(path string) (Credentials, error) {
	var c Credentials
	f, err := durable.Open(path)
	if err != nil {
		return c, fmt.Errorf("credentials: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return c, fmt.Errorf("credentials: %w", err)
	}
	if others := info.Mode().Perm() &^ fs.FileMode(credentialsMode); others != 0 {
		return c, fmt.Errorf("credentials %s: mode %04o, want %04o: others can read the key (chmod 600)", path, info.Mode().Perm(), credentialsMode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCredentials+1))
	if err != nil {
		return c, fmt.Errorf("credentials: %w", err)
	}
	if c, err = parseKept(b); err != nil {
		return Credentials{}, &DamagedError{path, err}
	}
	return c, nil
}

func parseKept(b []byte) (Credentials, error) {
	var c Credentials
	if len(b) > maxCredentials {
		return c, fmt.Errorf("more than %d bytes", maxCredentials)
	}
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return c, fmt.Errorf("a torn write: %w", err)
	}
	if k.Version > credentialsVersion {
		return c, fmt.Errorf("version %d, want %d: a newer program wrote it", k.Version, credentialsVersion)
	}
	sum := sha256.Sum256(k.Credentials)
	if k.Version != credentialsVersion || k.Sum != hex.EncodeToString(sum[:]) {
		return c, errors.New("a torn write: the sum is another one")
	}
	d := json.NewDecoder(bytes.NewReader(k.Credentials))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, err
	}
	return c, errors.Join(c.check(), c.portals())
}

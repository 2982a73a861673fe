package credential

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/internal/durable"
)

// User is the administrator's name.
const User = "admin"

const (
	fileVersion = 1
	maxFile     = 4096     // bytes
	maxDamaged  = 64 << 10 // bytes that are kept of a damaged file
	hashName    = "admin.json"
)

// file is what admin.json holds.
type file struct {
	Version int       `json:"version"`
	User    string    `json:"user"`
	Hash    string    `json:"hash"`
	Set     time.Time `json:"set"`
}

// parseFile reads an admin.json: the hash, and when it was set.
func parseFile(b []byte) (Hash, time.Time, error) {
	none := time.Time{}
	if len(b) > maxFile {
		return Hash{}, none, fmt.Errorf("%d bytes, want at most %d", len(b), maxFile)
	}
	// The version first: another version may have other fields.
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Hash{}, none, err
	}
	if v.Version != fileVersion {
		return Hash{}, none, fmt.Errorf("version %d, want %d: another version of Parley wrote it", v.Version, fileVersion)
	}
	var f file
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return Hash{}, none, err
	}
	if f.User != User {
		return Hash{}, none, fmt.Errorf("user %.32q, want %q", f.User, User)
	}
	h, err := ParseHash(f.Hash)
	return h, f.Set, err
}

func encodeFile(h Hash, now time.Time) []byte {
	b, err := json.MarshalIndent(file{Version: fileVersion, User: User, Hash: h.String(), Set: now.UTC().Truncate(time.Second)}, "", "  ")
	if err != nil {
		panic(err) // strings and a time always encode
	}
	return append(b, '\n')
}

// Credential is the password in force.
type Credential struct {
	Hash      Hash
	Generated bool // not yet set by an administrator
	Set       time.Time
}

// Same reports whether both are the same credential: a login made with one is
// not good for another.
func (c Credential) Same(o Credential) bool { return c.Hash.String() == o.Hash.String() }

// ErrNone means that there is no credential yet: the serial console has not
// finished making one.
var ErrNone = errors.New("no password yet: the appliance is still starting")

// DamagedError means that an administrator's password was set but its file
// cannot be used. Nobody may then log in over the network; the terminals offer
// the generated password to set a new one.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("password file %s: %v", e.Path, e.Err) }

// Unwrap returns the reason.
func (e *DamagedError) Unwrap() error { return e.Err }

// Store reads and writes the two hash files.
type Store struct {
	Dir    string // of the password that was set, on /perm
	RunDir string // of the generated one, in RAM

	mu    sync.Mutex
	cache map[string]cached
}

type cached struct {
	info os.FileInfo
	hash Hash
	set  time.Time
	err  error
}

// NewStore returns the appliance's store.
func NewStore() *Store {
	return &Store{Dir: layout.CredentialDir, RunDir: layout.CredentialRunDir}
}

// Current returns the credential in force, ErrNone, or a *DamagedError. A file
// that has not changed is not read again.
func (s *Store) Current() (Credential, error) {
	path := filepath.Join(s.Dir, hashName)
	h, set, err := s.read(path)
	switch {
	case err == nil:
		return Credential{Hash: h, Set: set}, nil
	case errors.Is(err, fs.ErrNotExist):
		return s.Generated()
	}
	return Credential{}, &DamagedError{Path: path, Err: err}
}

// Generated returns the credential of the generated password, or ErrNone. It
// counts only while none is set; the terminals also take it when the one that
// was set is damaged.
func (s *Store) Generated() (Credential, error) {
	h, set, err := s.read(filepath.Join(s.RunDir, hashName))
	if err != nil {
		return Credential{}, ErrNone
	}
	return Credential{Hash: h, Generated: true, Set: set}, nil
}

// read does not trust the folder: each console may write there, and must not
// have the other one follow a link into what is its own, or wait for ever.
func (s *Store) read(path string) (Hash, time.Time, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Hash{}, time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.cache[path]; ok && os.SameFile(c.info, info) && c.info.ModTime().Equal(info.ModTime()) && c.info.Size() == info.Size() {
		return c.hash, c.set, c.err
	}
	f, err := durable.Open(path)
	if err != nil {
		return Hash{}, time.Time{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Hash{}, time.Time{}, err
	}
	h, set, err := parseFile(b)
	if s.cache == nil {
		s.cache = map[string]cached{}
	}
	s.cache[path] = cached{info, h, set, err}
	return h, set, err
}

// Set keeps the hash of a password that an administrator chose; it is in force
// from then on. A damaged file is kept beside it, and stays where it is until
// the new one replaces it: without any file, the generated password would count
// over the network too.
func (s *Store) Set(h Hash, now time.Time) error {
	path := filepath.Join(s.Dir, hashName)
	if _, _, err := s.read(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if err := keepDamaged(path); err != nil {
			return err
		}
	}
	return durable.WriteFile(path, encodeFile(h, now), 0o640)
}

// keepDamaged copies the beginning of a file; there is nothing to keep of one
// that cannot be read. (A hard link would need the file to be the own user's.)
func keepDamaged(path string) error {
	f, err := durable.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDamaged))
	if err != nil && len(b) == 0 {
		return nil
	}
	return durable.WriteFile(path+".damaged", b, 0o640)
}

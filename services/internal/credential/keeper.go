package credential

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/internal/durable"
)

const plainName = "password"

// Keeper holds the generated password's plaintext; only the serial console has
// one. The plaintext is in a file so that a restarted process shows the same
// password until the next boot.
type Keeper struct {
	Store  *Store
	Dir    string // the console's own folder in RAM
	Hasher *Hasher
	Random io.Reader

	mu     sync.Mutex
	plain  string
	hashed string // the plaintext whose hash is in the store
}

// NewKeeper returns the appliance's keeper.
func NewKeeper(s *Store, h *Hasher, random io.Reader) *Keeper {
	return &Keeper{Store: s, Dir: filepath.Join(layout.RunDir, "console-serial"), Hasher: h, Random: random}
}

// Plain returns the password to show, or "" when an administrator has set one.
func (k *Keeper) Plain() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.plain
}

// Load makes the password ready to be shown: while none is set, it is read or
// generated; afterwards what is left of it is deleted. It computes no hash and
// is cheap when nothing has changed.
func (k *Keeper) Load() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	path := filepath.Join(k.Dir, plainName)
	hash := filepath.Join(k.Store.RunDir, hashName)
	if c, err := k.Store.Current(); err == nil && !c.Generated {
		k.plain, k.hashed = "", ""
		return errors.Join(durable.Remove(path), durable.Remove(hash))
	}
	if k.plain != "" {
		return nil
	}
	b, err := os.ReadFile(path)
	switch s := strings.TrimSpace(string(b)); {
	case err == nil && isGenerated(s):
		k.plain = s
		// The hash was written after the plaintext, by the process before.
		if _, err := k.Store.Generated(); err == nil {
			k.hashed = s
		}
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("generated password: %w", err)
	}
	s, err := Generate(k.Random)
	if err != nil {
		return err
	}
	// A hash of a password that nobody knows any more must not count.
	if err := durable.Remove(hash); err != nil {
		return fmt.Errorf("generated password: %w", err)
	}
	if err := durable.WriteFile(path, []byte(s+"\n"), 0o600); err != nil {
		return fmt.Errorf("generated password: %w", err)
	}
	k.plain = s
	return nil
}

// Publish stores the hash of the password that Load made ready, if it is not
// stored yet. It takes as long as a hash does.
func (k *Keeper) Publish(ctx context.Context, now time.Time) error {
	k.mu.Lock()
	plain, done := k.plain, k.plain == k.hashed
	k.mu.Unlock()
	if done {
		return nil
	}
	h, err := k.Hasher.Hash(ctx, compact(plain))
	if err != nil {
		return fmt.Errorf("generated password: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.plain != plain {
		return nil // one was set meanwhile
	}
	if err := durable.WriteFile(filepath.Join(k.Store.RunDir, hashName), encodeFile(h, now), 0o640); err != nil {
		return fmt.Errorf("generated password: %w", err)
	}
	k.hashed = plain
	return nil
}

// Login returns the credential that the terminals take: the one in force, or
// the generated one when the one that was set is damaged.
func (k *Keeper) Login() (Credential, error) {
	c, err := k.Store.Current()
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return k.Store.Generated()
	}
	return c, err
}

// IsGenerated reports whether password is the generated one, which must not be
// set as the administrator's own: it was shown on the screen.
func (k *Keeper) IsGenerated(password string) bool {
	p := k.Plain()
	return p != "" && subtle.ConstantTimeCompare([]byte(compact(p)), []byte(compact(password))) == 1
}

// Shown reports whether password is the generated one that the screen shows, and
// is in force. It asks no file that another process could have put in the
// place of the generated password's hash: whoever reads the screen comes in.
func (k *Keeper) Shown(password string) bool {
	if c, err := k.Store.Current(); err == nil && !c.Generated {
		return false // one was set a moment ago
	}
	return k.IsGenerated(password)
}

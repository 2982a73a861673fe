// Package credential keeps the administrator's password: how it is generated,
// judged, hashed, stored and checked.
//
// Until an administrator sets one, a generated password is in force. Its
// plaintext is in a file of the serial console alone (Keeper); its hash is in a
// RAM folder that both consoles read (Store). A password that was set has its
// hash in a folder on /perm and ends the generated one.
//
//	              set by an administrator          generated
//	hash          layout.CredentialDir/admin.json  layout.CredentialRunDir/admin.json
//	plaintext     nowhere                          layout.RunDir/console-serial/password
//
// Hashes are argon2id (RFC 9106) in PHC string format. Plaintexts are never
// logged, and are in no argument or environment variable.
package credential

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of a new hash: OWASP's first choice for argon2id where memory is
// scarce (Password Storage Cheat Sheet: m=19456, t=2, p=1).
const (
	memoryKiB = 19 * 1024
	passes    = 2
	lanes     = 1
	saltSize  = 16
	sumSize   = 32
)

// What a stored hash may ask of this machine at most, so that a damaged file
// cannot take its memory.
const (
	maxMemoryKiB = 64 * 1024
	maxPasses    = 16
	maxLanes     = 4
	maxPHC       = 512 // bytes
)

// Hash is an argon2id hash with its parameters.
type Hash struct {
	memory, passes uint32 // KiB, count
	lanes          uint8
	salt, sum      []byte
}

// ParseHash reads the PHC string format,
// $argon2id$v=19$m=19456,t=2,p=1$SALT$SUM with unpadded base64.
func ParseHash(s string) (Hash, error) {
	if len(s) > maxPHC {
		return Hash{}, fmt.Errorf("password hash: %d bytes, want at most %d", len(s), maxPHC)
	}
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" {
		return Hash{}, fmt.Errorf("password hash: want $argon2id$v=19$m=…,t=…,p=…$SALT$SUM")
	}
	if f[1] != "argon2id" {
		return Hash{}, fmt.Errorf("password hash: algorithm %.32q, want argon2id", f[1])
	}
	if f[2] != "v=19" {
		return Hash{}, fmt.Errorf("password hash: %.32q, want v=19", f[2])
	}
	p := strings.Split(f[3], ",")
	if len(p) != 3 {
		return Hash{}, fmt.Errorf("password hash: parameters %.64q, want m=…,t=…,p=…", f[3])
	}
	m, err := parameter(p[0], "m=", 8, maxMemoryKiB)
	if err != nil {
		return Hash{}, err
	}
	t, err := parameter(p[1], "t=", 1, maxPasses)
	if err != nil {
		return Hash{}, err
	}
	l, err := parameter(p[2], "p=", 1, maxLanes)
	if err != nil {
		return Hash{}, err
	}
	h := Hash{memory: m, passes: t, lanes: uint8(l)}
	if h.salt, err = field(f[4], "salt", 8); err != nil {
		return Hash{}, err
	}
	if h.sum, err = field(f[5], "sum", 16); err != nil {
		return Hash{}, err
	}
	return h, nil
}

func parameter(s, prefix string, lowest, highest uint32) (uint32, error) {
	digits, ok := strings.CutPrefix(s, prefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || uint32(n) < lowest || uint32(n) > highest || strconv.FormatUint(n, 10) != digits {
		return 0, fmt.Errorf("password hash: parameter %.32q, want %sN with N from %d to %d", s, prefix, lowest, highest)
	}
	return uint32(n), nil
}

func field(s, name string, lowest int) ([]byte, error) {
	// The decoder would leave them out, even a strict one.
	if strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("password hash: %s has a line break", name)
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("password hash: %s: %w", name, err)
	}
	if len(b) < lowest || len(b) > 64 {
		return nil, fmt.Errorf("password hash: %s of %d bytes, want %d to 64", name, len(b), lowest)
	}
	return b, nil
}

// String returns the PHC string.
func (h Hash) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", h.memory, h.passes, h.lanes,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.sum))
}

func (h Hash) derive(password string) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.sum)))
}

// ErrBusy means that too many passwords wait to be checked.
var ErrBusy = errors.New("too many logins at once: try again in a few seconds")

// Hasher computes one hash at a time, because each takes 19 MiB and tens of
// milliseconds (a second under emulation).
type Hasher struct {
	turn  chan struct{} // holds a token while one computes
	queue chan struct{} // holds a token for each caller
}

// NewHasher lets at most waiting callers wait for the one that computes.
func NewHasher(waiting int) *Hasher {
	return &Hasher{turn: make(chan struct{}, 1), queue: make(chan struct{}, 1+waiting)}
}

func (h *Hasher) run(ctx context.Context, f func()) error {
	select {
	case h.queue <- struct{}{}:
	default:
		return ErrBusy // the newest is turned away: those before it are nearly done
	}
	defer func() { <-h.queue }()
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.turn }()
	f()
	// The 19 MiB would stay resident until the next collection, which an idle
	// console does not reach for minutes.
	debug.FreeOSMemory()
	return nil
}

// Hash hashes a new password.
func (h *Hasher) Hash(ctx context.Context, password string) (Hash, error) {
	n := Hash{memory: memoryKiB, passes: passes, lanes: lanes, salt: make([]byte, saltSize), sum: make([]byte, sumSize)}
	rand.Read(n.salt)
	err := h.run(ctx, func() { n.sum = n.derive(password) })
	return n, err
}

// Verify reports whether the credential's password is password, in a time that
// does not depend on either.
func (h *Hasher) Verify(ctx context.Context, c Credential, password string) (bool, error) {
	if c.Generated {
		password = compact(password)
	}
	same := false
	err := h.run(ctx, func() {
		same = subtle.ConstantTimeCompare(c.Hash.derive(password), c.Hash.sum) == 1
	})
	return same, err
}

// Decoy returns a credential that no password fits and whose check costs as much
// as that of a new hash: for names that nobody has.
func Decoy() Credential {
	h := Hash{memory: memoryKiB, passes: passes, lanes: lanes, salt: make([]byte, saltSize), sum: make([]byte, sumSize)}
	rand.Read(h.salt)
	rand.Read(h.sum)
	return Credential{Hash: h}
}

package console

import (
	"crypto/rand"
	"log/slog"
	"os"

	"github.com/parley-meet/parley/internal/durable"
)

// reserveSize is what setting passwords and accounts needs on a full disk, and
// far more.
const reserveSize = 64 << 10

// reserve is a file that is there to be removed: with its blocks and its inode
// the terminals can still set a password when another process has filled the
// disk.
type reserve struct {
	path string
	log  *slog.Logger
}

// fill puts the space by, unless it is. Random bytes are not stored as a hole.
func (r *reserve) fill() {
	if info, err := os.Lstat(r.path); err == nil && info.Size() == reserveSize {
		return
	}
	b := make([]byte, reserveSize)
	rand.Read(b)
	if err := durable.WriteFile(r.path, b, 0o600); err != nil {
		r.log.Warn("no space is put by for a full disk", "error", err)
	}
}

// Free gives the space back, once.
func (r *reserve) Free() bool {
	if _, err := os.Lstat(r.path); err != nil {
		return false
	}
	return durable.Remove(r.path) == nil
}

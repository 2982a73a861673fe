// Package identity remembers which machine the disk was used with, by the UUID
// that the hypervisor gives it (SMBIOS type 1, DSP0134 7.2.1), and notices that it
// is another one now: the machine may be a copy, and two appliances must not use
// one identity.
//
// Limits: a snapshot that is reverted keeps its UUID, so it is not noticed. The
// hypervisor's generation ID would tell, but needs a driver that this
// appliance's kernel is built without. A machine without a UUID is never asked
// about.
package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/statefile"
)

const version = 1

type file struct {
	Version int    `json:"version"`
	UUID    string `json:"uuid"`
	// Pending is another machine about which nobody has said what it is.
	Pending *pending `json:"pending,omitempty"`
}

type pending struct {
	UUID  string    `json:"uuid"`
	Since time.Time `json:"since"`
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// UUID returns the machine's UUID in lower case, "" when it has none that tells
// it from others. sys is /sys.
func UUID(sys string) (string, error) {
	path := filepath.Join(sys, "class/dmi/id/product_uuid")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	id := strings.ToLower(strings.TrimSpace(string(b)))
	switch {
	case id == "":
		return "", nil
	case !uuidForm.MatchString(id):
		return "", fmt.Errorf("%s: %.60q is no UUID", path, b)
	case known(id):
		return "", nil
	}
	return id, nil
}

// known are UUIDs that say nothing: one digit throughout, and those that vendors
// of boards left in.
func known(id string) bool {
	digits := strings.ReplaceAll(id, "-", "")
	switch digits {
	case "03000200040005000006000700080009", "12345678123456781234567890abcdef":
		return true
	}
	return strings.Trim(digits, digits[:1]) == ""
}

// Keeper remembers. Its methods may be called from several goroutines.
type Keeper struct {
	path string

	mu      sync.Mutex
	now     string
	machine control.Machine
	bad     bool // the file cannot be read
}

// Open compares the machine with the file at path. The first machine is
// remembered, and another one with the time at which it was seen first, unless
// nothing can be kept. An error says what the file or its writing lacks; the
// Keeper is there all the same.
func Open(path, uuid string, writable bool, at time.Time) (*Keeper, error) {
	k := &Keeper{path: path, now: uuid}
	return k, k.Compare(writable, at)
}

// Compare does what Open does once more: another file system is there.
func (k *Keeper) Compare(writable bool, at time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.machine, k.bad = control.Machine{}, false
	path, uuid := k.path, k.now
	var f file
	found, err := statefile.Load(path, version, &f)
	if err == nil && found && (!uuidForm.MatchString(f.UUID) || f.Pending != nil && !uuidForm.MatchString(f.Pending.UUID)) {
		err = fmt.Errorf("%s: UUID %.60q: want one", path, f.UUID)
	}
	if err != nil {
		k.bad = true
		return err
	}
	before := f.Pending
	switch {
	case uuid == "":
		return nil
	case !found:
		f = file{Version: version, UUID: uuid}
	case f.UUID == uuid && before == nil:
		return nil
	case f.UUID == uuid: // back again before somebody answered
		f.Pending = nil
	default:
		if before == nil || before.UUID != uuid {
			f.Pending = &pending{uuid, at.UTC().Truncate(time.Second)}
		}
		k.machine = control.Machine{Changed: true, Why: "uuid", Was: f.UUID, Now: uuid, Since: f.Pending.Since}
	}
	if !writable || found && f.Pending != nil && f.Pending == before {
		return nil
	}
	return statefile.Save(path, f)
}

// Machine returns the state.
func (k *Keeper) Machine() control.Machine {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.machine
}

// Asks reports whether an answer is awaited, or would make a file that cannot be
// read anew.
func (k *Keeper) Asks() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.machine.Changed || k.bad && k.now != ""
}

// Remember takes this machine for the one that the disk belongs to.
func (k *Keeper) Remember() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := statefile.Save(k.path, file{Version: version, UUID: k.now}); err != nil {
		return err
	}
	k.machine, k.bad = control.Machine{}, false
	return nil
}

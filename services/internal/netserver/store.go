package netserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Files beside netconfig.ConfigFile.
const (
	// NoteFile says that a change is in force which nobody has confirmed.
	NoteFile = "network-pending.json"
	// DamagedFile is a netconfig.ConfigFile that could not be read.
	DamagedFile = netconfig.ConfigFile + ".damaged"
)

const (
	noteVersion = 1
	maxNote     = netconfig.MaxConfigSize + 4<<10
)

// note is the content of NoteFile.
type note struct {
	Version int              `json:"version"`
	ID      string           `json:"id"`
	By      string           `json:"by"`
	Config  netconfig.Config `json:"config"`
}

// store keeps the configuration in a folder.
type store struct{ dir string }

func (s store) path(name string) string { return filepath.Join(s.dir, name) }

// load returns the saved configuration. An error says that the default one
// stands in for one that cannot be read; that was kept in DamagedFile.
func (s store) load() (netconfig.Config, error) {
	path := s.path(netconfig.ConfigFile)
	cfg, err := netconfig.LoadConfig(path)
	if errors.Is(err, fs.ErrNotExist) {
		return netconfig.DefaultConfig(), nil
	}
	if err == nil {
		return cfg, nil
	}
	// The next set overwrites it: whoever wants to know what it said has the copy.
	if b, rerr := netconfig.ReadFile(path, 4*netconfig.MaxConfigSize); rerr != nil {
		err = errors.Join(err, rerr)
	} else if werr := durable.WriteFile(s.path(DamagedFile), b, 0o640); werr != nil {
		err = errors.Join(err, werr)
	}
	return netconfig.DefaultConfig(), err
}

// save replaces the saved configuration. Where only the last step failed the
// new one is in the folder, and counts: a restart would find it.
func (s store) save(cfg netconfig.Config) error {
	path := s.path(netconfig.ConfigFile)
	err := netconfig.SaveConfig(path, cfg)
	if err == nil {
		return nil
	}
	if there, lerr := netconfig.LoadConfig(path); lerr == nil && same(there, cfg) {
		return nil
	}
	return err
}

// writeNote notes a change before it is applied.
func (s store) writeNote(n note) error {
	n.Version = noteVersion
	b, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.path(NoteFile), append(b, '\n'), 0o640)
}

func (s store) removeNote() error { return durable.Remove(s.path(NoteFile)) }

// readNote returns the change that was pending when the last process ended; nil
// when there was none. A note that cannot be read is one all the same.
func (s store) readNote() (*note, error) {
	b, err := netconfig.ReadFile(s.path(NoteFile), maxNote)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return &note{}, err
	}
	return parseNote(b)
}

func parseNote(b []byte) (*note, error) {
	var n note
	if err := netconfig.DecodeVersion(b, noteVersion, maxNote, &n); err != nil {
		return &note{}, fmt.Errorf("%s: %w", NoteFile, err)
	}
	return &n, nil
}

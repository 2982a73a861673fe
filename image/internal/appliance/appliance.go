// Package appliance keeps appliance.json: what an operator made of this
// machine. Version 1 holds its role alone.
//
// The file is read strictly: another version, an unknown field or a bad value is
// an error, and the caller goes on with the defaults of config.json. It is never
// half-read.
package appliance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/internal/durable"
)

// Version is the version of the file that this package reads and writes.
const Version = 1

// maxSize is the longest file in bytes.
const maxSize = 64 << 10

// State is the content.
type State struct {
	Version int    `json:"version"`
	Role    string `json:"role"`
}

// Parse reads the content of the file.
func Parse(b []byte) (*State, error) {
	if len(b) > maxSize {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(b), maxSize)
	}
	// The version is read first and alone: fields of another version mean nothing.
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	if v.Version != Version {
		return nil, fmt.Errorf("version %d, want %d: it was written by another release", v.Version, Version)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var s State
	if err := dec.Decode(&s); err != nil {
		return nil, err
	}
	if !ValidRole(s.Role) {
		return nil, fmt.Errorf("role %q: want %q or %q", s.Role, config.RoleController, config.RoleRouter)
	}
	return &s, nil
}

// ValidRole reports whether there is such a role.
func ValidRole(r string) bool { return r == config.RoleController || r == config.RoleRouter }

// Load reads the file. Without one it returns nil and no error.
func Load(path string) (*State, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	s, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// SetRole writes the file.
func SetRole(path, role string) error {
	if !ValidRole(role) {
		return fmt.Errorf("role %q: want %q or %q", role, config.RoleController, config.RoleRouter)
	}
	b, err := json.Marshal(State{Version: Version, Role: role})
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(b, '\n'), 0o644)
}

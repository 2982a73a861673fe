// Package appliance keeps appliance.json: what an operator made of this
// machine. Version 1 holds its role alone.
//
// The file is read strictly: another version, an unknown field or a bad value is
// an error, and the caller goes on with the defaults of config.json. It is never
// half-read.
package appliance

import (
	"fmt"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/internal/statefile"
)

// Version is the version of the file that this package reads and writes.
const Version = 1

// State is the content.
type State struct {
	Version int    `json:"version"`
	Role    string `json:"role"`
}

// Parse reads the content of the file.
func Parse(b []byte) (*State, error) {
	var s State
	if err := statefile.Parse(b, Version, &s); err != nil {
		return nil, err
	}
	return s.checked()
}

func (s *State) checked() (*State, error) {
	if !ValidRole(s.Role) {
		return nil, wrongRole(s.Role)
	}
	return s, nil
}

// ValidRole reports whether there is such a role.
func ValidRole(r string) bool {
	return r == config.RoleController || r == config.RoleRouter || r == config.RolePortal
}

func wrongRole(r string) error {
	return fmt.Errorf("role %q: want %q, %q or %q", r, config.RoleController, config.RoleRouter, config.RolePortal)
}

// Load reads the file. Without one it returns nil and no error.
func Load(path string) (*State, error) {
	var s State
	found, err := statefile.Load(path, Version, &s)
	if err != nil || !found {
		return nil, err
	}
	st, err := s.checked()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return st, nil
}

// SetRole writes the file.
func SetRole(path, role string) error {
	if !ValidRole(role) {
		return wrongRole(role)
	}
	return statefile.Save(path, State{Version: Version, Role: role})
}

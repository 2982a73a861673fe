// Package statefile reads and writes PID 1's small files on /perm: an object of
// JSON with a field version. Reading is strict, so that a file is never half
// understood: another version, an unknown field or a second value is an error.
// Writing is atomic and durable.
package statefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/parley-meet/parley/internal/durable"
)

// maxSize is the longest file in bytes.
const maxSize = 64 << 10

// Load reads the file at path into v, which has a field for the version. It
// reports whether there is one.
func Load(path string, version int, v any) (found bool, err error) {
	f, err := durable.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil {
		err = Parse(b, version, v)
	}
	if err != nil {
		return true, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

// Parse reads the content of a file. On an error v is undefined.
func Parse(b []byte, version int, v any) error {
	if len(b) > maxSize {
		return fmt.Errorf("longer than %d bytes", maxSize)
	}
	// The version is read first and alone: fields of another version mean nothing.
	var only struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &only); err != nil {
		return err
	}
	if only.Version != version {
		return fmt.Errorf("version %d, want %d: it was written by another release", only.Version, version)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// Save replaces the file; root alone may read it.
func Save(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(b, '\n'), 0o600)
}

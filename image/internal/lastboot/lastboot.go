// Package lastboot tells how the boot before this one ended. Two files in PID
// 1's log folder on /perm say it:
//
//	boot.json   "running" from early in a boot on, "clean" at an orderly end
//	panic       what PID 1 wrote when it panicked; moved to panic.old when told
package lastboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/parley-meet/parley/internal/durable"
)

// Version is the version of boot.json.
const Version = 1

// PanicFile is the name of the panic report in the folder.
const PanicFile = "panic"

// maxPanic is how much of a panic report is read, in bytes.
const maxPanic = 64 << 10

// States of a boot.
const (
	running = "running"
	clean   = "clean"
)

type mark struct {
	Version int    `json:"version"`
	BootID  string `json:"bootID"` // the kernel's random_boot_id
	State   string `json:"state"`
}

// Mark writes boot.json in the folder: orderly is false while the system runs,
// and true as the last thing before it ends.
func Mark(dir, bootID string, orderly bool) error {
	m := mark{Version: Version, BootID: bootID, State: running}
	if orderly {
		m.State = clean
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, "boot.json"), append(b, '\n'), 0o600)
}

// Read returns one line about how the last boot ended, "" when that was in order
// or there was none, and the whole panic report when there is one.
func Read(dir, bootID string) (line, report string, err error) {
	report, err = readPanic(filepath.Join(dir, PanicFile))
	if err != nil {
		return "", "", err
	}
	if report != "" {
		return "PID 1 panicked: " + firstLine(report), report, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, "boot.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	return judge(b, bootID), "", nil
}

func judge(b []byte, bootID string) string {
	var m mark
	err := json.Unmarshal(b, &m)
	switch {
	case err != nil:
		return fmt.Sprintf("how the last boot ended is not known: boot.json: %v", err)
	case m.Version != Version:
		return fmt.Sprintf("how the last boot ended is not known: boot.json has version %d, want %d", m.Version, Version)
	case m.State == clean, m.BootID == bootID:
		return ""
	}
	return "the last boot ended without an orderly shutdown (power loss, reset or kernel panic)"
}

// Told moves a panic report aside so that it is told once. An empty one, which a
// boot without a panic leaves, does not take the place of the last that said
// something.
func Told(dir string) error {
	p := filepath.Join(dir, PanicFile)
	fi, err := os.Stat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Size() == 0:
		return nil
	}
	return os.Rename(p, p+".old")
}

func readPanic(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPanic))
	return strings.TrimSpace(string(b)), err
}

// firstLine returns the first line, with what a terminal must not see replaced.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > 300 {
		s = s[:300]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

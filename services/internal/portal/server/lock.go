package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lock keeps a second portal off a database of SQLite: instances tell each other
// of changes through PostgreSQL alone. The lock is a flock of a file beside the
// database, so it ends with the process, however that ends. It says who has it.
// Commands that do one transaction need no lock. Of PostgreSQL nothing is locked.
func lock(database string) (free func(), err error) {
	path, ok := strings.CutPrefix(database, "sqlite:")
	if !ok || path == "" {
		return func() {}, nil
	}
	// One file under two names is one database.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer f.Close()
		b := make([]byte, 20)
		n, _ := io.ReadFull(f, b)
		who, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
		if err != nil {
			who = 0 // it is just being written
		}
		return nil, fmt.Errorf("database %s: another portal runs on it (process %d): stop that one, or give this one another folder; several instances need PostgreSQL", path, who)
	}
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = fmt.Fprintln(f, os.Getpid())
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("database %s: lock %s: %w", path, f.Name(), err)
	}
	return func() { f.Close() }, nil
}

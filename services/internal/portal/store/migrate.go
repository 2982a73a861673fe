package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// NewerError means that a newer version of the portal has changed the database.
type NewerError struct{ Have, Know int }

func (e *NewerError) Error() string {
	return fmt.Sprintf("the database has schema version %d, and this version of the portal knows up to %d: start the newer portal again, or restore a backup from before the upgrade", e.Have, e.Know)
}

// migration is a step of the schema.
type migration struct {
	version int
	name    string
	sql     string
}

// migrations returns the steps in their order: files NNNN_NAME.sql, counted from
// 1 without a gap. Statements end with ";" at the end of a line.
func migrations() ([]migration, error) {
	list, err := fs.ReadDir(migrationFiles, "migrations")
	if err != nil {
		return nil, err
	}
	var out []migration
	for i, e := range list {
		number, name, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".sql"), "_")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n != i+1 {
			return nil, fmt.Errorf("migrations/%s: want the number %04d", e.Name(), i+1)
		}
		b, err := fs.ReadFile(migrationFiles, "migrations/"+e.Name())
		if err != nil {
			return nil, err
		}
		out = append(out, migration{n, name, string(b)})
	}
	return out, nil
}

// SchemaVersion is the version of the schema that this program brings a database
// to.
func SchemaVersion() int {
	list, err := migrations()
	if err != nil {
		panic(err) // a test has read them
	}
	return len(list)
}

// statements splits a file for the database.
func (db *DB) statements(text string) []string {
	blob := "BLOB"
	if db.kind == Postgres {
		blob = "BYTEA"
	}
	text = strings.ReplaceAll(text, "{{blob}}", blob)
	var out []string
	for _, s := range strings.Split(text, ";\n") {
		var lines []string
		for _, l := range strings.Split(s, "\n") {
			if t := strings.TrimSpace(l); t != "" && !strings.HasPrefix(t, "--") {
				lines = append(lines, l)
			}
		}
		if len(lines) > 0 {
			out = append(out, strings.Join(lines, "\n"))
		}
	}
	return out
}

// migrateLimit is how long an instance waits for another one that migrates.
const migrateLimit = 2 * time.Minute

// migrate brings the schema to a version, each step in a transaction; several
// instances that start at once wait for each other.
func (db *DB) migrate(ctx context.Context, version int) error {
	ctx, cancel := context.WithTimeout(ctx, migrateLimit)
	defer cancel()
	list, err := migrations()
	if err != nil {
		return err
	}
	if version < 0 || version > len(list) {
		return fmt.Errorf("schema version %d, want at most %d", version, len(list))
	}
	list = list[:version]
	if db.kind == Postgres {
		// The lock is a connection's, not a transaction's: one that waits inside has
		// its view of the database from before.
		conn, err := db.write.Conn(ctx)
		if err != nil {
			return fmt.Errorf("database: %w", hideURL(err))
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock(20260, 4)"); err != nil {
			return fmt.Errorf("wait for another instance that changes the schema: %w", err)
		}
		defer conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(20260, 4)")
	}
	for {
		done := false
		err := db.Write(ctx, func(tx *Tx) error {
			have, err := db.version(tx)
			if err != nil {
				return err
			}
			if have > len(list) {
				return &NewerError{have, len(list)}
			}
			if done = have == len(list); done {
				return nil
			}
			m := list[have]
			for _, s := range db.statements(m.sql) {
				if _, err := tx.Exec(s); err != nil {
					return fmt.Errorf("%.60q: %w", s, err)
				}
			}
			_, err = tx.Exec("UPDATE schema_version SET version = ?", m.version)
			return err
		})
		var newer *NewerError
		switch {
		case errors.As(err, &newer):
			return err
		case err != nil:
			return fmt.Errorf("database schema: %w", err)
		case done:
			return nil
		}
	}
}

// version returns the schema's version.
func (db *DB) version(tx *Tx) (int, error) {
	if _, err := tx.Exec("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)"); err != nil {
		return 0, err
	}
	var v int
	err := tx.Row("SELECT version FROM schema_version").Scan(&v)
	if errors.Is(err, ErrNotFound) {
		_, err = tx.Exec("INSERT INTO schema_version (version) VALUES (0)")
	}
	return v, err
}

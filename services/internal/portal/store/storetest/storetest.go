// Package storetest gives tests a fresh database of each kind that the portal
// runs on.
package storetest

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/parley-meet/parley/internal/judge"
)

var (
	mu     sync.Mutex
	shared *judge.Postgres
	number atomic.Int64
)

// server returns the PostgreSQL server of the test's process. The test is skipped
// where it is not installed, and fails in CI.
func server(t testing.TB) *judge.Postgres {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if shared == nil {
		shared = judge.NewPostgres(t)
	}
	return shared
}

// SQLite returns the URL of a database that is not there yet.
func SQLite(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "portal.db") }

// Postgres returns the URL of an empty database, which goes when the test ends.
// All of a test binary are on one server.
func Postgres(t testing.TB) string {
	t.Helper()
	return On(t, server(t))
}

// On is Postgres on a server of the test's own, which it may kill.
func On(t testing.TB, p *judge.Postgres) string {
	t.Helper()
	name := fmt.Sprintf("t%d", number.Add(1))
	p.SQL(t, "postgres", "CREATE DATABASE "+name)
	t.Cleanup(func() { p.SQL(t, "postgres", "DROP DATABASE "+name+" WITH (FORCE)") })
	return p.URL(name)
}

// Each runs a test on both kinds of database; url is of an empty one.
func Each(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, Postgres(t)) })
}

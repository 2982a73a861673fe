package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/judge"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// open opens a database that is closed when the test ends.
func open(t *testing.T, url string) *DB {
	t.Helper()
	db, err := Open(t.Context(), url, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// next waits for a note.
func next(t *testing.T, s *Subscription) Note {
	t.Helper()
	select {
	case n := <-s.C:
		return n
	case <-time.After(30 * time.Second):
		t.Fatal("no note")
		return Note{}
	}
}

// A path is a path, whatever is in it.
func TestPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b%20#.db")
	open(t, "sqlite:"+path)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestWrite(t *testing.T) { storetest.Each(t, testWrite) }

// Text that a database would not take is taken, and is found by nothing else.
func TestText(t *testing.T) { storetest.Each(t, testText) }

func testText(t *testing.T, url string) {
	type named string
	db := open(t, url)
	for i, bad := range []any{"a\x00b", "\x00", "a\xffb", "\xc0\xaf", named("a\x00b"), "\xed\xa0\x80"} {
		if err := db.Write(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec("INSERT INTO settings (name, value) VALUES (?, ?)", bad, []byte{0, 255})
			return err
		}); err != nil && !errors.Is(err, ErrConflict) {
			t.Errorf("%d: %v", i, err)
		}
		var name string
		var value []byte
		if err := db.Read(t.Context(), func(tx *Tx) error {
			return tx.Row("SELECT name, value FROM settings WHERE name = ?", bad).Scan(&name, &value)
		}); err != nil || !strings.Contains(name, "\ufffd") || string(value) != "\x00\xff" {
			t.Errorf("%d: %q %q %v", i, name, value, err)
		}
	}
	if err := db.Read(t.Context(), func(tx *Tx) error {
		var name string
		return tx.Row("SELECT name FROM settings WHERE name = ?", "a").Scan(&name)
	}); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func testWrite(t *testing.T, url string) {
	db := open(t, url)
	sub := db.Subscribe("a")
	defer sub.Close()
	set := func(value string) error {
		return db.Write(t.Context(), func(tx *Tx) error {
			tx.Notify("a", value)
			_, err := tx.Exec("INSERT INTO settings (name, value) VALUES (?, ?)", "x", []byte(value))
			return err
		})
	}
	if err := set("1"); err != nil {
		t.Fatal(err)
	}
	if err := set("2"); !errors.Is(err, ErrConflict) {
		t.Errorf("%v, want ErrConflict", err)
	}
	if n := next(t, sub); n != (Note{"a", "1"}) {
		t.Errorf("%v", n)
	}
	if len(sub.C) > 0 {
		t.Errorf("a note of what was rolled back: %v", <-sub.C)
	}
	var got []byte
	if err := db.Read(t.Context(), func(tx *Tx) error {
		return tx.Row("SELECT value FROM settings WHERE name = ?", "x").Scan(&got)
	}); err != nil || string(got) != "1" {
		t.Errorf("%q %v", got, err)
	}
	if err := db.Read(t.Context(), func(tx *Tx) error {
		return tx.Row("SELECT value FROM settings WHERE name = ?", "y").Scan(&got)
	}); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v, want ErrNotFound", err)
	}
}

func TestNewerSchema(t *testing.T) { storetest.Each(t, testNewerSchema) }

func testNewerSchema(t *testing.T, url string) {
	db := open(t, url)
	if err := db.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("UPDATE schema_version SET version = version + 1")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	db.Close()
	var newer *NewerError
	if _, err := Open(t.Context(), url, nil); !errors.As(err, &newer) {
		t.Errorf("%v, want a NewerError", err)
	}
}

func TestNewID(t *testing.T) {
	a := NewID()
	time.Sleep(2 * time.Millisecond)
	if b := NewID(); len(a) != 26 || a >= b {
		t.Errorf("%q %q", a, b)
	}
}

// Several instances that start at once on an empty database.
func TestStartAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, url string) {
		errs := make(chan error)
		for range 6 {
			go func() {
				db, err := Open(t.Context(), url, nil)
				if err == nil {
					err = db.Close()
				}
				errs <- err
			}()
		}
		for range 6 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		db := open(t, url)
		var n, version int
		if err := db.Read(t.Context(), func(tx *Tx) error {
			return tx.Row("SELECT COUNT(*), MAX(version) FROM schema_version").Scan(&n, &version)
		}); err != nil || n != 1 || version != SchemaVersion() {
			t.Errorf("%d rows, version %d: %v", n, version, err)
		}
	})
}

// From each version that there was, the schema comes to be the same.
func TestMigrateFromEach(t *testing.T) {
	list, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	storetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		for from := range list {
			if err := db.Write(t.Context(), func(tx *Tx) error {
				names, err := tx.Tables()
				if err != nil {
					return err
				}
				for _, name := range append(names, "schema_version") {
					drop := "DROP TABLE " + name
					if tx.Kind() == Postgres {
						drop += " CASCADE"
					}
					if _, err := tx.Exec(drop); err != nil {
						return err
					}
				}
				if _, err := db.version(tx); err != nil {
					return err
				}
				for _, m := range list[:from] {
					for _, s := range db.statements(m.sql) {
						if _, err := tx.Exec(s); err != nil {
							return err
						}
					}
				}
				_, err = tx.Exec("UPDATE schema_version SET version = ?", from)
				return err
			}); err != nil {
				t.Fatalf("version %d: %v", from, err)
			}
			if err := db.migrate(t.Context(), len(list)); err != nil {
				t.Errorf("from version %d: %v", from, err)
			}
		}
	})
}

// Transactions that get in each other's way are repeated until none is lost.
func TestConflicts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		const writers, each = 4, 10
		if err := db.Write(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec("INSERT INTO settings (name, value) VALUES ('n', ?)", []byte("0"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		errs := make(chan error)
		for range writers {
			go func() {
				for range each {
					if err := db.Write(t.Context(), func(tx *Tx) error {
						var value []byte
						if err := tx.Row("SELECT value FROM settings WHERE name = 'n'").Scan(&value); err != nil {
							return err
						}
						n, err := strconv.Atoi(string(value))
						if err != nil {
							return err
						}
						_, err = tx.Exec("UPDATE settings SET value = ? WHERE name = 'n'", fmt.Append(nil, n+1))
						return err
					}); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		for range writers {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		var got []byte
		if err := db.Read(t.Context(), func(tx *Tx) error {
			return tx.Row("SELECT value FROM settings WHERE name = 'n'").Scan(&got)
		}); err != nil || string(got) != strconv.Itoa(writers*each) {
			t.Errorf("counted %s, want %d: %v", got, writers*each, err)
		}
	})
}

// Who reads waits for no writer, and sees nothing of what is under way.
func TestReadersGoOn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		err := db.Write(t.Context(), func(tx *Tx) error {
			if _, err := tx.Exec("INSERT INTO settings (name, value) VALUES ('a', ?)", []byte{1}); err != nil {
				return err
			}
			var n int
			if err := db.Read(t.Context(), func(tx *Tx) error { return tx.Row("SELECT COUNT(*) FROM settings").Scan(&n) }); err != nil || n != 0 {
				return fmt.Errorf("a reader sees %d rows: %w", n, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if err := db.Read(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec("INSERT INTO settings (name, value) VALUES ('b', ?)", []byte{1})
			return err
		}); err == nil {
			t.Error("a reader has written")
		}
	})
}

// Whoever is slow learns that he has missed something.
func TestSlowSubscriber(t *testing.T) {
	b := &bus{subs: map[*Subscription]bool{}}
	db := &DB{bus: b}
	slow, other := db.Subscribe("a"), db.Subscribe("a")
	for i := range subscriptionSize + 3 {
		b.deliver(Note{"a", fmt.Sprint(i)})
		if n := <-other.C; n.Topic != "a" {
			t.Fatalf("who is quick got %v", n)
		}
	}
	var last Note
	for range subscriptionSize {
		last = <-slow.C
	}
	if last.Topic != TopicAll || len(slow.C) != 0 {
		t.Errorf("the last note is %v, and %d wait", last, len(slow.C))
	}
}

// After the server was killed the instances listen again, and are told that they
// have missed something.
func TestListenAgain(t *testing.T) {
	server := judge.NewPostgres(t)
	url := storetest.On(t, server)
	one, two := open(t, url), open(t, url)
	sub := one.Subscribe("a")
	defer sub.Close()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if n := next(t, sub); n.Topic != TopicAll {
		t.Errorf("%v", n)
	}
	if err := two.Write(t.Context(), func(tx *Tx) error { tx.Notify("a", "x"); return nil }); err != nil {
		t.Fatal(err)
	}
	if n := next(t, sub); n != (Note{"a", "x"}) {
		t.Errorf("%v", n)
	}
}

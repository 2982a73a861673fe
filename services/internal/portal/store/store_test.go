package store

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func TestWrite(t *testing.T) {
	db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "a?b%20#.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
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
	select {
	case n := <-sub.C:
		if n != (Note{"a", "1"}) {
			t.Errorf("%v", n)
		}
	case <-time.After(5 * time.Second):
		t.Error("no note")
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

func TestNewerSchema(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "db")
	db, err := Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
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

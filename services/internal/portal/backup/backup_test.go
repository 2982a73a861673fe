package backup

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

var moment = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// filled returns a database with rows that refer to each other, in an order that
// is not the one of the tables.
func filled(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Write(context.Background(), func(tx *store.Tx) error {
		for i := range 20 {
			a, err := people.InsertAccount(tx, people.Account{Name: fmt.Sprintf("Ünïcode \" \\ \u2028 %d", i), Type: "business", DefaultKind: people.KindBasic})
			if err != nil {
				return err
			}
			if _, err := people.InsertUser(tx, people.User{Account: a.ID, Email: fmt.Sprintf("a%d@b.example", i), Name: "Ж<>&", Role: people.Owner, State: people.Active, Operator: i == 3}); err != nil {
				return err
			}
			if _, err := tx.Exec("INSERT INTO settings (name, value) VALUES (?, ?)", fmt.Sprint("s", i), []byte{0, byte(i), 255}); err != nil {
				return err
			}
		}
		// The first account is below the last: rows come before what they refer to.
		_, err := tx.Exec("UPDATE accounts SET parent_id = (SELECT MAX(id) FROM accounts) WHERE id = (SELECT MIN(id) FROM accounts)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return db
}

// rows returns all rows, sorted, as a file has them.
func rows(t testing.TB, db *store.DB) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := Write(context.Background(), db, &b, "test", moment); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	table := ""
	counts := map[string]int{}
	if _, _, err := Read(&b, func(name string, c []store.Column) error { table = fmt.Sprint(name, c); return nil }, func(r []any) error {
		counts[fmt.Sprintf("%s %#v", table, r)]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(&out, counts) // fmt sorts maps
	return out.String()
}

// A backup of either kind comes back in either kind, every row.
func TestRestore(t *testing.T) {
	storetest.Each(t, func(t *testing.T, from string) {
		db := filled(t, from)
		var file bytes.Buffer
		n, err := Write(t.Context(), db, &file, "1.2.3", moment)
		if err != nil || n < 60 {
			t.Fatalf("%d rows, %v", n, err)
		}
		storetest.Each(t, func(t *testing.T, to string) {
			h, m, err := Restore(t.Context(), bytes.NewReader(file.Bytes()), to, nil)
			if err != nil || m != n || h.Portal != "1.2.3" || !h.At.Equal(moment) {
				t.Fatalf("%+v, %d rows of %d: %v", h, m, n, err)
			}
			again, err := store.Open(t.Context(), to, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if rows(t, again) != rows(t, db) {
				t.Error("the rows differ")
			}
			// What refers to nothing is refused again.
			if err := again.Write(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec("UPDATE users SET account_id = 'nobody'")
				return err
			}); err == nil {
				t.Error("a reference to nothing was taken")
			}
			if _, _, err := Restore(t.Context(), bytes.NewReader(file.Bytes()), to, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
				t.Errorf("into a database with rows: %v", err)
			}
		})
	})
}

// A backup is of one moment, whatever is written meanwhile.
func TestWhileItRuns(t *testing.T) {
	storetest.Each(t, func(t *testing.T, url string) {
		db := filled(t, url)
		before := rows(t, db)
		var file bytes.Buffer
		w := &during{Writer: &file, do: func() {
			if err := db.Write(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec("DELETE FROM settings")
				return err
			}); err != nil {
				t.Error(err)
			}
		}}
		if _, err := Write(t.Context(), db, w, "x", moment); err != nil {
			t.Fatal(err)
		}
		to := storetest.SQLite(t)
		if _, _, err := Restore(t.Context(), bytes.NewReader(file.Bytes()), to, nil); err != nil {
			t.Fatal(err)
		}
		again, err := store.Open(t.Context(), to, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if rows(t, again) != before {
			t.Error("the backup has a part of what came later")
		}
	})
}

// during does something at the first write, gzip's header: the view is taken by
// then.
type during struct {
	io.Writer
	do func()
}

func (d *during) Write(p []byte) (int, error) {
	if d.do != nil {
		d.do()
		d.do = nil
	}
	return d.Writer.Write(p)
}

func zip(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	z.Close()
	return b.Bytes()
}

func TestDamaged(t *testing.T) {
	var b bytes.Buffer
	if _, err := Write(t.Context(), filled(t, storetest.SQLite(t)), &b, "x", moment); err != nil {
		t.Fatal(err)
	}
	good := b.Bytes()
	z, err := gzip.NewReader(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	url := storetest.SQLite(t)
	for name, x := range map[string]struct {
		file []byte
		want string
	}{
		"empty":     {nil, "no backup"},
		"other":     {zip("{}\n"), "no backup"},
		"cut":       {good[:len(good)/2], "cut off"},
		"cut clean": {zip(strings.Join(lines[:len(lines)/2], "")), "cut off"},
		"changed":   {zip(strings.Replace(string(text), "a7@b", "a8@b", 1)), "damaged"},
		"row less":  {zip(strings.Join(lines[:3], "") + strings.Join(lines[4:], "")), "damaged"},
		"more":      {zip(string(text) + "[]\n"), "follows"},
		"newer":     {zip(strings.Replace(string(text), `"version":1`, `"version":2`, 1)), "newer portal"},
		"schema":    {zip(strings.Replace(string(text), `"schema":`, `"schema":9`, 1)), "newer portal"},
		"name":      {zip(lines[0] + `{"table":"a;b","columns":[{"name":"a","type":"text"}]}` + "\n"), "small letters"},
	} {
		if _, _, err := Restore(t.Context(), bytes.NewReader(x.file), url, nil); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
	if _, _, err := Restore(t.Context(), bytes.NewReader(good), url, nil); err != nil {
		t.Errorf("after the bad ones: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"format":"parley-portal-backup","version":1,"schema":1}` + "\n" + `{"table":"a","columns":[{"name":"b","type":"bytes"}]}` + "\n[\"AA==\"]\n"))
	f.Add([]byte("[]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		columns := 0
		_, n, err := Read(bytes.NewReader(zip(string(text))), func(_ string, c []store.Column) error { columns = len(c); return nil }, func(r []any) error {
			if len(r) != columns {
				t.Errorf("%d values for %d columns", len(r), columns)
			}
			return nil
		})
		if err == nil && n < 0 {
			t.Error("fewer rows than none")
		}
	})
}

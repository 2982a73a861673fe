package web_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// row is a row of any table, as text.
type row struct {
	table  string
	values map[string]string
}

func (r row) String() string {
	var b strings.Builder
	b.WriteString(r.table)
	for _, name := range slices.Sorted(maps.Keys(r.values)) {
		if !passing[name] {
			fmt.Fprintf(&b, " %s=%.200q", name, r.values[name])
		}
	}
	return b.String()
}

// passing are columns that change by being looked at, or by time alone.
var passing = map[string]bool{"used": true, "seen": true}

// dump reads the whole database: what a new migration adds is there by itself.
func dump(t *testing.T, p *portaltest.Portal) []row {
	t.Helper()
	var out []row
	err := p.DB.Read(t.Context(), func(tx *store.Tx) error {
		out = nil
		query := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
		if tx.Kind() == store.Postgres {
			query = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
		}
		var tables []string
		if err := tx.Each(func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			tables = append(tables, name)
			return err
		}, query); err != nil {
			return err
		}
		for _, table := range tables {
			rows, err := tx.Query("SELECT * FROM " + table)
			if err != nil {
				return err
			}
			columns, err := rows.Columns()
			for err == nil && rows.Next() {
				values, to := make([]any, len(columns)), make([]any, len(columns))
				for i := range values {
					to[i] = &values[i]
				}
				if err = rows.Scan(to...); err != nil {
					break
				}
				r := row{table, map[string]string{}}
				for i, name := range columns {
					switch v := values[i].(type) {
					case nil:
					case []byte:
						r.values[name] = string(v)
					default:
						r.values[name] = fmt.Sprint(v)
					}
				}
				out = append(out, r)
			}
			if err == nil {
				err = rows.Err()
			}
			rows.Close()
			if err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// belongings are an account's rows, and the ids in them: each row that names the
// account, or the id of a row that belongs to it. Of other accounts its
// sub-accounts belong to it, but for one that is not counted.
func belongings(rows []row, account, but string) (mine []row, ids map[string]string) {
	ids = map[string]string{account: "accounts"}
	taken := make([]bool, len(rows))
	for more := true; more; {
		more = false
		for i, r := range rows {
			if taken[i] || r.table == "accounts" && r.values["id"] != account && (r.values["parent_id"] != account || r.values["id"] == but) || !names(r, ids) {
				continue
			}
			taken[i], more = true, true
			mine = append(mine, r)
			for _, key := range []string{"id", "number"} {
				if v := r.values[key]; len(v) > 8 {
					ids[v] = r.table
				}
			}
		}
	}
	return mine, ids
}

func names(r row, ids map[string]string) bool {
	for _, v := range r.values {
		if _, ok := ids[v]; ok {
			return true
		}
		if len(v) < 9 || len(v) > 10000 {
			continue
		}
		for id := range ids {
			if len(id) > 20 && strings.Contains(v, id) {
				return true
			}
		}
	}
	return false
}

// ticking are tables that appliances write by themselves.
var ticking = map[string]bool{"appliance_live": true, "samples": true, "alerts": true}

// texts are rows in an order that two dumps share.
func texts(rows []row) []string {
	var out []string
	for _, r := range rows {
		if !ticking[r.table] {
			out = append(out, r.String())
		}
	}
	slices.Sort(out)
	return out
}

// same fails the test when rows are not what they were, and reports that.
func same(t *testing.T, after string, before, now []string) (changed bool) {
	t.Helper()
	for _, s := range before {
		if _, ok := slices.BinarySearch(now, s); !ok {
			t.Errorf("%s: gone or changed: %.600s", after, s)
			changed = true
		}
	}
	for _, s := range now {
		if _, ok := slices.BinarySearch(before, s); !ok {
			t.Errorf("%s: new: %.600s", after, s)
			changed = true
		}
	}
	return changed
}

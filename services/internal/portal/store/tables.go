package store

import (
	"fmt"
	"strings"
)

// Column is a column of a table.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"` // text, int, bool, bytes, real
}

// Tables lists the tables but for the schema's version; those that refer to
// others come first.
func (tx *Tx) Tables() ([]string, error) {
	query := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid DESC"
	if tx.kind == Postgres {
		query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY oid DESC"
	}
	var out []string
	err := tx.Each(func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		if name != "schema_version" {
			out = append(out, name)
		}
		return err
	}, query)
	return out, err
}

// Columns lists a table's columns in their order; both kinds of database say the
// same.
func (tx *Tx) Columns(table string) ([]Column, error) {
	query := "SELECT name, type FROM pragma_table_info(?) ORDER BY cid"
	if tx.kind == Postgres {
		query = "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = ? ORDER BY ordinal_position"
	}
	types := map[string]string{"text": "text", "bigint": "int", "integer": "int", "boolean": "bool", "blob": "bytes", "bytea": "bytes", "real": "real", "double precision": "real"}
	var out []Column
	err := tx.Each(func(scan func(...any) error) error {
		var c Column
		var t string
		if err := scan(&c.Name, &t); err != nil {
			return err
		}
		if c.Type = types[strings.ToLower(t)]; c.Type == "" {
			return fmt.Errorf("column %s.%s: unknown type %q", table, c.Name, t)
		}
		out = append(out, c)
		return nil
	}, query, table)
	return out, err
}

// Later lets rows refer to such as come later in the transaction, until the
// returned function ends that and judges all.
func (tx *Tx) Later() (end func() error, err error) {
	if tx.kind == SQLite {
		_, err := tx.Exec("PRAGMA defer_foreign_keys = ON")
		return func() error { return nil }, err // the commit judges
	}
	type key struct{ table, name string }
	var keys []key
	if err := tx.Each(func(scan func(...any) error) error {
		var k key
		err := scan(&k.table, &k.name)
		keys = append(keys, k)
		return err
	}, "SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace"); err != nil {
		return nil, err
	}
	alter := func(how string) error {
		for _, k := range keys {
			if _, err := tx.Exec("ALTER TABLE " + k.table + " ALTER CONSTRAINT " + k.name + " " + how); err != nil {
				return err
			}
		}
		return nil
	}
	return func() error {
		if _, err := tx.Exec("SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
			return err
		}
		return alter("NOT DEFERRABLE")
	}, alter("DEFERRABLE INITIALLY DEFERRED")
}

// Package backup writes the portal's database to a file and brings it back, of
// either kind: so it also moves a portal from SQLite to PostgreSQL.
//
// A file is gzip of lines of JSON:
//
//	{"format":"parley-portal-backup","version":1,"schema":6,"portal":"…","at":"…"}
//	{"table":"users","columns":[{"name":"id","type":"text"},…]}
//	["…", 12, true, null, …]       a row; bytes are base64
//	…
//	{"rows":1234,"sha256":"…"}     of all lines before this one
//
// It is a view of one moment, taken while the portal runs. What is sealed stays
// sealed: the master key is not in it, nor are files of releases. Lines are at
// most 16 MiB.
package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/store"
)

const (
	formatName    = "parley-portal-backup"
	formatVersion = 1
	maxLine       = 16 << 20
)

// Header is a file's first line.
type Header struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Schema  int       `json:"schema"`
	Portal  string    `json:"portal"`
	At      time.Time `json:"at"`
}

type tableLine struct {
	Table   string         `json:"table"`
	Columns []store.Column `json:"columns"`
}

type endLine struct {
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"`
}

// Write writes a backup and returns how many rows it has. at is the time and
// portal the version that its header tells.
func Write(ctx context.Context, db *store.DB, w io.Writer, portal string, at time.Time) (rows int64, err error) {
	err = db.Read(ctx, func(tx *store.Tx) error {
		if rows != 0 {
			return errors.New("the transaction was begun again in the middle of the file")
		}
		z := gzip.NewWriter(w)
		sum := sha256.New()
		b := bufio.NewWriter(io.MultiWriter(z, sum))
		enc := json.NewEncoder(b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(Header{formatName, formatVersion, store.SchemaVersion(), portal, at.UTC()}); err != nil {
			return err
		}
		names, err := tx.Tables()
		if err != nil {
			return err
		}
		slices.Sort(names)
		for _, name := range names {
			n, err := writeTable(tx, enc, name)
			if err != nil {
				return fmt.Errorf("table %s: %w", name, err)
			}
			rows += n
		}
		if err := b.Flush(); err != nil {
			return err
		}
		if err := json.NewEncoder(z).Encode(endLine{rows, hex.EncodeToString(sum.Sum(nil))}); err != nil {
			return err
		}
		return z.Close()
	})
	return rows, err
}

func columnList(columns []store.Column) string {
	var names []string
	for _, c := range columns {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

func writeTable(tx *store.Tx, enc *json.Encoder, name string) (rows int64, err error) {
	columns, err := tx.Columns(name)
	if err != nil {
		return 0, err
	}
	if err := enc.Encode(tableLine{name, columns}); err != nil {
		return 0, err
	}
	err = tx.Each(func(scan func(...any) error) error {
		row := make([]any, len(columns))
		to := make([]any, len(columns))
		for i := range row {
			to[i] = &row[i]
		}
		if err := scan(to...); err != nil {
			return err
		}
		for i, c := range columns {
			v, err := normal(row[i], c.Type)
			if err != nil {
				return fmt.Errorf("column %s: %w", c.Name, err)
			}
			row[i] = v
		}
		rows++
		return enc.Encode(row)
	}, "SELECT "+columnList(columns)+" FROM "+name)
	return rows, err
}

// normal makes of what a driver returns what JSON of the column's type is.
func normal(v any, kind string) (any, error) {
	switch x := v.(type) {
	case nil:
		return nil, nil
	case []byte:
		if kind == "bytes" {
			return base64.StdEncoding.EncodeToString(x), nil
		}
		if kind == "text" {
			return string(x), nil
		}
	case string:
		if kind == "text" {
			return x, nil
		}
	case bool:
		if kind == "bool" {
			return x, nil
		}
	case int64:
		switch kind {
		case "int", "real":
			return x, nil
		case "bool":
			return x != 0, nil
		}
	case float64:
		if kind == "real" {
			return x, nil
		}
	}
	return nil, fmt.Errorf("%T is no %s", v, kind)
}

// reader reads a file's lines.
type reader struct {
	s    *bufio.Scanner
	sum  hash.Hash
	rows int64
	line int
}

// errCut means that a file ends before its end.
var errCut = errors.New("the file ends early: it was cut off")

// whole is bufio.ScanLines without a last line that has no end.
func whole(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, errCut
	}
	return 0, nil, nil
}

func (r *reader) next() ([]byte, error) {
	if !r.s.Scan() {
		switch err := r.s.Err(); {
		case err == nil, errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errCut):
			return nil, errCut
		default:
			return nil, fmt.Errorf("line %d: %w", r.line+1, err)
		}
	}
	r.line++
	return r.s.Bytes(), nil
}

// Read reads a file and calls table for each of its tables and row for each of
// their rows; either may be nil. It returns an error when the file is not whole,
// which may be after the calls: a first Read without them tells.
func Read(in io.Reader, table func(name string, columns []store.Column) error, row func([]any) error) (Header, int64, error) {
	var h Header
	z, err := gzip.NewReader(in)
	if err != nil {
		return h, 0, fmt.Errorf("this is no backup of a portal: %w", err)
	}
	r := &reader{s: bufio.NewScanner(z), sum: sha256.New()}
	r.s.Buffer(make([]byte, 64<<10), maxLine)
	r.s.Split(whole)
	line, err := r.next()
	if err != nil {
		return h, 0, err
	}
	switch err := json.Unmarshal(line, &h); {
	case err != nil || h.Format != formatName:
		return h, 0, errors.New("this is no backup of a portal: its first line is another")
	case h.Version > formatVersion || h.Schema > store.SchemaVersion():
		return h, 0, fmt.Errorf("the backup was made by a newer portal (%s: format %d, schema %d); this one reads up to format %d, schema %d: use the newer portal",
			h.Portal, h.Version, h.Schema, formatVersion, store.SchemaVersion())
	case h.Version < 1 || h.Schema < 1:
		return h, 0, fmt.Errorf("the backup has format %d and schema %d, want at least 1", h.Version, h.Schema)
	}
	r.add(line)
	var columns []store.Column
	for {
		line, err := r.next()
		if err != nil {
			return h, 0, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] == '[' {
			values, err := parseRow(line, columns)
			if err == nil && row != nil {
				err = row(values)
			}
			if err != nil {
				return h, 0, fmt.Errorf("line %d: %w", r.line, err)
			}
			r.rows++
			r.add(line)
			continue
		}
		var t struct {
			tableLine
			endLine
		}
		if err := json.Unmarshal(line, &t); err != nil {
			return h, 0, fmt.Errorf("line %d: %w", r.line, err)
		}
		if t.SHA256 != "" {
			if t.Rows != r.rows || t.SHA256 != hex.EncodeToString(r.sum.Sum(nil)) {
				return h, 0, fmt.Errorf("the file is damaged: its sum is not that of its %d rows", r.rows)
			}
			if r.s.Scan() || r.s.Err() != nil {
				return h, 0, errors.New("the file is damaged: something follows its end")
			}
			return h, r.rows, nil
		}
		columns = t.Columns
		if err := check(t.tableLine); err != nil {
			return h, 0, fmt.Errorf("line %d: %w", r.line, err)
		}
		if table != nil {
			if err := table(t.Table, columns); err != nil {
				return h, 0, err
			}
		}
		r.add(line)
	}
}

func (r *reader) add(line []byte) {
	r.sum.Write(line)
	r.sum.Write([]byte{'\n'})
}

// check keeps out what must not get into a statement.
func check(t tableLine) error {
	names := []string{t.Table}
	for _, c := range t.Columns {
		names = append(names, c.Name)
	}
	for _, n := range names {
		if n == "" || len(n) > 63 || strings.Trim(n, "abcdefghijklmnopqrstuvwxyz_0123456789") != "" {
			return fmt.Errorf("name %.80q, want small letters, digits and _", n)
		}
	}
	if len(t.Columns) == 0 {
		return fmt.Errorf("table %s has no columns", t.Table)
	}
	return nil
}

func parseRow(line []byte, columns []store.Column) ([]any, error) {
	var values []any
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&values); err != nil {
		return nil, err
	}
	if len(values) != len(columns) || len(columns) == 0 {
		return nil, fmt.Errorf("%d values for %d columns", len(values), len(columns))
	}
	for i, c := range columns {
		ok := values[i] == nil
		switch v := values[i].(type) {
		case string:
			switch c.Type {
			case "text":
				ok = true
			case "bytes":
				b, err := base64.StdEncoding.DecodeString(v)
				if err != nil {
					return nil, fmt.Errorf("column %s: %w", c.Name, err)
				}
				values[i], ok = b, true
			}
		case bool:
			ok = c.Type == "bool"
		case json.Number:
			var err error
			switch c.Type {
			case "int":
				values[i], err = v.Int64()
				ok = err == nil
			case "real":
				values[i], err = v.Float64()
				ok = err == nil
			}
		}
		if !ok {
			return nil, fmt.Errorf("column %s: %T is no %.20q", c.Name, values[i], c.Type)
		}
	}
	return values, nil
}

// Restore brings a backup into the empty database of a URL. The file is read
// twice, first to see that it is whole; the database then has all of it or
// nothing.
func Restore(ctx context.Context, in io.ReadSeeker, url string, log *slog.Logger) (Header, int64, error) {
	h, _, err := Read(in, nil, nil)
	if err != nil {
		return h, 0, err
	}
	db, err := store.OpenAt(ctx, url, log, h.Schema)
	var newer *store.NewerError
	if errors.As(err, &newer) {
		return h, 0, fmt.Errorf("the database is not empty: it has schema %d and the backup %d; restore into a new one", newer.Have, h.Schema)
	}
	if err != nil {
		return h, 0, err
	}
	var rows int64
	err = db.Write(ctx, func(tx *store.Tx) (err error) {
		if _, err := in.Seek(0, io.SeekStart); err != nil {
			return err
		}
		rows, err = load(tx, in)
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return h, 0, err
	}
	if db, err = store.Open(ctx, url, log); err != nil { // to today's schema
		return h, rows, err
	}
	return h, rows, db.Close()
}

func load(tx *store.Tx, in io.Reader) (int64, error) {
	names, err := tx.Tables()
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		var some bool
		if err := tx.Row("SELECT EXISTS (SELECT 1 FROM " + n + ")").Scan(&some); err != nil {
			return 0, err
		}
		if some {
			return 0, fmt.Errorf("the database is not empty: table %s has rows; restore into a new one", n)
		}
	}
	end, err := tx.Later()
	if err != nil {
		return 0, err
	}
	insert := ""
	_, rows, err := Read(in, func(name string, columns []store.Column) error {
		if !slices.Contains(names, name) {
			return fmt.Errorf("table %s: the schema has none", name)
		}
		insert = "INSERT INTO " + name + " (" + columnList(columns) + ") VALUES (" + strings.TrimSuffix(strings.Repeat("?,", len(columns)), ",") + ")"
		return nil
	}, func(row []any) error {
		_, err := tx.Exec(insert, row...)
		return err
	})
	if err != nil {
		return 0, err
	}
	return rows, end()
}

// Package store is the portal's database: SQLite in a file, or PostgreSQL when
// several instances share it. The same SQL serves both, with these rules:
//
//   - placeholders are "?"; times are BIGINT milliseconds since 1970 (Millis,
//     FromMillis); flags are BOOLEAN; bytes are {{blob}} in migrations; ids are
//     TEXT made by NewID; of text NUL and what is not UTF-8 become U+FFFD;
//   - what is read and written together is one Write, which may run more than
//     once and therefore has no effect but on the database and on variables that
//     it sets anew;
//   - nothing waits for the network, a hash, or a person inside Read or Write;
//   - other instances learn of a change by Tx.Notify, which is sent when the
//     transaction is committed, and at most once: whoever listens must also look
//     for himself from time to time.
//
// SQLite runs in WAL mode with synchronous=FULL: what Write has returned from is
// on the disk. It has one writer at a time and any number of readers.
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/big"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"modernc.org/sqlite"
)

// Errors that callers tell apart.
var (
	// ErrNotFound means that a row that was asked for is not there.
	ErrNotFound = errors.New("no such row")
	// ErrConflict means that a row with the same unique value is there already.
	ErrConflict = errors.New("there is such a row already")
)

// Kind is a kind of database.
type Kind string

// The kinds.
const (
	SQLite   Kind = "sqlite"
	Postgres Kind = "postgres"
)

// DB is the database. It is safe for concurrent use.
type DB struct {
	kind  Kind
	write *sql.DB // of SQLite one connection
	read  *sql.DB
	bus   *bus
	log   *slog.Logger
}

// Limits of connections.
const (
	readers       = 8
	pgConnections = 16
	busyTimeout   = 10 * time.Second
	// attempts of a transaction that another one got in the way of.
	attempts = 12
)

// Open opens the database of a URL, "sqlite:PATH" or "postgres://…", and brings
// its schema up to date. log may be nil.
func Open(ctx context.Context, url string, log *slog.Logger) (*DB, error) {
	return OpenAt(ctx, url, log, SchemaVersion())
}

// OpenAt is Open with an older version of the schema, for a backup that has it.
func OpenAt(ctx context.Context, url string, log *slog.Logger, version int) (*DB, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	db := &DB{log: log}
	var err error
	switch {
	case strings.HasPrefix(url, "sqlite:"):
		db.kind = SQLite
		err = db.openSQLite(strings.TrimPrefix(url, "sqlite:"))
	case strings.HasPrefix(url, "postgres://"), strings.HasPrefix(url, "postgresql://"):
		db.kind = Postgres
		err = db.openPostgres(url)
	default:
		// The URL may hold a password and is not shown.
		err = errors.New("database: want sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME")
	}
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx, version); err != nil {
		db.Close()
		return nil, err
	}
	db.bus = newBus(db, url)
	select {
	case <-db.bus.live:
	case <-ctx.Done():
		db.Close()
		return nil, fmt.Errorf("database: listen for notifications: %w", ctx.Err())
	}
	return db, nil
}

func (db *DB) openSQLite(path string) error {
	if path == "" {
		return errors.New("database: sqlite: has no path")
	}
	// temp_store(2) is memory: where the portal is confined it has no other folder.
	pragmas := fmt.Sprintf("?_pragma=temp_store(2)&_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)", busyTimeout.Milliseconds())
	name := "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path) + pragmas
	var err error
	if db.write, err = sql.Open("sqlite", name+"&_txlock=immediate"); err != nil {
		return fmt.Errorf("database %s: %w", path, err)
	}
	db.write.SetMaxOpenConns(1)
	if err := private(path); err != nil {
		return fmt.Errorf("database %s: %w", path, err)
	}
	// The first connection sets the journal's mode, before readers come.
	// For that SQLite does not wait while another process does the same.
	err = db.write.Ping()
	for end := time.Now().Add(busyTimeout); again(err) && time.Now().Before(end); err = db.write.Ping() {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		db.write.Close()
		return fmt.Errorf("database %s: %w", path, err)
	}
	if db.read, err = sql.Open("sqlite", name+"&_pragma=query_only(1)"); err != nil {
		db.write.Close()
		return fmt.Errorf("database %s: %w", path, err)
	}
	db.read.SetMaxOpenConns(readers)
	return nil
}

// private keeps others on the machine out of the database's files. SQLite makes
// the other two with the mode of the first, which may be empty.
func private(path string) error {
	// Made without being opened: to close it again would drop the locks that another
	// connection of this process has by then (POSIX).
	err := syscall.Mknod(path, syscall.S_IFREG|0o600, 0)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return &fs.PathError{Op: "make", Path: path, Err: err}
	}
	for _, end := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + end)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = os.Chmod(path+end, 0o600)
		}
		if err != nil {
			return fmt.Errorf("keep it private: %w", err)
		}
	}
	return nil
}

func (db *DB) openPostgres(url string) error {
	var err error
	if db.write, err = sql.Open("pgx", url); err != nil {
		return fmt.Errorf("database: %w", hideURL(err))
	}
	db.write.SetMaxOpenConns(pgConnections)
	db.write.SetMaxIdleConns(pgConnections)
	db.write.SetConnMaxIdleTime(5 * time.Minute)
	db.read = db.write
	return nil
}

// hideURL keeps a password out of an error: pgx quotes what it cannot parse.
func hideURL(err error) error {
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) {
		return errors.New("the URL cannot be read: want postgres://USER:PASSWORD@HOST/NAME")
	}
	return err
}

// Stats is what the connections are doing: those that write, and of PostgreSQL
// all.
func (db *DB) Stats() sql.DBStats { return db.write.Stats() }

// Kind returns which kind of database it is.
func (db *DB) Kind() Kind { return db.kind }

// Close closes the database; transactions under way fail.
func (db *DB) Close() error {
	if db.bus != nil {
		db.bus.close()
	}
	var errs []error
	if db.read != nil && db.read != db.write {
		errs = append(errs, db.read.Close())
	}
	errs = append(errs, db.write.Close())
	return errors.Join(errs...)
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	return db.Read(ctx, func(tx *Tx) error {
		var one int
		return tx.Row("SELECT 1").Scan(&one)
	})
}

// Tx is a transaction. Its methods are for the goroutine that runs it.
type Tx struct {
	tx    *sql.Tx
	ctx   context.Context
	kind  Kind
	notes []Note
}

// Kind returns which kind of database it is, for the few statements that differ.
func (tx *Tx) Kind() Kind { return tx.kind }

// Exec runs a statement and returns how many rows it changed.
func (tx *Tx) Exec(query string, args ...any) (int64, error) {
	res, err := tx.tx.ExecContext(tx.ctx, tx.bind(query), plain(args)...)
	if err != nil {
		return 0, rename(err)
	}
	n, err := res.RowsAffected()
	return n, err
}

// Query runs a statement that returns rows. The caller closes them before the
// next statement.
func (tx *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	rows, err := tx.tx.QueryContext(tx.ctx, tx.bind(query), plain(args)...)
	return rows, rename(err)
}

// Row runs a statement that returns one row; its Scan returns ErrNotFound when
// there is none.
func (tx *Tx) Row(query string, args ...any) Row {
	return Row{tx.tx.QueryRowContext(tx.ctx, tx.bind(query), plain(args)...)}
}

// Each calls f for each row of a query, with a function that scans it.
func (tx *Tx) Each(f func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rename(rows.Err())
}

// Row is one row.
type Row struct{ row *sql.Row }

// Scan copies the row's columns.
func (r Row) Scan(to ...any) error { return rename(r.row.Scan(to...)) }

// Notify tells all instances, this one too, once the transaction is committed.
// A payload of more than 4,000 bytes is an error at the commit; it should name
// what changed, not hold it.
func (tx *Tx) Notify(topic, payload string) {
	tx.notes = append(tx.notes, Note{topic, payload})
}

// plain returns arguments whose text both databases take. PostgreSQL has an error
// for NUL and for what is not UTF-8, which any address of a request may hold: they
// become U+FFFD, which is in no id.
func plain(args []any) []any {
	var out []any
	for i, a := range args {
		v := reflect.ValueOf(a)
		if v.Kind() != reflect.String {
			continue
		}
		s := v.String()
		if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
			continue
		}
		if out == nil {
			out = slices.Clone(args)
		}
		out[i] = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	}
	if out == nil {
		return args
	}
	return out
}

// bind writes placeholders as the database wants them. Queries have no "?" but
// for them.
func (tx *Tx) bind(query string) string {
	if tx.kind != Postgres {
		return query
	}
	var b strings.Builder
	n := 0
	for _, r := range query {
		if r == '?' {
			n++
			fmt.Fprintf(&b, "$%d", n)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// rename makes errors of both databases the package's own.
func rename(err error) error {
	var lite *sqlite.Error
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.As(err, &lite) && (lite.Code() == 2067 || lite.Code() == 1555): // SQLITE_CONSTRAINT_UNIQUE, _PRIMARYKEY
		return fmt.Errorf("%w: %w", ErrConflict, err)
	case errors.As(err, &pg) && pg.Code == "23505": // unique_violation
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}

// again reports whether a transaction failed only because of another one.
func again(err error) bool {
	var lite *sqlite.Error
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &lite):
		return lite.Code()&0xff == 5 || lite.Code()&0xff == 6 // SQLITE_BUSY, SQLITE_LOCKED
	case errors.As(err, &pg):
		return pg.Code == "40001" || pg.Code == "40P01" // serialization_failure, deadlock_detected
	}
	return false
}

// Read runs f in a transaction that sees one state and changes nothing.
func (db *DB) Read(ctx context.Context, f func(*Tx) error) error {
	return db.run(ctx, db.read, &sql.TxOptions{ReadOnly: db.kind == Postgres, Isolation: db.isolation(sql.LevelRepeatableRead)}, f)
}

// Write runs f in a serializable transaction, and again when another one got in
// its way. When it returns nil, what f wrote is on the disk.
func (db *DB) Write(ctx context.Context, f func(*Tx) error) error {
	return db.run(ctx, db.write, &sql.TxOptions{Isolation: db.isolation(sql.LevelSerializable)}, f)
}

func (db *DB) isolation(level sql.IsolationLevel) sql.IsolationLevel {
	if db.kind == SQLite {
		return sql.LevelDefault // it knows no other
	}
	return level
}

func (db *DB) run(ctx context.Context, on *sql.DB, opts *sql.TxOptions, f func(*Tx) error) error {
	var err error
	for i := range attempts {
		if i > 0 {
			select {
			case <-time.After(pause(i)):
			case <-ctx.Done():
				return errors.Join(err, ctx.Err())
			}
		}
		if err = db.once(ctx, on, opts, f); err == nil || !again(err) {
			return err
		}
	}
	return fmt.Errorf("gave up after %d attempts: %w", attempts, err)
}

// pause is how long to wait before the nth attempt: random, growing to 200 ms.
func pause(n int) time.Duration {
	most := min(200, 4*math.Pow(2, float64(n)))
	r, err := rand.Int(rand.Reader, big.NewInt(int64(most*1000)+1))
	if err != nil {
		panic(err) // never fails (crypto/rand)
	}
	return time.Duration(r.Int64()) * time.Microsecond
}

func (db *DB) once(ctx context.Context, on *sql.DB, opts *sql.TxOptions, f func(*Tx) error) error {
	t, err := on.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin: %w", hideURL(err))
	}
	tx := &Tx{tx: t, ctx: ctx, kind: db.kind}
	committed := false
	defer func() {
		if !committed { // also when f panics
			_ = t.Rollback()
		}
	}()
	if err := f(tx); err != nil {
		return err
	}
	if db.kind == Postgres {
		for _, n := range tx.notes {
			if _, err := t.ExecContext(ctx, "SELECT pg_notify($1, $2)", channel, n.Topic+" "+n.Payload); err != nil {
				return fmt.Errorf("notify %s: %w", n.Topic, err)
			}
		}
	}
	if err := t.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	committed = true
	if db.kind == SQLite && db.bus != nil {
		for _, n := range tx.notes {
			db.bus.deliver(n)
		}
	}
	return nil
}

// Millis is a time as the database keeps it; the zero time is 0.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// FromMillis is the reverse of Millis, in UTC.
func FromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// FirstID returns what sorts before all ids of a moment and after those of
// milliseconds before it: ids are asked for by time with it.
func FirstID(t time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(max(t.UnixMilli(), 0))<<16)
	return strings.ToLower(idEncoding.EncodeToString(b[:]))
}

// IsID reports whether s is written as NewID writes them.
func IsID(s string) bool {
	return len(s) == 26 && strings.Trim(s, "0123456789abcdefghijklmnopqrstuv") == ""
}

var idEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// NewID returns a new id: 26 small letters and digits, which sort by the time at
// which they were made, and hold 80 random bits.
func NewID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(time.Now().UnixMilli())<<16)
	if _, err := rand.Read(b[6:]); err != nil {
		panic(err) // never fails (crypto/rand)
	}
	return strings.ToLower(idEncoding.EncodeToString(b[:]))
}

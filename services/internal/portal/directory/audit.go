package directory

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Entry is a line of an audit log.
type Entry struct {
	ID      string          `json:"id"`
	At      time.Time       `json:"at"`
	User    string          `json:"user"` // id
	Name    string          `json:"name"` // as it was then
	Via     string          `json:"via"`
	Address string          `json:"address"`
	Action  string          `json:"action"`
	Target  string          `json:"target"`
	Details json.RawMessage `json:"details,omitempty"` // an object
}

// AuditFilter chooses lines; the zero filter is all.
type AuditFilter struct {
	Action string    // whole, "user.invite", or its first part, "user"
	Person string    // in the name
	Since  time.Time // zero: any
	Until  time.Time // zero: any; this moment is not in it
	Before string    // id of a line: only older ones
	Size   int       // 0 is pageSize
}

// AuditPage is a part of an audit log, the newest line first.
type AuditPage struct {
	Entries []Entry `json:"entries"`
	Next    string  `json:"next,omitempty"` // for "before"; "" is the end
}

// logOf says whose log is wanted, and that the actor may see it: the account's
// own, or the portal's.
func logOf(tx *store.Tx, who people.Actor, ofPortal bool) error {
	if ofPortal {
		return operates(tx, who)
	}
	return now(tx, who, people.Admin)
}

func (f AuditFilter) sql(who people.Actor, ofPortal bool) (string, []any) {
	where, args := "account_id = ?", []any{who.Account}
	if ofPortal {
		where, args = "account_id IS NULL", nil
	}
	add := func(cond string, values ...any) { where += " AND " + cond; args = append(args, values...) }
	if f.Action != "" {
		prefix := strings.TrimPrefix(like(f.Action+"."), "%")
		add(`(action = ? OR action LIKE ? ESCAPE '\')`, f.Action, prefix)
	}
	if f.Person != "" {
		// A name in the log is as it was; SQLite knows small letters of ASCII alone.
		p := f.Person
		var conds []string
		for _, v := range []string{p, strings.ToLower(p), strings.ToUpper(p), titled(p)} {
			conds = append(conds, `name LIKE ? ESCAPE '\'`)
			args = append(args, like(v))
		}
		where += " AND (" + strings.Join(conds, " OR ") + ")"
	}
	// Ids sort by time.
	if !f.Since.IsZero() {
		add("id >= ?", store.FirstID(f.Since))
	}
	if !f.Until.IsZero() {
		add("id < ?", store.FirstID(f.Until))
	}
	if f.Before != "" {
		add("id < ?", f.Before)
	}
	return where, args
}

// titled makes the first letter of each word a capital one.
func titled(s string) string {
	words := strings.Fields(strings.ToLower(s))
	for i, w := range words {
		r := []rune(w)
		words[i] = strings.ToUpper(string(r[:1])) + string(r[1:])
	}
	return strings.Join(words, " ")
}

// AuditLog returns a part of the account's log, or of the portal's own.
func (s *Service) AuditLog(ctx context.Context, who people.Actor, ofPortal bool, f AuditFilter) (AuditPage, error) {
	var out AuditPage
	size, _ := Page{Size: f.Size}.bounds()
	if f.Size > maxPage { // the export's
		size = f.Size
	}
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		out = AuditPage{Entries: []Entry{}}
		if err := logOf(tx, who, ofPortal); err != nil {
			return err
		}
		where, args := f.sql(who, ofPortal)
		return tx.Each(func(scan func(...any) error) error {
			var e Entry
			var at int64
			var details string
			if err := scan(&e.ID, &at, &e.User, &e.Name, &e.Via, &e.Address, &e.Action, &e.Target, &details); err != nil {
				return err
			}
			if e.At = store.FromMillis(at); details != "" {
				e.Details = json.RawMessage(details)
			}
			if len(out.Entries) == size {
				out.Next = out.Entries[size-1].ID
				return nil
			}
			out.Entries = append(out.Entries, e)
			return nil
		}, "SELECT id, at, user_id, name, via, address, action, target, details FROM audit WHERE "+where+" ORDER BY id DESC LIMIT ?", append(args, size+1)...)
	})
	return out, err
}

// Actions lists the actions that a log has, for choosing one.
func (s *Service) Actions(ctx context.Context, who people.Actor, ofPortal bool) ([]string, error) {
	var out []string
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		out = nil
		if err := logOf(tx, who, ofPortal); err != nil {
			return err
		}
		where, args := AuditFilter{}.sql(who, ofPortal)
		// Of the newest lines alone: a log may have millions.
		return tx.Each(func(scan func(...any) error) error {
			var a string
			err := scan(&a)
			out = append(out, a)
			return err
		}, "SELECT DISTINCT action FROM (SELECT action FROM audit WHERE "+where+" ORDER BY id DESC LIMIT 5000) AS newest", args...)
	})
	slices.Sort(out)
	return out, err
}

// exportPage is how many lines are read at a time: what is exported never stands
// in memory as a whole.
const exportPage = 1000

// Export calls f with every line that the filter chooses, the newest first.
func (s *Service) Export(ctx context.Context, who people.Actor, ofPortal bool, f AuditFilter, each func(Entry) error) error {
	f.Size = exportPage
	for {
		p, err := s.AuditLog(ctx, who, ofPortal, f)
		if err != nil {
			return err
		}
		for _, e := range p.Entries {
			if err := each(e); err != nil {
				return err
			}
		}
		if f.Before = p.Next; p.Next == "" {
			return nil
		}
	}
}

// WriteJSONLines returns a writer of one JSON object a line.
func WriteJSONLines(w io.Writer) (each func(Entry) error) {
	enc := json.NewEncoder(w)
	return func(e Entry) error { return enc.Encode(e) }
}

// WriteCSV returns a writer of comma-separated values (RFC 4180), with a header,
// and what ends it. A cell that a spreadsheet would take for a formula gets an
// apostrophe.
func WriteCSV(w io.Writer) (each func(Entry) error, end func() error) {
	c := csv.NewWriter(w)
	// The writer keeps its error for the end.
	_ = c.Write([]string{"id", "at", "user", "name", "via", "address", "action", "target", "details"})
	return func(e Entry) error {
			row := []string{e.ID, e.At.Format(time.RFC3339Nano), e.User, e.Name, e.Via, e.Address, e.Action, e.Target, string(e.Details)}
			for i, v := range row {
				if first, _ := utf8.DecodeRuneInString(v); v != "" && strings.ContainsRune("=+-@\t\r＝＋－＠", first) {
					row[i] = "'" + v
				}
			}
			return c.Write(row)
		}, func() error {
			c.Flush()
			return c.Error()
		}
}

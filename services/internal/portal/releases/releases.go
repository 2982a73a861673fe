// Package releases is what administrators download: the appliances' images of
// each version as mkovf wrote them, with notes and bill of materials.
//
// A file's bytes are a blob that is named by its SHA-256, in a folder that all
// instances share or in object storage (package's Blobs); the database says which
// blobs a version has. A version is published when all that belongs to it is
// there and each manifest is right about the files it names; until then nobody
// sees it. Published files never change: another image is another version.
package releases

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// Bounds of a release.
const (
	MaxFile     = 4 << 30 // bytes
	maxNotes    = 64 << 10
	maxManifest = 64 << 10
	maxFiles    = 32
)

// Variant is an appliance that can be downloaded; its files begin with the prefix
// that mkovf gives them.
type Variant struct {
	Name   string // "controller", "router"
	Prefix string
}

// Variants lists them.
var Variants = []Variant{{"controller", "parley-controller"}, {"router", "parley-router"}}

// kinds are the files of a variant.
var kinds = []string{".ovf", ".vmdk", ".mf", ".ova"}

// papers are the files of a version beside its variants.
var papers = []string{"parley.cdx.json", "THIRD-PARTY-LICENSES.txt", "SOURCES.txt"}

var (
	fileName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	versionName = regexp.MustCompile(`^[0-9][0-9A-Za-z.+-]{0,63}$`)
	ovfVersion  = regexp.MustCompile(`<(?:\w+:)?FullVersion>([^<]{1,100})</`)
	manifest    = regexp.MustCompile(`^SHA256\(([^()]+)\)= ?([0-9a-f]{64})$`)
)

// Names lists the files that a release has, in the order in which they are sent.
func Names() []string {
	out := slices.Clone(papers)
	for _, v := range Variants {
		for _, ext := range kinds {
			out = append(out, v.Prefix+ext)
		}
	}
	return out
}

// Known reports whether a release has a file of that name.
func Known(name string) bool { return slices.Contains(Names(), name) }

// File is a file of a release.
type File struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes
	Sum  string `json:"sha256"`
}

// Release is a version.
type Release struct {
	Version   string    `json:"version"`
	NotesEN   string    `json:"notesEn"`
	NotesRU   string    `json:"notesRu"`
	Created   time.Time `json:"created"`
	Published time.Time `json:"published,omitzero"`
	Withdrawn time.Time `json:"withdrawn,omitzero"`
	Files     []File    `json:"files"`
}

// File returns the release's file of that name.
func (r Release) File(name string) (File, bool) {
	i := slices.IndexFunc(r.Files, func(f File) bool { return f.Name == name })
	if i < 0 {
		return File{}, false
	}
	return r.Files[i], true
}

// Service does it. It is safe for concurrent use.
type Service struct {
	db    *store.DB
	vault *vault.Vault
	blobs Blobs
	log   *slog.Logger
	now   func() time.Time
}

// New returns a service. log may be nil.
func New(db *store.DB, v *vault.Vault, blobs Blobs, log *slog.Logger) *Service {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{db: db, vault: v, blobs: blobs, log: log, now: time.Now}
}

// cleanEvery is how often blobs that no release has are removed, and lonely is how
// old they must be: an upload may be under way.
const (
	cleanEvery = time.Hour
	lonely     = 24 * time.Hour
)

// Run removes what no release has, from time to time, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	if err := s.tellMissing(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("release files", "error", err)
	}
	t := time.NewTicker(cleanEvery)
	defer t.Stop()
	for {
		if err := s.clean(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("release files", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Service) clean(ctx context.Context) error {
	list, err := s.blobs.List(ctx)
	if err != nil {
		return err
	}
	for _, b := range list {
		if s.now().Sub(b.Modified) < lonely {
			continue
		}
		n := 0
		if err := s.db.Read(ctx, func(tx *store.Tx) error {
			return tx.Row("SELECT COUNT(*) FROM release_files WHERE sum = ?", b.Name).Scan(&n)
		}); err != nil {
			return err
		}
		if n == 0 {
			if err := s.blobs.Remove(ctx, b.Name); err != nil {
				return err
			}
			s.log.Info("release file removed that no release has", "file", b.Name)
		}
	}
	return nil
}

// List returns all releases, the newest first; published says: those that
// accounts see.
func (s *Service) List(ctx context.Context, published bool) ([]Release, error) {
	var out []Release
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		out = []Release{}
		where := ""
		if published {
			where = " WHERE published <> 0 AND withdrawn = 0"
		}
		if err := tx.Each(func(scan func(...any) error) error {
			r, err := scanRelease(scan)
			out = append(out, r)
			return err
		}, "SELECT "+columns+" FROM releases"+where+" ORDER BY created DESC, version DESC"); err != nil {
			return err
		}
		for i := range out {
			var err error
			if out[i].Files, err = files(tx, out[i].Version); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

const columns = "version, notes_en, notes_ru, created, published, withdrawn"

func scanRelease(scan func(...any) error) (Release, error) {
	var r Release
	var created, published, withdrawn int64
	err := scan(&r.Version, &r.NotesEN, &r.NotesRU, &created, &published, &withdrawn)
	r.Created, r.Published, r.Withdrawn = store.FromMillis(created), store.FromMillis(published), store.FromMillis(withdrawn)
	return r, err
}

func files(tx *store.Tx, version string) ([]File, error) {
	out := []File{}
	err := tx.Each(func(scan func(...any) error) error {
		var f File
		err := scan(&f.Name, &f.Size, &f.Sum)
		out = append(out, f)
		return err
	}, "SELECT name, size, sum FROM release_files WHERE version = ? ORDER BY name", version)
	return out, err
}

func get(tx *store.Tx, version string) (Release, error) {
	r, err := scanRelease(tx.Row("SELECT "+columns+" FROM releases WHERE version = ?", version).Scan)
	if errors.Is(err, store.ErrNotFound) {
		return r, people.ErrUnknown
	}
	if err == nil {
		r.Files, err = files(tx, version)
	}
	return r, err
}

// Get returns a release.
func (s *Service) Get(ctx context.Context, version string) (Release, error) {
	var r Release
	err := s.db.Read(ctx, func(tx *store.Tx) (err error) { r, err = get(tx, version); return err })
	return r, err
}

// Notes are what a version brings, in plain text.
type Notes struct {
	EN string `json:"en"`
	RU string `json:"ru"`
}

func (n Notes) check() error {
	var l fault.List
	for field, text := range map[string]string{"en": n.EN, "ru": n.RU} {
		if len(text) > maxNotes {
			l.Add(field, "long", maxNotes)
		}
	}
	return l.Err()
}

func (s *Service) begin(tx *store.Tx, who people.Actor, version string, n Notes) error {
	r, err := get(tx, version)
	switch {
	case errors.Is(err, people.ErrUnknown):
		_, err = tx.Exec("INSERT INTO releases (version, notes_en, notes_ru, created) VALUES (?,?,?,?)", version, n.EN, n.RU, store.Millis(s.now()))
	case err == nil && !r.Published.IsZero():
		return fault.New("version", "release-published", version)
	case err == nil:
		_, err = tx.Exec("UPDATE releases SET notes_en = ?, notes_ru = ? WHERE version = ?", n.EN, n.RU, version)
	}
	if err != nil {
		return err
	}
	return people.Audit(tx, who, "release.begin", version, nil)
}

// Put adds a file to a version that is not published, or puts one of a published
// version back, which must be the same. Its bytes come from r; size is what is
// expected, and progress is told of those that are written.
func (s *Service) Put(ctx context.Context, version, name string, size int64, r io.Reader, progress func(int64)) (File, error) {
	if !fileName.MatchString(name) || !Known(name) {
		return File{}, fault.New("name", "release-file", name)
	}
	if size < 0 || size > MaxFile {
		return File{}, fault.New("", "release-size", name)
	}
	rel, err := s.Get(ctx, version)
	published := !rel.Published.IsZero()
	if err == nil && published {
		err = back(rel, File{Name: name, Size: size})
	}
	if err != nil {
		return File{}, err
	}
	sum := sha256.New()
	counted := &counter{r: io.TeeReader(io.LimitReader(r, size+1), sum), told: progress}
	save, err := s.blobs.Put(ctx, counted, size)
	if err != nil {
		return File{}, err
	}
	defer save.Drop()
	if counted.n != size {
		return File{}, fault.New("", "release-cut", name, counted.n, size)
	}
	f := File{Name: name, Size: size, Sum: hex.EncodeToString(sum.Sum(nil))}
	if published {
		if err := back(rel, f); err != nil {
			return File{}, err
		}
	}
	if err := save.Keep(f.Sum); err != nil {
		return File{}, err
	}
	if published {
		s.log.Info("file of a published release put back", "version", version, "file", name)
		return f, nil
	}
	return f, s.db.Write(ctx, func(tx *store.Tx) error {
		if err := open(tx, version); err != nil {
			return err
		}
		_, err := tx.Exec("INSERT INTO release_files (version, name, size, sum) VALUES (?,?,?,?) ON CONFLICT (version, name) DO UPDATE SET size = excluded.size, sum = excluded.sum",
			version, f.Name, f.Size, f.Sum)
		return err
	})
}

// open returns nil when files can be added to a version.
func open(tx *store.Tx, version string) error {
	r, err := get(tx, version)
	if err == nil && !r.Published.IsZero() {
		return fault.New("version", "release-published", version)
	}
	return err
}

type counter struct {
	r    io.Reader
	n    int64
	told func(int64)
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if c.told != nil {
		c.told(c.n)
	}
	return n, err
}

// Publish checks a version and lets accounts see it.
func (s *Service) Publish(ctx context.Context, who people.Actor, version string) error {
	r, err := s.Get(ctx, version)
	if err != nil {
		return err
	}
	if !r.Published.IsZero() {
		return fault.New("version", "release-published", version)
	}
	if err := s.check(ctx, r); err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		now, err := get(tx, version)
		if err != nil {
			return err
		}
		if !slices.Equal(now.Files, r.Files) {
			return fault.New("", "release-changed")
		}
		if _, err := tx.Exec("UPDATE releases SET published = ? WHERE version = ?", store.Millis(s.now()), version); err != nil {
			return err
		}
		return people.Audit(tx, who, "release.publish", version, map[string]any{"files": len(r.Files)})
	})
}

// check says what is missing in a version, or wrong.
func (s *Service) check(ctx context.Context, r Release) error {
	var l fault.List
	for _, name := range Names() {
		if _, ok := r.File(name); !ok {
			l.Add("", "release-missing", name)
		}
	}
	if err := l.Err(); err != nil {
		return err
	}
	for _, v := range Variants {
		text, err := s.text(ctx, r, v.Prefix+".mf")
		if err != nil {
			return err
		}
		sums, err := parseManifest(text)
		if err != nil {
			return fault.New("", "release-manifest", v.Prefix+".mf", err.Error())
		}
		for _, ext := range []string{".ovf", ".vmdk"} {
			f, _ := r.File(v.Prefix + ext)
			if sums[f.Name] != f.Sum {
				l.Add("", "release-sum", v.Prefix+".mf", f.Name)
			}
		}
		ovf, err := s.text(ctx, r, v.Prefix+".ovf")
		if err != nil {
			return err
		}
		if m := ovfVersion.FindStringSubmatch(ovf); m != nil && m[1] != r.Version {
			l.Add("", "release-other", v.Prefix+".ovf", m[1])
		}
	}
	return l.Err()
}

// text returns a small file's content.
func (s *Service) text(ctx context.Context, r Release, name string) (string, error) {
	f, _ := r.File(name)
	b, err := s.blobs.Open(ctx, f.Sum)
	if err != nil {
		return "", err
	}
	defer b.Close()
	text, err := io.ReadAll(io.LimitReader(b, maxManifest<<2))
	return string(text), err
}

// parseManifest reads a manifest (OVF 1.1, section 5.1) with SHA-256 sums.
func parseManifest(text string) (map[string]string, error) {
	if len(text) > maxManifest {
		return nil, fmt.Errorf("longer than %d bytes", maxManifest)
	}
	out := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), "\r ")
		if line == "" {
			continue
		}
		m := manifest.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("line %d is no SHA256(NAME)= SUM", n)
		}
		if _, twice := out[m[1]]; twice || len(out) >= maxFiles {
			return nil, fmt.Errorf("line %d names %s again, or too many files", n, m[1])
		}
		out[m[1]] = m[2]
	}
	return out, lines.Err()
}

// Withdraw hides a version from accounts, or shows it again.
func (s *Service) Withdraw(ctx context.Context, who people.Actor, version string, on bool) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		r, err := get(tx, version)
		if err != nil || r.Withdrawn.IsZero() == !on {
			return err
		}
		at, action := int64(0), "release.restore"
		if on {
			at, action = store.Millis(s.now()), "release.withdraw"
		}
		if _, err := tx.Exec("UPDATE releases SET withdrawn = ? WHERE version = ?", at, version); err != nil {
			return err
		}
		return people.Audit(tx, who, action, version, nil)
	})
}

// SetNotes changes a version's notes.
func (s *Service) SetNotes(ctx context.Context, who people.Actor, version string, n Notes) error {
	if err := n.check(); err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if _, err := get(tx, version); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE releases SET notes_en = ?, notes_ru = ? WHERE version = ?", n.EN, n.RU, version); err != nil {
			return err
		}
		return people.Audit(tx, who, "release.notes", version, nil)
	})
}

// Discard removes a version that was never published.
func (s *Service) Discard(ctx context.Context, who people.Actor, version string) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := open(tx, version); err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM releases WHERE version = ?", version); err != nil {
			return err
		}
		return people.Audit(tx, who, "release.discard", version, nil)
	})
}

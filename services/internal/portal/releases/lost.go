package releases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Lost is a file that the database has and the folder or object storage has not,
// as after a restore: a backup has no files of releases. The same bytes can be
// put back, with Begin and Put or by ImportDir.
type Lost struct{ Version, Name string }

func (l Lost) Error() string {
	return fmt.Sprintf("release %s: the bytes of %s are missing", l.Version, l.Name)
}

// Missing lists, by version, the names of files whose bytes are not there in
// full, of versions that are published.
func (s *Service) Missing(ctx context.Context) (map[string][]string, error) {
	list, err := s.List(ctx, false)
	if err != nil {
		return nil, err
	}
	blobs, err := s.blobs.List(ctx)
	if err != nil {
		return nil, err
	}
	there := map[string]int64{}
	for _, b := range blobs {
		there[b.Name] = b.Size
	}
	out := map[string][]string{}
	for _, r := range list {
		for _, f := range r.Files {
			if size, ok := there[f.Sum]; !r.Published.IsZero() && (!ok || size != f.Size) {
				out[r.Version] = append(out[r.Version], f.Name)
			}
		}
	}
	return out, nil
}

// tellMissing is for the log.
func (s *Service) tellMissing(ctx context.Context) error {
	missing, err := s.Missing(ctx)
	for version, names := range missing {
		s.log.Warn("files of a published release are missing: publish the same folder again", "version", version, "files", names)
	}
	return err
}

// Begun is what Begin found.
type Begun struct {
	// Missing are files of a version that is published already, which can be put
	// back; such a version stays as it is.
	Missing []string `json:"missing,omitempty"`
	// Have are files that a version that is not published has already.
	Have []string `json:"have,omitempty"`
}

// Begin makes a version that files can be added to. One that is not published
// yet is begun again. Of a published one nothing changes, and it is an error
// unless bytes of it are missing.
func (s *Service) Begin(ctx context.Context, who people.Actor, version string, n Notes) (Begun, error) {
	if !versionName.MatchString(version) {
		return Begun{}, fault.New("version", "release-version", version)
	}
	if err := n.check(); err != nil {
		return Begun{}, err
	}
	r, err := s.Get(ctx, version)
	if err == nil && !r.Published.IsZero() {
		missing, err := s.Missing(ctx)
		if err == nil && len(missing[version]) == 0 {
			err = fault.New("version", "release-published", version)
		}
		return Begun{Missing: missing[version]}, err
	}
	if err != nil && !errors.Is(err, people.ErrUnknown) {
		return Begun{}, err
	}
	var b Begun
	for _, f := range r.Files {
		b.Have = append(b.Have, f.Name)
	}
	return b, s.db.Write(ctx, func(tx *store.Tx) error { return s.begin(tx, who, version, n) })
}

// back says whether a file of a published version may come again: f is what is
// known of it, without its sum at first.
func back(r Release, f File) error {
	was, ok := r.File(f.Name)
	if !ok || was.Size != f.Size || f.Sum != "" && was.Sum != f.Sum {
		return fault.New("name", "release-differs", f.Name, r.Version)
	}
	return nil
}

// putBack brings files of a published version back from what mkovf wrote.
func (s *Service) putBack(ctx context.Context, dir, version string, missing []string, progress func(name string, done, size int64)) error {
	for _, name := range missing {
		if err := s.importFile(ctx, dir, version, name, progress); err != nil {
			return err
		}
	}
	return nil
}

// lost makes what a blob's absence means of an error.
func lost(err error, version, name string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return Lost{version, name}
	}
	return fmt.Errorf("release %s: %w", version, err)
}

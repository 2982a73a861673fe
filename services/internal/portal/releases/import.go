package releases

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// Imported is a release as it is now.
type Imported struct {
	Release
	Back []string // files that were put back; else the version is new
}

// VersionIn returns the version of what mkovf wrote to a folder. The OVFs say
// which; version is for those that do not, and "" unless it is known otherwise.
// That the two OVFs or version differ is a fault.
func VersionIn(dir, version string) (string, error) {
	for _, v := range Variants {
		name := v.Prefix + ".ovf"
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", fmt.Errorf("%s: is it the output folder of mkovf? %w", dir, err)
		}
		m := ovfVersion.FindSubmatch(b)
		switch {
		case m == nil:
		case version == "":
			version = string(m[1])
		case version != string(m[1]):
			return "", fault.New("version", "release-differ", name, string(m[1]), version)
		}
	}
	if version == "" {
		return "", fault.New("version", "release-unnamed")
	}
	return version, nil
}

// ImportDir publishes what mkovf wrote to a folder. version is as VersionIn
// takes it. progress is told of each file's bytes and
// may be nil. Nothing is seen of a version before all of it is there. Of a version
// that is published already, files whose bytes are missing are put back.
func (s *Service) ImportDir(ctx context.Context, who people.Actor, dir, version string, n Notes, progress func(name string, done, size int64)) (Imported, error) {
	version, err := VersionIn(dir, version)
	if err != nil {
		return Imported{}, err
	}
	begun, err := s.Begin(ctx, who, version, n)
	if err != nil {
		return Imported{}, err
	}
	if len(begun.Missing) > 0 {
		if err := s.putBack(ctx, dir, version, begun.Missing, progress); err != nil {
			return Imported{}, err
		}
		r, err := s.Get(ctx, version)
		return Imported{r, begun.Missing}, err
	}
	for _, name := range Names() {
		if err := s.importFile(ctx, dir, version, name, progress); err != nil {
			return Imported{}, err
		}
	}
	if err := s.Publish(ctx, who, version); err != nil {
		return Imported{}, err
	}
	r, err := s.Get(ctx, version)
	return Imported{Release: r}, err
}

func (s *Service) importFile(ctx context.Context, dir, version, name string, progress func(name string, done, size int64)) error {
	// What is published is what stands in the folder, not elsewhere.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return fmt.Errorf("%s is not complete: %w", dir, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", filepath.Join(dir, name))
	}
	_, err = s.Put(ctx, version, name, st.Size(), f, func(done int64) {
		if progress != nil {
			progress(name, done, st.Size())
		}
	})
	return err
}

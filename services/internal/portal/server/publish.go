package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/releases"
)

// Notes are files with what a release brings; "" is none.
type Notes struct{ EN, RU string }

// blobs is where releases' files are kept.
func (s *state) blobs(ctx context.Context) (releases.Blobs, error) {
	c := s.cfg.S3
	if c == nil {
		return releases.NewFolder(filepath.Join(s.cfg.Dir, "releases"))
	}
	if c.SecretFile == "" {
		return nil, errors.New("s3.secretFile: is empty")
	}
	secret, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("s3.secretFile: %w", err)
	}
	return releases.NewBucket(ctx, releases.S3{Endpoint: c.Endpoint, Bucket: c.Bucket, Region: c.Region, Key: c.Key, Secret: strings.TrimSpace(string(secret)), Plain: c.Plain})
}

// Publish lets accounts download what mkovf wrote to a folder, also while the
// portal runs. version is for files that name none, or to be sure; else "".
func Publish(ctx context.Context, cfg Config, dir, version string, notes Notes, out Out, log *slog.Logger) (err error) {
	version, err = releases.VersionIn(dir, version)
	if err != nil {
		return unpublished(dir, err)
	}
	fmt.Fprintf(out, "%s is version %s.\n", dir, version)
	s, err := open(ctx, cfg, log, key)
	if err != nil {
		return err
	}
	defer s.end(&err)
	b, err := s.blobs(ctx)
	if err != nil {
		return err
	}
	var n releases.Notes
	for _, x := range []struct {
		path string
		to   *string
	}{{notes.EN, &n.EN}, {notes.RU, &n.RU}} {
		if x.path == "" {
			continue
		}
		text, err := os.ReadFile(x.path)
		if err != nil {
			return err
		}
		*x.to = string(text)
	}
	who := people.Actor{Name: "portal publish", Operator: true, Via: "command"}
	bar := &bar{out: out}
	r, err := releases.New(s.db, s.vault, b, log).ImportDir(ctx, who, dir, version, n, bar.told)
	bar.end()
	if err != nil {
		return unpublished(dir, err)
	}
	if len(r.Back) > 0 {
		fmt.Fprintf(out, "Version %s is published already; put back what was missing: %s.\n", r.Version, strings.Join(r.Back, ", "))
		return nil
	}
	fmt.Fprintf(out, "Version %s is published: %d files.\n", r.Version, len(r.Files))
	return nil
}

// unpublished says it as pages do.
func unpublished(dir string, err error) error {
	if text := said(err); text != "" {
		return fmt.Errorf("%s is not published: %s", dir, text)
	}
	return err
}

// bar shows how far a file is: redrawn on a terminal, a line for each otherwise.
type bar struct {
	out   Out
	name  string
	drawn time.Time
}

func (b *bar) told(name string, done, size int64) {
	if !b.out.Terminal {
		if name != b.name {
			fmt.Fprintf(b.out, "%s, %d bytes\n", name, size)
		}
		b.name = name
		return
	}
	if now := time.Now(); now.Sub(b.drawn) > 100*time.Millisecond || done == size {
		b.drawn = now
		share := 1.0
		if size > 0 {
			share = float64(done) / float64(size)
		}
		const width = 30
		full := int(share * width)
		fmt.Fprintf(b.out, "\r\x1b[K[%s%s] %3.0f %% %s", strings.Repeat("#", full), strings.Repeat(".", width-full), share*100, name)
	}
}

func (b *bar) end() {
	if b.out.Terminal {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}

// said is what pages say about a fault, in English, or "".
func said(err error) string {
	var lines []string
	words := look.MustLoad(fault.Words, "words")[look.English]
	for _, f := range fault.Of(err) {
		lines = append(lines, f.Text(words))
	}
	return strings.Join(lines, " ")
}

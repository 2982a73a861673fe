package releases

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/people"
)

// progressLimit is how long a client may take for the next piece of a file.
const progressLimit = 60 * time.Second

// types are the content types of what is downloaded.
var types = map[string]string{
	".ovf": "application/xml", ".json": "application/json", ".txt": "text/plain; charset=utf-8", ".mf": "text/plain; charset=utf-8",
}

// Serve sends a file of a published version: ranges (RFC 9110, 14), conditions by
// its SHA-256, HEAD. The caller has found out that whoever asks may have it. An
// error means that nothing was sent.
func (s *Service) Serve(w http.ResponseWriter, r *http.Request, version, name string) error {
	rel, err := s.Get(r.Context(), version)
	if err != nil {
		return err
	}
	f, ok := rel.File(name)
	if !ok || rel.Published.IsZero() || !rel.Withdrawn.IsZero() {
		return people.ErrUnknown
	}
	to, err := s.blobs.Link(r.Context(), f.Sum, f.Name)
	if err != nil {
		return lost(err, version, name)
	}
	if to != "" {
		http.Redirect(w, r, to, http.StatusFound)
		return nil
	}
	b, err := s.blobs.Open(r.Context(), f.Sum)
	if err != nil {
		return lost(err, version, name)
	}
	defer b.Close()
	if n, err := b.Seek(0, io.SeekEnd); err != nil || n != f.Size {
		return errors.Join(Lost{version, name}, err)
	}
	if _, err := b.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("release %s: %w", version, err)
	}
	kind := types[strings.ToLower(path.Ext(f.Name))]
	if kind == "" {
		kind = "application/octet-stream"
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.Name}))
	h.Set("ETag", `"`+f.Sum+`"`)
	h.Set("Cache-Control", "private, no-cache")
	var content io.ReadSeeker = b
	rc := http.NewResponseController(w)
	if r.TLS != nil {
		content = &paced{ReadSeeker: b, rc: rc}
	} else if err := rc.SetWriteDeadline(time.Time{}); err != nil {
		// The kernel sends the file by itself (sendfile) only when it is handed
		// over as it is.
		return err
	}
	http.ServeContent(w, r, "", rel.Published, content)
	return nil
}

// paced gives the client new time with each piece that it has taken.
type paced struct {
	io.ReadSeeker
	rc   *http.ResponseController
	last time.Time
}

func (p *paced) Read(b []byte) (int, error) {
	// Once a second is enough, and costs nothing.
	if now := time.Now(); now.Sub(p.last) > time.Second {
		_ = p.rc.SetWriteDeadline(now.Add(progressLimit))
		p.last = now
	}
	return p.ReadSeeker.Read(b)
}

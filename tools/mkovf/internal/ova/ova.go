// Package ova packs an OVF package into one ustar archive (DMTF DSP0243 section 5.3): descriptor, manifest, disks.
//
// Every header is the same but for name and size: mode 0644, owner 0, no owner names, one fixed time. The archive ends
// with the two zero blocks that POSIX asks for and is not padded to tar's record of 10,240 bytes: govmomi, virt-v2v,
// 7-Zip and GNU tar need no more. (A reader that stops at the end of the last member needs not even these.)
//
// Limits: members up to 8 GiB (ustar's octal size field; larger ones would need extensions that importers lack), names
// flat and up to 100 bytes.
package ova

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// MaxMember is the largest member in bytes.
const MaxMember = 8<<30 - 1

// modTime is in every header. Zero is avoided: some unpackers take it for "no time".
var modTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

var reName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Member is a file of the archive.
type Member struct {
	Name string
	Size int64 // bytes; R has to hold at least these
	R    io.ReaderAt
}

// Result describes a finished archive.
type Result struct {
	Size    int64 // bytes
	SHA256  [32]byte
	Offsets []int64 // of each member's first byte
}

// Write writes members to w in the order given. The first has to be the descriptor (.ovf), the second the manifest
// (.mf), because importers that stream read them before the disks.
func Write(ctx context.Context, w io.Writer, members []Member) (Result, error) {
	if err := check(members); err != nil {
		return Result{}, fmt.Errorf("ova: %w", err)
	}
	h := sha256.New()
	out := &counter{w: io.MultiWriter(w, h)}
	t := tar.NewWriter(out)
	var res Result
	buf := make([]byte, 1<<20)
	for _, m := range members {
		err := t.WriteHeader(&tar.Header{
			Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: m.Name, Size: m.Size, Mode: 0o644, ModTime: modTime,
		})
		if err != nil {
			return Result{}, fmt.Errorf("ova: header of %q: %w", m.Name, err)
		}
		res.Offsets = append(res.Offsets, out.n)
		// The wrapper hides other methods, so that the copy goes through the buffer and sees a cancelled context.
		n, err := io.CopyBuffer(struct{ io.Writer }{t}, ctxReader{ctx, io.NewSectionReader(m.R, 0, m.Size)}, buf)
		if err == nil && n != m.Size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return Result{}, fmt.Errorf("ova: member %q, %d of %d bytes: %w", m.Name, n, m.Size, err)
		}
	}
	if err := t.Close(); err != nil {
		return Result{}, fmt.Errorf("ova: %w", err)
	}
	res.Size = out.n
	h.Sum(res.SHA256[:0])
	return res, nil
}

func check(members []Member) error {
	if len(members) < 2 || !strings.HasSuffix(members[0].Name, ".ovf") || !strings.HasSuffix(members[1].Name, ".mf") {
		return errors.New("members have to begin with descriptor (.ovf) and manifest (.mf)")
	}
	seen := map[string]bool{}
	for _, m := range members {
		switch {
		case !reName.MatchString(m.Name):
			return fmt.Errorf("member name %q, want %s", m.Name, reName)
		case seen[m.Name]:
			return fmt.Errorf("member %q stands twice", m.Name)
		case m.Size < 0 || m.Size > MaxMember:
			return fmt.Errorf("member %q of %d bytes, want at most %d", m.Name, m.Size, int64(MaxMember))
		}
		seen[m.Name] = true
	}
	return nil
}

// counter counts what tar writes, which is where members' offsets come from.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

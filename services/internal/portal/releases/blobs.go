package releases

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Blobs keeps files by the SHA-256 of their bytes.
type Blobs interface {
	// Put writes all of r to a place of its own; size is how much will come.
	Put(ctx context.Context, r io.Reader, size int64) (Saved, error)
	Open(ctx context.Context, sum string) (io.ReadSeekCloser, error)
	// Link returns an address from which a browser gets the blob for a short time
	// under a name, or "" when this process must send it. Where the blob is not
	// there, it or Open returns fs.ErrNotExist.
	Link(ctx context.Context, sum, name string) (string, error)
	List(ctx context.Context) ([]Blob, error)
	Remove(ctx context.Context, sum string) error
}

// Saved is what Put wrote.
type Saved interface {
	// Keep gives it its name, durably.
	Keep(sum string) error
	// Drop removes it unless it was kept.
	Drop()
}

// Blob is one that is there.
type Blob struct {
	Name     string
	Size     int64 // bytes
	Modified time.Time
}

var sumName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Folder keeps blobs in a folder, which several instances may share.
type Folder struct{ dir string }

// partial begins the names of files that are being written.
const partial = "partial-"

// NewFolder returns the folder dir, which is made when it is not there. What an
// earlier process left half-written goes when it is old.
func NewFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("release files: %w", err)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("release files: %w", err)
	}
	for _, e := range list {
		if i, err := e.Info(); err == nil && len(e.Name()) > len(partial) && e.Name()[:len(partial)] == partial && time.Since(i.ModTime()) > lonely {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	return &Folder{dir}, nil
}

type savedFile struct {
	folder *Folder
	path   string
	kept   bool
}

// Put implements Blobs.
func (f *Folder) Put(ctx context.Context, r io.Reader, _ int64) (Saved, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	s := &savedFile{folder: f, path: filepath.Join(f.dir, partial+hex.EncodeToString(b[:]))}
	out, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("release file: %w", err)
	}
	_, err = io.Copy(out, &untilDone{ctx, r})
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		s.Drop()
		return nil, fmt.Errorf("release file: %w", err)
	}
	return s, nil
}

// untilDone reads until ctx ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}

func (s *savedFile) Keep(sum string) error {
	if !sumName.MatchString(sum) {
		return fmt.Errorf("blob %q: no SHA-256", sum)
	}
	if err := os.Rename(s.path, filepath.Join(s.folder.dir, sum)); err != nil {
		return fmt.Errorf("release file: %w", err)
	}
	s.kept = true
	d, err := os.Open(s.folder.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *savedFile) Drop() {
	if !s.kept {
		_ = os.Remove(s.path)
	}
}

// Open implements Blobs; what it returns is an *os.File.
func (f *Folder) Open(_ context.Context, sum string) (io.ReadSeekCloser, error) {
	if !sumName.MatchString(sum) {
		return nil, fs.ErrNotExist
	}
	return os.Open(filepath.Join(f.dir, sum))
}

// Link implements Blobs.
func (f *Folder) Link(context.Context, string, string) (string, error) { return "", nil }

// List implements Blobs.
func (f *Folder) List(context.Context) ([]Blob, error) {
	list, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("release files: %w", err)
	}
	var out []Blob
	for _, e := range list {
		if i, err := e.Info(); err == nil && sumName.MatchString(e.Name()) {
			out = append(out, Blob{e.Name(), i.Size(), i.ModTime()})
		}
	}
	return out, nil
}

// Remove implements Blobs.
func (f *Folder) Remove(_ context.Context, sum string) error {
	if !sumName.MatchString(sum) {
		return fs.ErrNotExist
	}
	return os.Remove(filepath.Join(f.dir, sum))
}

// S3 is where object storage is, and who comes.
type S3 struct {
	Endpoint string // host, or host:port
	Bucket   string
	Region   string
	Key      string
	Secret   string
	Plain    bool // http, for a machine of one's own
}

// Bucket keeps blobs in object storage that speaks S3. Downloads go there
// straight, by addresses that are good for linkFor.
type Bucket struct {
	client *minio.Client
	bucket string
}

// linkFor is how long a download's address is good: long enough to begin, and
// for a download manager to go on with what broke off.
const linkFor = time.Hour

// NewBucket returns a bucket, which must exist.
func NewBucket(ctx context.Context, c S3) (*Bucket, error) {
	client, err := minio.New(c.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(c.Key, c.Secret, ""), Secure: !c.Plain, Region: c.Region, BucketLookup: minio.BucketLookupAuto})
	if err != nil {
		return nil, fmt.Errorf("object storage %s: %w", c.Endpoint, err)
	}
	ok, err := client.BucketExists(ctx, c.Bucket)
	if err != nil {
		return nil, fmt.Errorf("object storage %s: %w", c.Endpoint, err)
	}
	if !ok {
		return nil, fmt.Errorf("object storage %s has no bucket %q", c.Endpoint, c.Bucket)
	}
	return &Bucket{client, c.Bucket}, nil
}

type savedObject struct {
	b    *Bucket
	ctx  context.Context
	name string
}

// Put implements Blobs.
func (b *Bucket) Put(ctx context.Context, r io.Reader, size int64) (Saved, error) {
	var n [8]byte
	if _, err := rand.Read(n[:]); err != nil {
		return nil, err
	}
	s := &savedObject{b, ctx, partial + hex.EncodeToString(n[:])}
	if _, err := b.client.PutObject(ctx, b.bucket, s.name, r, size, minio.PutObjectOptions{ContentType: "application/octet-stream"}); err != nil {
		return nil, fmt.Errorf("object storage: %w", err)
	}
	return s, nil
}

func (s *savedObject) Keep(sum string) error {
	if !sumName.MatchString(sum) {
		return fmt.Errorf("blob %q: no SHA-256", sum)
	}
	_, err := s.b.client.CopyObject(s.ctx, minio.CopyDestOptions{Bucket: s.b.bucket, Object: sum}, minio.CopySrcOptions{Bucket: s.b.bucket, Object: s.name})
	if err != nil {
		return fmt.Errorf("object storage: %w", err)
	}
	return nil
}

// Drop removes the first copy, also of what was kept.
func (s *savedObject) Drop() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 10*time.Second)
	defer cancel()
	_ = s.b.client.RemoveObject(ctx, s.b.bucket, s.name, minio.RemoveObjectOptions{})
}

// Open implements Blobs.
func (b *Bucket) Open(ctx context.Context, sum string) (io.ReadSeekCloser, error) {
	o, err := b.client.GetObject(ctx, b.bucket, sum, minio.GetObjectOptions{})
	if err != nil {
		return nil, fmt.Errorf("object storage: %w", err)
	}
	return o, nil
}

// Link implements Blobs.
func (b *Bucket) Link(ctx context.Context, sum, name string) (string, error) {
	if _, err := b.client.StatObject(ctx, b.bucket, sum, minio.StatObjectOptions{}); err != nil {
		if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
			err = fs.ErrNotExist
		}
		return "", fmt.Errorf("object storage: %w", err)
	}
	u, err := b.client.PresignedGetObject(ctx, b.bucket, sum, linkFor, url.Values{"response-content-disposition": {`attachment; filename="` + name + `"`}})
	if err != nil {
		return "", fmt.Errorf("object storage: %w", err)
	}
	return u.String(), nil
}

// List implements Blobs.
func (b *Bucket) List(ctx context.Context) ([]Blob, error) {
	var out []Blob
	for o := range b.client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{}) {
		if o.Err != nil {
			return nil, fmt.Errorf("object storage: %w", o.Err)
		}
		if sumName.MatchString(o.Key) {
			out = append(out, Blob{o.Key, o.Size, o.LastModified})
		}
	}
	return out, nil
}

// Remove implements Blobs.
func (b *Bucket) Remove(ctx context.Context, sum string) error {
	return b.client.RemoveObject(ctx, b.bucket, sum, minio.RemoveObjectOptions{})
}

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/parley-meet/parley/image"
	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/tools/mkovf/internal/diskformat"
)

type options struct {
	config, out, formats string
	biosOnly             bool
	progress             *progress
}

// result is the -json line.
type result struct {
	Version string       `json:"version"`
	Seconds float64      `json:"seconds"`
	Disk    int64        `json:"diskBytes"` // capacity
	Files   []resultFile `json:"files"`
}

type resultFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// run builds into a hidden folder inside the output folder, so that renames at
// the end stay on one file system.
func run(ctx context.Context, o options) (_ *result, err error) {
	formats, err := diskformat.Parse(o.formats)
	if err != nil {
		return nil, fmt.Errorf("-format: %w", err)
	}
	cfg, err := config.Load(o.config)
	if err != nil {
		return nil, err
	}
	if o.biosOnly {
		cfg.Boot.Firmware = []string{config.BIOS}
	}
	dir, err := moduleDir(ctx)
	if err != nil {
		return nil, err
	}
	version, err := image.GitVersion(ctx, dir)
	if err != nil {
		// A source archive has no history; it still builds, and says so.
		fmt.Fprintf(os.Stderr, "mkovf: no version from git (%v); the image calls itself %s\n", err, image.Unversioned.String)
		version = image.Unversioned
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(o.out, ".mkovf-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	p := &packer{options: o, cfg: cfg, dir: dir, work: work, version: version}
	return p.run(ctx, formats)
}

// moduleDir is the folder of the go.mod that mkovf was started in: what it
// compiles is there, wherever config.json is.
func moduleDir(ctx context.Context) (string, error) {
	out, err := goCommand(ctx, ".", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return "", errors.New("no go.mod here or above: start mkovf in a checkout of Parley")
	}
	return filepath.Dir(mod), nil
}

// output is a file of the result, written in the work folder.
type output struct {
	*os.File
	h hash.Hash
	n int64
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.File.Write(p)
	o.h.Write(p[:n])
	o.n += int64(n)
	return n, err
}

// create makes a file whose Write is hashed.
func (p *packer) create(name string) (*output, error) {
	f, err := os.Create(filepath.Join(p.work, name))
	if err != nil {
		return nil, err
	}
	return &output{File: f, h: sha256.New()}, nil
}

// finish makes the file durable and takes it into the result.
func (p *packer) finish(name string, f *os.File, size int64, sum [32]byte) error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	p.files = append(p.files, resultFile{name, size, hex.EncodeToString(sum[:])})
	return nil
}

// write makes a whole small file.
func (p *packer) write(name string, data []byte) error {
	f, err := p.create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return p.finish(name, f.File, f.n, [32]byte(f.h.Sum(nil)))
}

// hashFile hashes what was written out of order.
func hashFile(f *os.File, size int64) ([32]byte, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, size)); err != nil {
		return [32]byte{}, err
	}
	return [32]byte(h.Sum(nil)), nil
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

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

	sum [32]byte
}

// run builds into a hidden folder inside the output folder and moves the files
// out of it when everything is there.
func run(ctx context.Context, o options) (_ *result, err error) {
	formats, err := diskformat.Parse(o.formats)
	if err != nil {
		return nil, fmt.Errorf("-format: %w", err)
	}
	cfg, err := config.Load(o.config)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withHint(err, "name the description with -config, or start mkovf in the top folder of a checkout of Parley")
	}
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
	toolchain, err := image.NewToolchain(ctx, dir)
	if err != nil {
		return nil, err
	}
	version, err := image.GitVersion(ctx, dir)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		// A source archive has no history; it still builds, and says so.
		o.progress.say("no version from git (%v); the image calls itself %s", err, image.Unversioned.String)
		version = image.Unversioned
	}
	w, err := newWork(o.out)
	if err != nil {
		return nil, withHint(fmt.Errorf("output folder: %w", err), "name a folder that can be written with -o")
	}
	defer func() { err = errors.Join(err, w.remove()) }()
	p := &packer{options: o, cfg: cfg, toolchain: toolchain, work: w.dir, version: version}
	res, err := p.run(ctx, formats)
	if errors.Is(err, syscall.ENOSPC) {
		err = withHint(err, "free some space, or name a folder on another disk with -o")
	}
	if err != nil {
		return nil, err
	}
	// From here on nothing is computed, and an interrupt comes too late.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var names []string
	for _, f := range p.files {
		names = append(names, f.Name)
	}
	return res, w.publish(names)
}

// moduleDir is the folder of the go.mod that mkovf was started in: what it
// compiles is there, wherever config.json is.
func moduleDir(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOMOD")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", withHint(err, "install Go (https://go.dev/dl/) and put it into PATH")
	}
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w\n%s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return "", withHint(errors.New("no go.mod here or above"), "start mkovf in the top folder of a checkout of Parley")
	}
	return filepath.Dir(mod), nil
}

// hinted is an error with a word about what to do.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

func withHint(err error, hint string) error { return hinted{err, hint} }

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
	p.files = append(p.files, resultFile{name, size, hex.EncodeToString(sum[:]), sum})
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

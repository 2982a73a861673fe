package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const mib = 1 << 20

// inputs are what the programs are measured on.
type inputs struct {
	disks, trees []input
	notes        []string // what was used, for the reader of the table
}

func prepare(ctx context.Context, o options, work string) (inputs, error) {
	var in inputs
	note := func(format string, args ...any) { in.notes = append(in.notes, fmt.Sprintf(format, args...)) }
	if o.disk == "" {
		note("delivered disk: none given (-disk)")
	} else {
		st, err := os.Stat(o.disk)
		if err != nil {
			return in, err
		}
		in.disks = append(in.disks, input{"delivered disk", o.disk, st.Size()})
		note("delivered disk: %s, %.0f MB", o.disk, float64(st.Size())/1e6)
		root := filepath.Join(work, "root")
		size, err := extractRoot(ctx, o.disk, root)
		if err != nil {
			return in, err
		}
		in.trees = append(in.trees, input{"its root", root, size})
	}
	dirs, err := candidates(ctx, o.tree)
	if err != nil {
		return in, err
	}
	tree := filepath.Join(work, "tree")
	size, used, err := gather(ctx, dirs, tree, o.mb*1e6)
	if err != nil {
		return in, err
	}
	note("real files: %.0f MB from %s", float64(size)/1e6, strings.Join(used, ", "))
	in.trees = append(in.trees, input{"real files", tree, size})
	raw := filepath.Join(work, "tree.raw")
	size, err = tarDisk(tree, raw)
	if err != nil {
		return in, err
	}
	in.disks = append(in.disks, input{"tar of real files", raw, size})
	return in, nil
}

// candidates are folders of real files, in the order in which they are taken until there is enough.
func candidates(ctx context.Context, tree string) ([]string, error) {
	if tree != "" {
		return []string{tree}, nil
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	return append(strings.Fields(string(out)), "/usr/lib", "/usr/share", "/usr/bin"), nil
}

var errEnough = errors.New("enough")

// gather copies files from dirs in order into to, each folder below a number, until they have at least want bytes. It
// says how many there are and which folders it took. mksquashfs follows no links, so the files have to be copied; only
// regular files that can be read are taken, each once.
func gather(ctx context.Context, dirs []string, to string, want int64) (size int64, used []string, err error) {
	for n, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		before := size
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err != nil || !d.Type().IsRegular() {
				return nil // folders that are not ours to read are no loss
			}
			rel, err := filepath.Rel(dir, name)
			if err != nil {
				return err
			}
			copied, err := copyFile(filepath.Join(to, strconv.Itoa(n), rel), name)
			if errors.Is(err, fs.ErrPermission) {
				return nil
			}
			if size += copied; err == nil && size >= want {
				err = errEnough
			}
			return err
		})
		if size > before {
			used = append(used, fmt.Sprintf("%s (%.0f MB)", dir, float64(size-before)/1e6))
		}
		if errors.Is(err, errEnough) {
			return size, used, nil
		}
		if err != nil {
			return 0, nil, err
		}
	}
	return 0, nil, fmt.Errorf("%q hold %d bytes, want %d: name a larger folder (-tree) or less (-mb)", dirs, size, want)
}

func copyFile(to, from string) (int64, error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return 0, err
	}
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, in)
	return n, errors.Join(err, out.Close())
}

// tarDisk makes a raw disk of whole MiB that holds a tar of the folder.
func tarDisk(dir, to string) (int64, error) {
	f, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	t := tar.NewWriter(f)
	if err := t.AddFS(os.DirFS(dir)); err != nil {
		return 0, err
	}
	if err := t.Close(); err != nil {
		return 0, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	size = (size + mib - 1) / mib * mib
	return size, errors.Join(f.Truncate(size), f.Close())
}

// extractRoot unpacks the first squashfs partition of the disk and returns the bytes of its files.
func extractRoot(ctx context.Context, disk, to string) (size int64, err error) {
	f, err := os.Open(disk)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	off, err := findSquashfs(f)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", disk, err)
	}
	// Exit status 2 only says that owners or devices could not be made, without root.
	out, err := exec.CommandContext(ctx, "unsquashfs", "-no-progress", "-no-xattrs", "-o", strconv.FormatInt(off, 10), "-d", to, disk).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 2) {
		return 0, fmt.Errorf("unsquashfs of %s at %d: %w\n%s", disk, off, err, out)
	}
	err = filepath.WalkDir(to, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// findSquashfs looks for squashfs' magic at the start of every GPT partition (UEFI specification, section 5.3).
func findSquashfs(r io.ReaderAt) (off int64, err error) {
	const sector, entries, entrySize = 512, 128, 128
	head := make([]byte, 8)
	if _, err := r.ReadAt(head, sector); err != nil || string(head) != "EFI PART" {
		return 0, errors.New("no GPT on the disk")
	}
	table := make([]byte, entries*entrySize)
	if _, err := r.ReadAt(table, 2*sector); err != nil {
		return 0, fmt.Errorf("read partition table: %w", err)
	}
	for e := range entries {
		first := int64(binary.LittleEndian.Uint64(table[e*entrySize+32:]))
		if first <= 0 || first > 1<<40 {
			continue
		}
		if _, err := r.ReadAt(head[:4], first*sector); err == nil && bytes.Equal(head[:4], []byte("hsqs")) {
			return first * sector, nil
		}
	}
	return 0, errors.New("no partition holds a squashfs")
}

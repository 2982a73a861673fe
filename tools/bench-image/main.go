// Bench-image measures the image's writers against the tools everybody has: package vmdk against qemu-img's
// streamOptimized conversion, package squashfs against mksquashfs -comp gzip. Both sides run as whole processes, in
// turns, several times; what counts is their user and system time (so other load on the machine matters little) and the
// size of what they write. It prints a table of medians and, as the last line, one JSON object.
//
// Inputs are the delivered disk with the root file system on it (-disk), and at least -mb megabytes of real files: for
// the squashfs a folder of them, for the VMDK a tar of that folder. Where both inputs are measured, the JSON line holds
// the worse figure of the two.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/parley-meet/parley/image/squashfs"
)

type options struct {
	disk, tree, work string
	mb               int64
	runs             int
}

func main() {
	var o options
	flag.StringVar(&o.disk, "disk", "", "raw image of the delivered `disk` (empty: only real files are measured)")
	flag.StringVar(&o.tree, "tree", "", "`folder` of real files (empty: Go's distribution, then the module cache, then /usr)")
	flag.StringVar(&o.work, "work", "", "`folder` for inputs and outputs, about four times -mb (empty: a temporary one)")
	flag.Int64Var(&o.mb, "mb", 500, "megabytes (10^6) of real files at least")
	flag.IntVar(&o.runs, "runs", 3, "runs of each program on each input")
	pack := flag.String("pack-squashfs", "", "pack `folder` into the file given as argument and exit (used by the program itself)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *pack != "" {
		err = packSquashfs(ctx, *pack, flag.Arg(0))
	} else {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-image:", err)
		os.Exit(1)
	}
}

// packSquashfs is our side of the comparison with mksquashfs, in a child process.
func packSquashfs(ctx context.Context, dir, to string) error {
	entries, err := squashfs.FromDir(dir)
	if err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = squashfs.Write(ctx, f, entries, squashfs.Options{ModTime: time.Unix(1_000_000_000, 0)})
	return errors.Join(err, f.Close())
}

func run(ctx context.Context, o options) error {
	for _, tool := range []string{"qemu-img", "mksquashfs", "unsquashfs"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w (Debian: apt install qemu-utils squashfs-tools)", err)
		}
	}
	if o.runs < 1 || o.mb < 1 {
		return fmt.Errorf("%d runs on %d MB, want at least 1", o.runs, o.mb)
	}
	work, err := os.MkdirTemp(o.work, "bench-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	raw2vmdk := filepath.Join(work, "raw2vmdk")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", raw2vmdk,
		"github.com/parley-meet/parley/tools/mkovf/internal/vmdk/raw2vmdk")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build raw2vmdk: %w\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	in, err := prepare(ctx, o, work)
	if err != nil {
		return err
	}

	var vmdks, trees []comparison
	for _, i := range in.disks {
		c, err := compare(ctx, o.runs, work, i,
			program{"vmdk.Write", func(out string) []string { return []string{raw2vmdk, i.path, out} }},
			program{"qemu-img convert", func(out string) []string {
				return []string{"qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", i.path, out}
			}},
			func(out string) []string {
				return []string{"qemu-img", "compare", "-f", "raw", "-F", "vmdk", i.path, out}
			})
		if err != nil {
			return err
		}
		vmdks = append(vmdks, c)
	}
	for _, i := range in.trees {
		c, err := compare(ctx, o.runs, work, i,
			program{"squashfs.Write", func(out string) []string { return []string{self, "-pack-squashfs", i.path, out} }},
			program{"mksquashfs -comp gzip", func(out string) []string {
				return []string{"mksquashfs", i.path, out, "-comp", "gzip", "-noappend", "-no-progress", "-quiet"}
			}},
			func(out string) []string { return []string{"unsquashfs", "-lln", out} })
		if err != nil {
			return err
		}
		trees = append(trees, c)
	}
	return report(os.Stdout, in.notes, vmdks, trees)
}

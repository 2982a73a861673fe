// Raw2vmdk converts one raw disk image to a streamOptimized VMDK: `raw2vmdk disk.raw disk.vmdk`. It is package vmdk as a
// process of its own, to be measured against and compared with other converters; mkovf does not use it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/parley-meet/parley/tools/mkovf/internal/vmdk"
)

func main() {
	workers := flag.Int("workers", 0, "goroutines that compress (0: one per processor)")
	level := flag.Int("level", 0, "compression level 1 to 9 (0: the writer's own)")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: raw2vmdk [flags] disk.raw disk.vmdk")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Arg(0), flag.Arg(1), vmdk.Options{Workers: *workers, Level: *level}); err != nil {
		fmt.Fprintln(os.Stderr, "raw2vmdk:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, from, to string, opt vmdk.Options) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	opt.ExtentName = filepath.Base(to)
	res, err := vmdk.Write(ctx, out, in, st.Size(), opt)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(to) // an unfinished file must not be taken for a disk; the first error tells why
		return err
	}
	fmt.Printf("%x  %s, %d bytes, CID %08x, %d grains, %d zero\n", res.SHA256, to, res.Size, res.CID, res.Grains, res.ZeroGrains)
	return nil
}

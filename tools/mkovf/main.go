// Mkovf makes the appliance from config.json: it builds the disk and writes it
// as OVF, VMDK, manifest and OVA, once for each variant, with a bill of
// materials, licences and sources beside them.
//
//	go run ./tools/mkovf [-config config.json] [-o dist] [-format raw,qcow2,vhd]
//
// It needs the Go toolchain and nothing else. The output folder is changed
// only when everything is written.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = `Usage: mkovf [-config FILE] [-o DIR] [-format LIST] [-bios-only] [-json]

Build the appliance that FILE describes and write it to DIR, for each variant
as NAME.ovf, NAME.vmdk, NAME.mf and NAME.ova, with a bill of materials
(parley.cdx.json), licences and sources of what it contains. DIR changes only
when everything is there.

`

func main() { os.Exit(start()) }

// start is main without the exit: 0, 1 when nothing was made, 2 for a wrong
// command line.
func start() int {
	var o options
	fs := flag.NewFlagSet("mkovf", flag.ContinueOnError)
	fs.StringVar(&o.config, "config", "config.json", "description of the appliance, a `file`; paths in it start at the folder of go.mod")
	fs.StringVar(&o.out, "o", "dist", "output `folder`")
	fs.StringVar(&o.formats, "format", "", "more forms of the disk, a `list` of raw, qcow2, vhd: written as parley.raw …")
	fs.BoolVar(&o.biosOnly, "bios-only", false, "leave UEFI out, whatever config.json says")
	asJSON := fs.Bool("json", false, "print the result as one line of JSON")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), usage)
		fs.PrintDefaults()
	}
	fs.SetOutput(os.Stderr)
	if err := fs.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "mkovf: unexpected argument %q\n", fs.Arg(0))
		fs.Usage()
		return 2
	}
	// SIGHUP: the terminal was closed.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	o.progress = newProgress(os.Stderr)
	begin := time.Now()
	res, err := run(ctx, o)
	o.progress.close()
	if err == nil {
		res.Seconds = time.Since(begin).Seconds()
		err = report(os.Stdout, res, *asJSON)
	} else if ctx.Err() != nil {
		err = errors.New("interrupted; the output folder is as it was")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mkovf:", err)
		if h := (hinted{}); errors.As(err, &h) {
			fmt.Fprintln(os.Stderr, "hint:", h.hint)
		}
		return 1
	}
	return 0
}

func report(w io.Writer, res *result, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(res)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Parley %s in %.1f s\n", res.Version, res.Seconds)
	for _, f := range res.Files {
		fmt.Fprintf(&b, "  %-28s %10.1f MB  sha256 %s\n", f.Name, float64(f.Size)/1e6, f.SHA256)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

package qemutest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/parley-meet/parley/image/layout"
)

// CopyDisk copies a raw image and leaves holes where it is zero.
func CopyDisk(from, to string) (err error) {
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
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(st.Size()); err != nil {
		return err
	}
	buf, zero := make([]byte, layout.MiB), make([]byte, layout.MiB)
	for at := int64(0); at < st.Size(); at += layout.MiB {
		n, err := in.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return err
		}
		if bytes.Equal(buf[:n], zero[:n]) {
			continue
		}
		if _, err := out.WriteAt(buf[:n], at); err != nil {
			return err
		}
	}
	return nil
}

// AddArguments adds kernel arguments to slot A's command line for BIOS, in a raw
// image.
func AddArguments(disk string, args ...string) (err error) {
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sector := make([]byte, layout.SectorSize)
	at := layout.CmdlineA.Start.Bytes()
	if _, err := f.ReadAt(sector, at); err != nil {
		return err
	}
	line, _, _ := bytes.Cut(sector, []byte{0})
	if len(line) == 0 {
		return fmt.Errorf("%s has no kernel command line for BIOS", disk)
	}
	line = append(bytes.Clone(line), (" " + strings.Join(args, " "))...)
	if len(line) > layout.MaxCmdline {
		return fmt.Errorf("kernel command line of %d bytes, at most %d fit", len(line), layout.MaxCmdline)
	}
	clear(sector)
	copy(sector, line)
	_, err = f.WriteAt(sector, at)
	return err
}

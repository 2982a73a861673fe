package image

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/squashfs"
)

// File is an entry of the root file system and why it is there.
type File struct {
	squashfs.Entry
	Why string
}

// ServicePath is where the program of a service's package is in the root.
// Services of one package share it.
func ServicePath(pkg string) string { return layout.ServiceDir + "/" + path.Base(pkg) }

// files lists the whole root file system. Nothing else is in it: no shell, no
// C program, no library.
func (b *builder) files(bins map[string]string) ([]File, error) {
	cfg, err := b.Config.Canonical()
	if err != nil {
		return nil, err
	}
	font, err := os.ReadFile(filepath.Join(b.Go.Dir, "image", "boot", "uni2-fixed16.psf"))
	if err != nil {
		return nil, err
	}
	files := []File{
		dir("/dev", "mount point: devices"),
		dir("/proc", "mount point: processes"),
		dir("/sys", "mount point: kernel"),
		dir("/run", "mount point: state in RAM"),
		dir("/tmp", "mount point: gokrazy mounts a RAM disk here"),
		dir(layout.PermMount, "mount point: state that is kept"),
		text(layout.VersionPath, b.Version.File(), "the version, in no other file"),
		text(layout.ConfigPath, string(cfg), "what PID 1 runs"),
		text(layout.FontPath, string(font), "console font with Cyrillic letters"),
		text("/etc/hostname", b.Config.Hostname, "host name that gokrazy sets"),
		text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", "Go's resolver: localhost"),
		link("/etc/resolv.conf", layout.RunDir+"/network/resolv.conf", "Go's resolver: name servers, written by network"),
	}
	programs := []string{layout.InitPath}
	why := map[string]string{layout.InitPath: "PID 1; gives up privileges, then becomes a service"}
	for _, s := range b.Config.Services {
		p := ServicePath(s.Package)
		if why[p] == "" {
			programs = append(programs, p)
			why[p] = "service: " + s.Title
		} else {
			why[p] += ", " + s.Title
		}
	}
	for _, p := range programs {
		f, err := program(p, bins[p], why[p])
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func rel(p string) string { return strings.TrimPrefix(p, "/") }

func dir(p, why string) File {
	return File{squashfs.Entry{Path: rel(p), Mode: fs.ModeDir | 0o755}, why}
}

func text(p, content, why string) File {
	return File{squashfs.Entry{Path: rel(p), Mode: 0o644, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader([]byte(content))), nil
	}}, why}
}

func link(p, target, why string) File {
	return File{squashfs.Entry{Path: rel(p), Mode: fs.ModeSymlink | 0o777, Target: target}, why}
}

func program(p, from, why string) (File, error) {
	st, err := os.Stat(from)
	if err != nil {
		return File{}, fmt.Errorf("program %s: %w", p, err)
	}
	return File{squashfs.Entry{
		// Plain: every start of the machine and of a service reads it, and the
		// VMDK and an update's chunks are compressed anyway.
		Path: rel(p), Mode: 0o755, Size: st.Size(), AlignTo: layout.ChunkSize, Plain: true,
		Open: func() (io.ReadCloser, error) { return os.Open(from) },
	}, why}, nil
}

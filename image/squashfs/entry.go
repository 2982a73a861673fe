package squashfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Entry is one file of an image.
type Entry struct {
	// Path is relative to the image's root, slash separated and clean
	// (fs.ValidPath); "." is the root itself. Directories that no entry names
	// are made with mode 0755 and owner 0. A path's element has at most 256
	// bytes; Linux finds names only up to 255.
	Path string

	// Mode has the type: a directory, a regular file, a symbolic link or a
	// device. The permissions, setuid, setgid and sticky bits are kept, except
	// that links always get 0777.
	Mode     fs.FileMode
	UID, GID uint32

	// Size is a regular file's size in bytes. Open must give exactly as many;
	// it may be called twice and is not called when Size is 0.
	Size int64
	Open func() (io.ReadCloser, error)

	Target       string // of a symbolic link, at most 4095 bytes
	Major, Minor uint32 // of a device, 12 and 20 bits

	// AlignTo, when not 0, is a power of two: the file's first stored block
	// begins at a multiple of this many bytes from the start of the image, and
	// all its bytes are contiguous, its tail in a short block of its own.
	AlignTo int64

	// Plain stores the file's own blocks as they are, to be read without
	// unpacking.
	Plain bool
}

// FromDir lists the folder dir for Write, sorted by path: owner 0, permissions
// as found, symbolic links as links, hard-linked files as files. The folder's
// own permissions become the root's. Anything but folders, regular files and
// links is an error.
func FromDir(dir string) ([]Entry, error) {
	var entries []Entry
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := Entry{Path: filepath.ToSlash(rel), Mode: info.Mode()}
		switch e.Mode.Type() {
		case fs.ModeDir:
		case 0:
			e.Size = info.Size()
			e.Open = func() (io.ReadCloser, error) { return os.Open(name) }
		case fs.ModeSymlink:
			if e.Target, err = os.Readlink(name); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%q is a %v, want a folder, file or link", name, e.Mode.Type())
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("squashfs: list of %q: %w", dir, err)
	}
	return entries, nil
}

// node is an entry in its tree, and what the passes have learned of it.
type node struct {
	Entry
	name   string
	listed bool     // an entry names it
	parent *node    // nil for the root
	sorted []*node  // children, by name once the tree is complete
	num    uint32   // inode number, 1 is the first
	ref    metaRef  // the inode's place
	data   fileData // of a regular file
}

// fileData says where a file's content lies.
type fileData struct {
	start  int64    // of the first stored block, bytes from the start of the image
	blocks []uint32 // stored sizes as the inode has them, 0 is a hole
	sparse int64    // bytes in holes

	fragment uint32 // number of the fragment block, or noFragment
	offset   uint32 // of the tail in it

	same *node // another file has the content
}

// tree collects nodes by path while the tree is built.
type tree map[string]*node

// add hangs a new node under its parent, which is made when nothing lists it.
func (t tree) add(e Entry) (*node, error) {
	parent, err := t.dir(path.Dir(e.Path))
	if err != nil {
		return nil, err
	}
	n := &node{Entry: e, name: path.Base(e.Path), parent: parent}
	n.data.fragment = noFragment
	if len(n.name) > maxName {
		return nil, fmt.Errorf("squashfs: entry %q: a name of %d bytes, at most %d", e.Path, len(n.name), maxName)
	}
	parent.sorted = append(parent.sorted, n)
	t[e.Path] = n
	return n, nil
}

// dir finds or makes the directory p.
func (t tree) dir(p string) (*node, error) {
	if n := t[p]; n == nil {
		return t.add(Entry{Path: p, Mode: fs.ModeDir | 0o755})
	} else if n.Mode.IsDir() {
		return n, nil
	}
	return nil, fmt.Errorf("squashfs: entry %q is no directory but has entries below it", p)
}

// buildTree checks entries and links them. The regular files come back in the
// order of entries.
func buildTree(entries []Entry) (root *node, files []*node, err error) {
	root = &node{Entry: Entry{Path: ".", Mode: fs.ModeDir | 0o755}}
	t := tree{".": root}
	for _, e := range entries {
		if err := e.check(); err != nil {
			return nil, nil, fmt.Errorf("squashfs: entry %q: %w", e.Path, err)
		}
		n := t[e.Path]
		if n == nil {
			if n, err = t.add(e); err != nil {
				return nil, nil, err
			}
		} else if n.listed {
			return nil, nil, fmt.Errorf("squashfs: entry %q is listed twice", e.Path)
		} else if !e.Mode.IsDir() {
			return nil, nil, fmt.Errorf("squashfs: entry %q is no directory but has entries below it", e.Path)
		}
		n.Entry, n.listed = e, true
		if e.Mode.IsRegular() {
			files = append(files, n)
		}
	}
	for _, n := range t {
		slices.SortFunc(n.sorted, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	}
	return root, files, nil
}

func (e *Entry) check() error {
	if !fs.ValidPath(e.Path) {
		return fmt.Errorf("want a clean relative path without \"..\"")
	}
	if strings.ContainsRune(e.Path, 0) {
		return fmt.Errorf("a zero byte in the path")
	}
	if e.AlignTo != 0 && (!powerOfTwo(e.AlignTo) || !e.Mode.IsRegular()) {
		return fmt.Errorf("alignment %d of a %v: want a power of two, for regular files only", e.AlignTo, e.Mode)
	}
	switch e.Mode.Type() {
	case fs.ModeDir:
		return nil
	case 0:
		if e.Size < 0 {
			return fmt.Errorf("size %d is negative", e.Size)
		}
		if e.Size > 0 && e.Open == nil {
			return fmt.Errorf("size %d but nothing to open", e.Size)
		}
	case fs.ModeSymlink:
		if n := len(e.Target); n == 0 || n > maxTarget || strings.ContainsRune(e.Target, 0) {
			return fmt.Errorf("link to %q: want 1 to %d bytes, none zero", e.Target, maxTarget)
		}
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		if e.Major >= 1<<12 || e.Minor >= 1<<20 {
			return fmt.Errorf("device %d:%d: want at most 4095:1048575", e.Major, e.Minor)
		}
	default:
		return fmt.Errorf("mode %v: want a directory, regular file, link or device", e.Mode)
	}
	if e.Path == "." {
		return fmt.Errorf("the root is a %v, want a directory", e.Mode)
	}
	return nil
}

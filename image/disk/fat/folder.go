package fat

import (
	"fmt"
	"strings"
	"unicode/utf16"
)

// node is a file or a folder.
type node struct {
	name     string
	alias    string // 8.3 form, 11 bytes padded with spaces
	long     bool   // needs entries for its long name
	folder   bool
	size     int64
	start    int64 // first cluster
	parent   *node // nil for the root
	children []*node
}

// tree makes the folders that the files need.
func tree(files []File) (*node, error) {
	root := &node{folder: true}
	for _, f := range files {
		if f.Size < 1 || f.Size > maxFileSize {
			return nil, fmt.Errorf("file %q of %d bytes: want 1 to %d", f.Path, f.Size, int64(maxFileSize))
		}
		if f.Align < 0 || f.Align&(f.Align-1) != 0 || f.Align > dataAlign {
			return nil, fmt.Errorf("file %q aligned to %d bytes: want a power of two up to %d", f.Path, f.Align, dataAlign)
		}
		d := root
		names := strings.Split(f.Path, "/")
		for i, name := range names {
			if err := checkName(name); err != nil {
				return nil, fmt.Errorf("path %q: %w", f.Path, err)
			}
			last := i == len(names)-1
			c := d.child(name)
			switch {
			case c == nil:
				c = &node{name: name, folder: !last, parent: d}
				if err := c.setAlias(); err != nil {
					return nil, fmt.Errorf("path %q: %w", f.Path, err)
				}
				d.children = append(d.children, c)
			case last || !c.folder || c.name != name:
				return nil, fmt.Errorf("path %q: the name %q is taken", f.Path, c.name)
			}
			if last {
				c.size = f.Size
			}
			d = c
		}
	}
	return root, nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxNameLetters || name[0] == '.' || name[len(name)-1] == '.' {
		return fmt.Errorf("name %q: want 1 to %d characters, none of them a dot at either end", name, maxNameLetters)
	}
	for _, c := range []byte(name) {
		if !alphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return fmt.Errorf("name %q: character %q is not allowed", name, c)
		}
	}
	return nil
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// child finds a name; names differ by more than case.
func (d *node) child(name string) *node {
	for _, c := range d.children {
		if strings.EqualFold(c.name, name) {
			return c
		}
	}
	return nil
}

func (d *node) find(path string) *node {
	for name := range strings.SplitSeq(path, "/") {
		d = d.child(name)
	}
	return d
}

// all returns the folder and those below it.
func (d *node) all() []*node {
	list := []*node{d}
	for _, c := range d.children {
		if c.folder {
			list = append(list, c.all()...)
		}
	}
	return list
}

// setAlias picks the 8.3 name: the name itself in capitals when it fits, else
// its start with a number.
func (n *node) setAlias() error {
	upper := strings.ToUpper(n.name)
	base, ext := upper, ""
	if i := strings.LastIndexByte(upper, '.'); i >= 0 {
		base, ext = upper[:i], upper[i+1:]
	}
	n.long = true
	if len(base) <= 8 && len(ext) <= 3 && !strings.Contains(base, ".") {
		n.long = n.name != upper
		n.alias = padded(base, 8) + padded(ext, 3)
		if !n.parent.hasAlias(n.alias) {
			return nil
		}
		n.long = true
	}
	base, ext = strings.ReplaceAll(base, ".", ""), ext[:min(3, len(ext))]
	for i := 1; i < 1e6; i++ {
		number := fmt.Sprintf("~%d", i)
		n.alias = padded(base[:min(8-len(number), len(base))]+number, 8) + padded(ext, 3)
		if !n.parent.hasAlias(n.alias) {
			return nil
		}
	}
	return fmt.Errorf("name %q: no short name is left", n.name)
}

func (d *node) hasAlias(alias string) bool {
	for _, c := range d.children {
		if c.alias == alias {
			return true
		}
	}
	return false
}

func padded(s string, n int) string { return s + strings.Repeat(" ", n-len(s)) }

// lettersPerEntry is how much of a long name one entry holds.
const lettersPerEntry = 13

func (n *node) longEntries() int {
	if !n.long {
		return 0
	}
	return (len(n.name) + lettersPerEntry - 1) / lettersPerEntry
}

// bytes returns the room a folder needs: the root begins with the label, others
// with "." and "..".
func (d *node) bytes() int64 {
	n := 2
	if d.parent == nil {
		n = 1
	}
	for _, c := range d.children {
		n += c.longEntries() + 1
	}
	return int64(n * entrySize)
}

// Attributes of an entry.
const (
	attrLabel    = 0x08
	attrFolder   = 0x10
	attrArchive  = 0x20
	attrLongName = 0x0f
)

// folder encodes a folder, the rest of its last cluster being zero.
func (v *volume) folder(d *node) []byte {
	size := (d.bytes() + v.clusterSize - 1) / v.clusterSize * v.clusterSize
	b := make([]byte, 0, size)
	if d.parent == nil {
		b = append(b, v.entry(padded(v.Label, maxLabel), attrLabel, 0, 0)...)
	} else {
		up := d.parent.start
		if d.parent.parent == nil {
			up = 0 // how the specification names the root here
		}
		b = append(b, v.entry(padded(".", 11), attrFolder, d.start, 0)...)
		b = append(b, v.entry(padded("..", 11), attrFolder, up, 0)...)
	}
	for _, c := range d.children {
		b = append(b, c.longName()...)
		attr := byte(attrArchive)
		if c.folder {
			attr = attrFolder
		}
		b = append(b, v.entry(c.alias, attr, c.start, c.size)...)
	}
	return b[:size]
}

// entry encodes a short entry.
func (v *volume) entry(name string, attr byte, start, size int64) []byte {
	b := make([]byte, entrySize)
	t := v.Time.UTC()
	day := uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
	clock := uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
	copy(b, name)
	b[11] = attr
	if attr != attrLabel {
		le.PutUint16(b[14:], clock) // made
		le.PutUint16(b[16:], day)
		le.PutUint16(b[18:], day) // read
	}
	le.PutUint16(b[20:], uint16(start>>16))
	le.PutUint16(b[22:], clock) // written
	le.PutUint16(b[24:], day)
	le.PutUint16(b[26:], uint16(start))
	le.PutUint32(b[28:], uint32(size))
	return b
}

// longName encodes the entries before the short one, the end of the name first.
func (n *node) longName() []byte {
	var sum byte
	for _, c := range []byte(n.alias) {
		sum = sum<<7 + sum>>1 + c
	}
	count := n.longEntries()
	letters := utf16.Encode([]rune(n.name))
	if len(letters) < count*lettersPerEntry {
		letters = append(letters, 0)
	}
	for len(letters) < count*lettersPerEntry {
		letters = append(letters, 0xffff)
	}
	var all []byte
	for i := count; i > 0; i-- {
		b := make([]byte, entrySize)
		b[0] = byte(i)
		if i == count {
			b[0] |= 0x40
		}
		b[11] = attrLongName
		b[13] = sum
		part := letters[(i-1)*lettersPerEntry:]
		for k, at := range [lettersPerEntry]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
			le.PutUint16(b[at:], part[k])
		}
		all = append(all, b...)
	}
	return all
}

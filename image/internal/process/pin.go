package process

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// pinned are the descriptors that Pin keeps, by path.
var pinned struct {
	sync.Mutex
	files map[string]*os.File
}

// Pin keeps the paths below /proc/sys in the kernel's memory for good. The rest
// of the paths need it not. A Landlock rule belongs to an inode, and /proc/sys
// makes a new one for each lookup after the last was dropped, which memory that
// runs short does: the rules of the services that run would be void then.
func Pin(paths ...string) error {
	pinned.Lock()
	defer pinned.Unlock()
	if pinned.files == nil {
		pinned.files = make(map[string]*os.File)
	}
	var errs []error
	for _, p := range paths {
		if pinned.files[p] != nil || !strings.HasPrefix(p, "/proc/sys/") {
			continue
		}
		f, err := os.OpenFile(p, unix.O_PATH, 0)
		switch {
		case err == nil:
			pinned.files[p] = f
		case !errors.Is(err, fs.ErrNotExist): // launch leaves out what is not there
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// handOver gives what root made in a folder to the folder's owner: commands are
// often root's where the portal is a service with a user of its own, which could
// not read its database or releases any more. Other people's files, links, and
// files with several names stay as they are. As somebody else it does nothing.
func handOver(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	dir, err := filepath.EvalSymlinks(dir) // systemd's name of it is a link
	if err != nil {
		return err
	}
	top, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := top.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = e.Info()
		}
		if errors.Is(err, fs.ErrNotExist) { // the portal runs, and has removed it
			return nil
		}
		if err != nil {
			return err
		}
		is, ok := info.Sys().(*syscall.Stat_t)
		if !ok || is.Uid != 0 || !info.IsDir() && (!info.Mode().IsRegular() || is.Nlink != 1) {
			return nil
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}

package perm

import "errors"

// Fake is a Volume in memory, for tests.
type Fake struct {
	ReadWriteErr, SalvageErr, StandInErr, FormatErr, UnmountErr, GrowErr error

	Mounted  *Mode // nil: not mounted
	State    Usage
	Formats  int
	Unmounts int
	Shorter  bool // the file system is shorter than its partition
}

// Mount implements Volume.
func (f *Fake) Mount(m Mode) error {
	if f.Mounted != nil {
		return errors.New("mounted twice")
	}
	err := [...]error{f.ReadWriteErr, f.SalvageErr, f.StandInErr}[m]
	if err == nil {
		f.Mounted = &m
		f.State.ReadOnly = m == Salvage
	}
	return err
}

// Unmount implements Volume.
func (f *Fake) Unmount() error {
	if f.UnmountErr != nil {
		return f.UnmountErr
	}
	f.Mounted = nil
	f.Unmounts++
	return nil
}

// Format implements Volume. A new file system mounts.
func (f *Fake) Format() error {
	if f.Mounted != nil {
		return errors.New("format of a mounted volume")
	}
	if f.FormatErr != nil {
		return f.FormatErr
	}
	f.Formats++
	f.ReadWriteErr = nil
	return nil
}

// Usage implements Volume.
func (f *Fake) Usage() (Usage, error) { return f.State, nil }

// Grow implements Volume.
func (f *Fake) Grow() (bool, error) {
	if f.GrowErr != nil {
		return false, f.GrowErr
	}
	was := f.Shorter
	f.Shorter = false
	return was, nil
}

// MakeReadOnly implements Volume.
func (f *Fake) MakeReadOnly() error {
	f.State.ReadOnly = true
	return nil
}

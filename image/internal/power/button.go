// Package power ends the system: the ACPI power button, the sequence of an
// orderly shutdown under a dead-man timer, and the reboot itself.
package power

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Event codes of linux/input-event-codes.h.
const (
	typeKey  = 1
	keyA     = 30
	keyPower = 116
)

// eventSize is the length of struct input_event on 64-bit machines: a timeval
// of 16 bytes, type, code, value.
const eventSize = 24

// grab is EVIOCGRAB of linux/input.h, _IOW('E', 0x90, int).
const grab = 0x40044590

// Buttons opens the power buttons of the machine, for PID 1 alone: whoever else
// opens them sees no events. It returns those that could be opened, and the
// errors of the others.
//
// A keyboard may have a power key too (the PC's says so always). It is watched
// and not taken: the screen's console must go on hearing the other keys.
func Buttons(sys, dev string) ([]*os.File, error) {
	names, err := filepath.Glob(filepath.Join(sys, "class/input/event*"))
	if err != nil {
		return nil, err
	}
	var (
		buttons []*os.File
		errs    []error
	)
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(n, "device/capabilities/key"))
		if err != nil || !hasKey(string(b), keyPower) {
			continue
		}
		f, err := os.Open(filepath.Join(dev, "input", filepath.Base(n)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if hasKey(string(b), keyA) {
			buttons = append(buttons, f)
			continue
		}
		if err := unix.IoctlSetInt(int(f.Fd()), grab, 1); err != nil {
			f.Close()
			errs = append(errs, fmt.Errorf("grab %s: %w", f.Name(), err))
			continue
		}
		buttons = append(buttons, f)
	}
	return buttons, errors.Join(errs...)
}

// hasKey reads a bitmap as sysfs prints it: words of the machine's size in hex,
// the highest first.
func hasKey(bitmap string, key uint) bool {
	words := strings.Fields(bitmap)
	const bits = uint(unsafe.Sizeof(uintptr(0))) * 8
	i := len(words) - 1 - int(key/bits)
	if i < 0 {
		return false
	}
	w, err := strconv.ParseUint(words[i], 16, int(bits))
	return err == nil && w>>(key%bits)&1 != 0
}

// Watch calls pressed for each press of the button until reading fails.
func Watch(button io.Reader, pressed func()) error {
	e := make([]byte, eventSize)
	for {
		if _, err := io.ReadFull(button, e); err != nil {
			return err
		}
		le := binary.LittleEndian
		if le.Uint16(e[16:]) == typeKey && le.Uint16(e[18:]) == keyPower && le.Uint32(e[20:]) == 1 {
			pressed()
		}
	}
}

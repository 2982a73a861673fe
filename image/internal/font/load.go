package font

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of linux/kd.h.
const (
	kdFontOp    = 0x4b72 // KDFONTOP
	fontOpSet   = 0      // KD_FONT_OP_SET
	pioUniMap   = 0x4b67 // PIO_UNIMAP
	pioUniClear = 0x4b68 // PIO_UNIMAPCLR
)

// cellRows is how many bytes the kernel's font interface has for each glyph.
const cellRows = 32

// consoleFontOp is struct console_font_op.
type consoleFontOp struct {
	op, flags, width, height, count uint32
	data                            unsafe.Pointer
}

// uniMap is struct unimapdesc.
type uniMap struct {
	count   uint16
	entries unsafe.Pointer
}

// Load puts the font on the terminal and switches it to UTF-8. It needs
// CAP_SYS_TTY_CONFIG. A console without text mode refuses it, and keeps its own
// font.
func Load(path string, f *Font) error {
	tty, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer tty.Close()
	fd := tty.Fd()
	cells := make([]byte, f.Glyphs*cellRows)
	for g := range f.Glyphs {
		copy(cells[g*cellRows:], f.Bitmap[g*f.Height:(g+1)*f.Height])
	}
	op := consoleFontOp{op: fontOpSet, width: Width, height: uint32(f.Height), count: uint32(f.Glyphs), data: unsafe.Pointer(&cells[0])}
	if err := ioctl(fd, kdFontOp, unsafe.Pointer(&op)); err != nil {
		return fmt.Errorf("KDFONTOP(%s, %d glyphs of %d rows): %w", path, f.Glyphs, f.Height, err)
	}
	runtime.KeepAlive(cells)
	if len(f.Chars) > 0 {
		var advice [3]uint16 // struct unimapinit: the kernel chooses
		if err := ioctl(fd, pioUniClear, unsafe.Pointer(&advice)); err != nil {
			return fmt.Errorf("PIO_UNIMAPCLR(%s): %w", path, err)
		}
		m := uniMap{count: uint16(len(f.Chars)), entries: unsafe.Pointer(&f.Chars[0])}
		if err := ioctl(fd, pioUniMap, unsafe.Pointer(&m)); err != nil {
			return fmt.Errorf("PIO_UNIMAP(%s, %d characters): %w", path, len(f.Chars), err)
		}
		runtime.KeepAlive(f)
	}
	// Select the UTF-8 character set, and give the bright colours of plain text
	// and of alarms to the normal ones too: with more than 256 glyphs a VGA takes
	// the bit of brightness for the glyph, and words would have letters of both
	// (console_codes(4)).
	_, err = tty.WriteString("\x1b%G\x1b]P7cccccc\x1b]PFcccccc\x1b]P1ff5555\x1b]P9ff5555")
	return err
}

func ioctl(fd, req uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, req, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

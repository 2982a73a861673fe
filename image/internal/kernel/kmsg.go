package kernel

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// maxRecord is the longest record that /dev/kmsg hands out, in bytes.
const maxRecord = 8 << 10

// ReadLog calls line for each message of the kernel, from the first one that it
// still has, until reading fails. What programs wrote into the kernel's log is
// left out.
func ReadLog(path string, line func(text string)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, maxRecord)
	for {
		// One read is one record.
		n, err := f.Read(b)
		if errors.Is(err, syscall.EPIPE) {
			line("messages lost: the kernel's log was overwritten")
			continue
		}
		if err != nil {
			return fmt.Errorf("kernel log: %w", err)
		}
		if text, ok := parseRecord(string(b[:n])); ok {
			line(text)
		}
	}
}

// parseRecord reads a record: "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT" and
// perhaps lines of KEY=VALUE behind it (Documentation/ABI/testing/dev-kmsg).
func parseRecord(s string) (string, bool) {
	head, text, ok := strings.Cut(s, ";")
	if !ok {
		return "", false
	}
	text, _, _ = strings.Cut(text, "\n")
	fields := strings.Split(head, ",")
	if len(fields) < 3 {
		return "", false
	}
	prio, err := strconv.ParseUint(fields[0], 10, 32)
	us, err2 := strconv.ParseUint(fields[2], 10, 64)
	if err != nil || err2 != nil || prio>>3 != 0 {
		return "", false
	}
	return fmt.Sprintf("[%d.%06d] <%d> %s", us/1e6, us%1e6, prio&7, text), true
}

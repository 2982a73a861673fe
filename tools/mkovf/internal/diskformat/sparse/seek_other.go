//go:build !linux

package sparse

import "os"

// nextData calls everything data: holes are found by looking at the bytes.
func nextData(_ *os.File, off, size int64) (start, end int64, err error) {
	return off, size, nil
}

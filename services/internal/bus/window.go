package bus

// windowBits is how many of an author's messages may be on their way by different
// connections: what is further behind counts as seen.
const windowBits = 8192

// window remembers which numbers of one start of an author were seen: the highest,
// and a bit for each of those below (as RFC 4303, 3.4.3, does against replay).
type window struct {
	boot uint64
	top  uint64
	bits [windowBits / 64]uint64
}

// first reports whether a number is seen for the first time, and marks it.
func (w *window) first(n uint64) bool {
	if n > w.top {
		if n-w.top >= windowBits {
			w.bits = [windowBits / 64]uint64{}
		} else {
			for i := w.top + 1; i < n; i++ {
				w.bits[i/64%uint64(len(w.bits))] &^= 1 << (i % 64)
			}
		}
		w.top = n
	} else {
		if w.top-n >= windowBits {
			return false
		}
		if w.bits[n/64%uint64(len(w.bits))]&(1<<(n%64)) != 0 {
			return false
		}
	}
	w.bits[n/64%uint64(len(w.bits))] |= 1 << (n % 64)
	return true
}

// maxAuthors is how many authors are remembered. A zone has fewer appliances.
const maxAuthors = 1024

// seen remembers what came from whom. It holds 2 KiB for each author: of two
// starts, because copies from before a restart may still come.
type seen map[Peer]*[2]*window

// first reports whether an author's message is seen for the first time.
func (s seen) first(a Peer, boot, number uint64) bool {
	w := s[a]
	if w == nil {
		if len(s) >= maxAuthors {
			for old := range s { // any: at worst a late copy comes through
				delete(s, old)
				break
			}
		}
		w = &[2]*window{{boot: boot}, nil}
		s[a] = w
	}
	for _, x := range w {
		if x != nil && x.boot == boot {
			return x.first(number)
		}
	}
	w[0], w[1] = &window{boot: boot}, w[0]
	return w[0].first(number)
}

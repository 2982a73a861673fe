package room

import (
	"testing"
	"time"
)

// A layer's cache holds the last packets of a fast stream, and the last seconds of
// a slow one, so that slow ones do not hold a minute of memory each.
func TestCache(t *testing.T) {
	for name, test := range map[string]struct {
		every time.Duration
		want  int
	}{
		"fast": {time.Millisecond, videoCache},
		"slow": {40 * time.Millisecond, int(keepFor/(40*time.Millisecond)) + 1},
	} {
		l := &Layer{track: &Track{source: Camera}}
		const first, n = start + 65000, 3000
		for i := range n {
			if i%100 == 99 {
				continue // lost
			}
			l.keep(&packet{index: first + uint64(i), at: time.Duration(i) * test.every})
		}
		// Late, but within what is kept.
		l.keep(&packet{index: first + n - 1 - 20, at: n * test.every})
		held, there := 0, 0
		for _, p := range l.cache {
			if p != nil {
				held++
			}
		}
		for i := range n {
			if p := l.get(first + uint64(i)); p != nil {
				if there++; p.index != first+uint64(i) {
					t.Fatalf("%s: %d is %d", name, first+i, p.index)
				}
			}
		}
		if held != there || there > test.want || there < test.want-max(test.want/50, 3) {
			t.Errorf("%s: %d packets are held and %d found, want %d", name, held, there, test.want)
		}
		// After a pause everything from before goes with the next packet.
		l.keep(&packet{index: first + n, at: n*test.every + time.Hour})
		for i := range n {
			if l.get(first+uint64(i)) != nil {
				t.Fatalf("%s: %d outlived a pause", name, i)
			}
		}
		// So it does where numbers jump.
		l.keep(&packet{index: first + 5*n, at: n*test.every + time.Hour})
		if l.get(first+n) == nil != (5*n-n >= videoCache) || l.get(first+5*n) == nil {
			t.Errorf("%s: after a jump", name)
		}
	}
}

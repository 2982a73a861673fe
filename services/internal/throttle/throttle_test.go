package throttle

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"
)

// start has no monotonic clock: what is subtracted here is wall time, as after
// a step of the machine's clock at worst.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestDelay(t *testing.T) {
	want := []time.Duration{0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60}
	for n, w := range want {
		if got := Delay(n); got != w*time.Second {
			t.Errorf("Delay(%d) = %v, want %v", n, got, w*time.Second)
		}
	}
	for _, n := range []int{-1, 12, 13, 14, 64, 1 << 20, 1<<63 - 1} {
		want := MaxDelay
		if n < 0 {
			want = 0
		}
		if got := Delay(n); got != want {
			t.Errorf("Delay(%d) = %v, want %v", n, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	table, now := NewTable(10), start
	for i, want := range []time.Duration{0, 0, 1, 2, 4} {
		table.Fail("a", now)
		if got := table.Wait("a", now); got != want*time.Second {
			t.Errorf("after %d failures: wait %v, want %v", i+1, got, want*time.Second)
		}
	}
	if got := table.Wait("b", now); got != 0 {
		t.Errorf("somebody else waits %v", got)
	}
	now = now.Add(3 * time.Second)
	if got := table.Wait("a", now); got != time.Second {
		t.Errorf("wait %v 3 s later, want 1 s", got)
	}
	if got := table.Wait("a", now.Add(time.Hour)); got != 0 {
		t.Errorf("wait %v an hour later", got)
	}
	table.Succeed("a")
	if table.Wait("a", now) != 0 || table.Len() != 0 {
		t.Error("a success is not the end of the failures")
	}
}

// Whoever stays away starts afresh, and no sooner.
func TestForget(t *testing.T) {
	table := NewTable(10)
	for range 8 {
		table.Fail("a", start)
	}
	table.Fail("a", start.Add(forget))
	if got := table.Wait("a", start.Add(forget)); got != Delay(9) {
		t.Errorf("wait %v after the pause that does not count, want %v", got, Delay(9))
	}
	later := start.Add(2*forget + time.Second)
	table.Fail("a", later)
	if got := table.Wait("a", later); got != 0 {
		t.Errorf("wait %v after a long pause, want none", got)
	}
}

// A full table forgets the caller that has been quiet for longest, and with it
// everybody who would start afresh anyway.
func TestBounded(t *testing.T) {
	const size = 100
	table := NewTable(size)
	for i := range 10 * size {
		key := fmt.Sprint(i)
		for range 5 {
			table.Fail(key, start.Add(time.Duration(i)*time.Millisecond))
		}
		if table.Len() > size {
			t.Fatalf("%d callers are remembered, want at most %d", table.Len(), size)
		}
	}
	now := start.Add(10 * size * time.Millisecond)
	if table.Wait(fmt.Sprint(9*size-1), now) != 0 {
		t.Error("the oldest is still remembered")
	}
	if table.Wait(fmt.Sprint(9*size), now) == 0 {
		t.Error("one that is not the oldest was forgotten")
	}
	table.Fail("late", now.Add(2*forget))
	if table.Len() != 1 {
		t.Errorf("%d callers are remembered after a long pause, want 1", table.Len())
	}
}

// A clock that is set back, as far as it may be, costs the caller one more
// wait and no more; nobody is locked out.
func TestClockSetBack(t *testing.T) {
	for _, back := range []time.Duration{time.Second, time.Hour, 24 * 365 * time.Hour} {
		table := NewTable(10)
		for range 20 {
			table.Fail("a", start)
		}
		now := start.Add(-back)
		if got := table.Wait("a", now); got != MaxDelay {
			t.Errorf("set back by %v: wait %v, want %v", back, got, MaxDelay)
		}
		if got := table.Wait("a", now.Add(MaxDelay)); got != 0 {
			t.Errorf("set back by %v: wait %v after the longest wait, want none", back, got)
		}
	}
}

// Among callers of before and after the step, those of before go first.
func TestClockSetBackFull(t *testing.T) {
	table := NewTable(4)
	for i := range 4 {
		table.Fail(fmt.Sprint("before", i), start)
	}
	now := start.Add(-time.Hour)
	for i := range 4 {
		for range 5 {
			now = now.Add(time.Millisecond)
			table.Fail(fmt.Sprint("after", i), now)
		}
	}
	if table.Len() != 4 {
		t.Fatalf("%d callers are remembered, want 4", table.Len())
	}
	for i := range 4 {
		if table.Wait(fmt.Sprint("after", i), now) == 0 {
			t.Errorf("caller %d of after the step was forgotten", i)
		}
	}
}

func TestBucket(t *testing.T) {
	b := Bucket{Size: 3, Every: 10 * time.Second}
	take := func(at, want time.Duration) {
		t.Helper()
		if got := b.Take(start.Add(at)); got != want {
			t.Errorf("at %v: %v, want %v", at, got, want)
		}
	}
	for range 3 {
		take(0, 0)
	}
	take(0, 10*time.Second)
	take(4*time.Second, 6*time.Second)
	take(10*time.Second, 0)
	take(10*time.Second, 10*time.Second)
	b.Return()
	take(10*time.Second, 0)
	// Set back by an hour: nothing is won, and nothing takes longer.
	take(-time.Hour, 10*time.Second)
	take(-time.Hour+10*time.Second, 0)
	// It never holds more than its size.
	for range 3 {
		take(1000*time.Hour, 0)
	}
	take(1000*time.Hour, 10*time.Second)
	for range 9 {
		b.Return()
	}
	for range 3 {
		take(1000*time.Hour, 0)
	}
	take(1000*time.Hour, 10*time.Second)
}

// In any time, a bucket gives what it holds and what grows meanwhile, no more;
// and whoever waits as long as it says gets a token.
func TestBucketRate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		b := Bucket{Size: 1 + r.IntN(20), Every: time.Duration(1 + r.Int64N(int64(1)<<r.IntN(42)))}
		given, now := 0, start
		for range 100 {
			now = now.Add(time.Duration(r.Int64N(2 * int64(b.Every))))
			wait := b.Take(now)
			if wait < 0 {
				t.Fatalf("size %d, every %v: wait %v", b.Size, b.Every, wait)
			}
			if wait > 0 && r.IntN(2) == 0 {
				now = now.Add(wait)
				if wait = b.Take(now); wait != 0 {
					t.Fatalf("size %d, every %v: another wait of %v after the one that was told", b.Size, b.Every, wait)
				}
			}
			if wait == 0 {
				given++
			}
			if most := int64(b.Size) + int64(now.Sub(start)/b.Every); int64(given) > most {
				t.Fatalf("size %d, every %v: %d tokens given, want at most %d", b.Size, b.Every, given, most)
			}
		}
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.77":              "192.0.2.0/24",
		"::ffff:192.0.2.77":       "192.0.2.0/24",
		"2001:db8:1:2:3:4:5:6":    "2001:db8:1:2::/64",
		"fe80::1%eth0":            "fe80::/64",
		"2001:db8:1:2:ffff::%any": "2001:db8:1:2::/64",
	} {
		if got := Network(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got := Network(netip.Addr{}); got != "unknown" {
		t.Errorf("no address: %s", got)
	}
}

// What is taken back leaves what was before it as it was.
func TestTakeBack(t *testing.T) {
	table, now := NewTable(10), start
	table.TakeBack("a")
	table.Fail("a", now)
	table.TakeBack("a")
	if table.Len() != 0 {
		t.Error("a failure that was taken back is kept")
	}
	for range 4 {
		table.Fail("a", now)
	}
	table.TakeBack("a")
	if got := table.Wait("a", now); got != Delay(3) {
		t.Errorf("wait %v after four failures less one, want %v", got, Delay(3))
	}
}

func TestPeer(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1/32", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64", "[::ffff:192.0.2.1]:5": "192.0.2.1/32", "[fe80::1%lo]:1": "fe80::/64",
	} {
		a, err := net.ResolveTCPAddr("tcp", in)
		if err != nil {
			t.Fatal(err)
		}
		if got := Peer(a, 32, 64).String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got := Peer(&net.UnixAddr{Name: "x"}, 32, 64); got.IsValid() {
		t.Errorf("no address: %s", got)
	}
}

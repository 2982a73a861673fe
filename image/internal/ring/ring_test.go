package ring

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/parley-meet/parley/image/control"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)

func texts(lines []control.Log) (out []string) {
	for _, l := range lines {
		out = append(out, l.Service+":"+l.Text)
	}
	return out
}

func wantTexts(t testing.TB, got []control.Log, want ...string) {
	t.Helper()
	if !slices.Equal(texts(got), want) {
		t.Errorf("lines\n got %.200q\nwant %.200q", texts(got), want)
	}
	for i := range got[:max(0, len(got)-1)] {
		if got[i].Seq >= got[i+1].Seq && got[i].Seq != 0 { // stored lines have none
			t.Errorf("numbers do not grow: %d, %d", got[i].Seq, got[i+1].Seq)
		}
	}
}

func TestLines(t *testing.T) {
	r := New(1 << 20)
	for i, s := range []string{"a", "b", "a", "c", "a"} {
		r.Add(noon, s, fmt.Sprint(i))
	}
	wantTexts(t, r.Lines("", 0), "a:0", "b:1", "a:2", "c:3", "a:4")
	wantTexts(t, r.Lines("", 2), "c:3", "a:4")
	wantTexts(t, r.Lines("a", 0), "a:0", "a:2", "a:4")
	wantTexts(t, r.Lines("a", 2), "a:2", "a:4")
	wantTexts(t, r.Lines("a", 100), "a:0", "a:2", "a:4")
	wantTexts(t, r.Lines("none", 0))
	lines, next := r.Since(r.First() + 3)
	wantTexts(t, lines, "c:3", "a:4")
	if next != r.First()+5 {
		t.Errorf("the next number is %d, want %d", next, r.First()+5)
	}
	if lines, _ := r.Since(next); len(lines) != 0 {
		t.Errorf("lines of the future: %q", texts(lines))
	}
	if l := r.Lines("b", 0)[0]; l.Seq != r.First()+1 || !l.At.Equal(noon) {
		t.Errorf("%+v", l)
	}
}

// Each lane keeps its budget, the newest lines of it, whatever the others do.
func TestBudget(t *testing.T) {
	const budget = 20 << 10
	r := New(budget)
	r.Add(noon, "quiet", "once")
	rnd := rand.New(rand.NewPCG(1, 2))
	var said []string
	for i := range 5000 {
		text := fmt.Sprintf("%d %s", i, strings.Repeat("x", rnd.IntN(3000)))
		said = append(said, "loud:"+text)
		r.Add(noon, "loud", text)
		lines := r.Lines("loud", 0)
		size := 0
		for _, l := range lines {
			size += len(l.Text) + Overhead
		}
		if size > budget || size < budget-4<<10 && i > 100 {
			t.Fatalf("after %d lines %d bytes are kept, want at most %d and not much less", i, size, budget)
		}
		if got := r.lanes["loud"].bytes; got != size {
			t.Fatalf("after %d lines %d bytes are counted, want %d", i, got, size)
		}
		if i%500 == 0 {
			wantTexts(t, lines, said[len(said)-len(lines):]...)
			if c := cap(r.lanes["loud"].lines); c > 4*len(lines)+64 {
				t.Fatalf("after %d lines the lane has room for %d, of which %d are in use", i, c, len(lines))
			}
		}
	}
	wantTexts(t, r.Lines("quiet", 0), "quiet:once")
	// The smallest ring holds the longest line.
	r = New(0)
	long := strings.Repeat("x", MaxLine)
	r.Add(noon, "a", "before")
	r.Add(noon, "a", long+"more")
	wantTexts(t, r.Lines("", 0), "a:"+long)
	r.Add(noon, "a", strings.Repeat("\xff", MaxLine))
	if got := r.Lines("", 0); len(got) != 1 || len(got[0].Text) > MaxLine || len(got[0].Text) < MaxLine-3 {
		t.Errorf("%d lines of %d bytes: bytes that are not UTF-8 make a line longer than %d", len(got), len(got[0].Text), MaxLine)
	}
}

func TestPrepend(t *testing.T) {
	r := New(1) // one longest line: MaxLine+Overhead
	budget := r.budget
	r.Add(noon, "a", "new a")
	old := []control.Log{
		{At: noon, Service: "a", Text: "too old"},
		{At: noon, Service: "b", Text: "old b"},
		{At: noon, Service: "a", Text: strings.Repeat("x", budget-2*Overhead-len("new a")-Overhead-len("old\ufffda")+1)},
		{At: noon, Service: "c", Text: "old c", Seq: 99},
		{At: noon, Service: "a", Text: "old\x1ba"},
	}
	r.Prepend(old)
	wantTexts(t, r.Lines("", 0), "b:old b", "c:old c", "a:old\ufffda", "a:new a")
	if first, _ := r.Since(0); first[0].Seq != r.First()-3 || first[3].Seq != r.First() {
		t.Errorf("numbers %d to %d, want up to %d", first[0].Seq, first[3].Seq, r.First())
	}
	if lines, _ := r.Since(r.First()); len(lines) != 1 {
		t.Errorf("%q is of this boot", texts(lines))
	}
	// A longer one that just fits.
	r.Prepend([]control.Log{{Service: "a", Text: strings.Repeat("y", budget-3*Overhead-len("new a")-len("old\ufffda"))}})
	if got := r.lanes["a"].bytes; got != budget || len(r.Lines("a", 0)) != 3 {
		t.Errorf("%d of %d bytes in %d lines", got, budget, len(r.Lines("a", 0)))
	}
	// And the next line pushes it out.
	r.Add(noon, "a", "newest")
	wantTexts(t, r.Lines("a", 0), "a:old\ufffda", "a:new a", "a:newest")
	r.Prepend(nil)
}

// A follower that does not read loses lines, is told how many, and holds nobody
// up.
func TestFollow(t *testing.T) {
	r := New(1 << 20)
	r.Add(noon, "a", "past")
	past, f := r.Follow("a", 0)
	_, all := r.Follow("", 1)
	wantTexts(t, past, "a:past")
	r.Add(noon, "b", "not for f")
	const more = 10
	for i := range followDepth + more {
		r.Add(noon, "a", fmt.Sprint(i))
	}
	for i := range followDepth {
		if l := <-f.C; l.Text != fmt.Sprint(i) || l.Service != "a" {
			t.Fatalf("line %d is %+v", i, l)
		}
	}
	if len(f.C) != 0 {
		t.Error("more than the queue holds")
	}
	r.Add(noon, "a", "again")
	if l := <-f.C; l.Text != "10 lines lost: the reader is too slow" || l.Service != "init" {
		t.Errorf("%+v", l)
	}
	if l := <-f.C; l.Text != "again" {
		t.Errorf("%+v", l)
	}
	r.Add(noon, "a", "and on")
	if l := <-f.C; l.Text != "and on" {
		t.Errorf("%+v", l)
	}
	f.Close()
	r.Add(noon, "a", "after")
	if len(f.C) != 0 {
		t.Error("a line after Close")
	}
	// With room for one only, the count and the line wait together.
	<-all.C
	r.Add(noon, "a", "lost too")
	if len(all.C) != followDepth-1 {
		t.Errorf("%d lines wait, want %d: the count alone says nothing", len(all.C), followDepth-1)
	}
	all.Close()
	f.Close()
	if len(r.followers) != 0 {
		t.Errorf("%d followers are left", len(r.followers))
	}
}

// Nothing is said twice or left out between the past lines and the followed ones.
func TestFollowSeesEachLineOnce(t *testing.T) {
	r := New(1 << 20)
	var wg sync.WaitGroup
	const writers, each = 4, 50
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				r.Add(noon, fmt.Sprint(w), fmt.Sprint(i))
			}
		})
	}
	past, f := r.Follow("", 0)
	wg.Wait()
	seen := len(past)
	last := uint64(0)
	if seen > 0 {
		last = past[seen-1].Seq
	}
	for len(f.C) > 0 {
		l := <-f.C
		if l.Seq <= last {
			t.Fatalf("line %d after %d", l.Seq, last)
		}
		last = l.Seq
		seen++
	}
	if seen != writers*each {
		t.Errorf("%d lines, want %d", seen, writers*each)
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter{rate: Rate{Burst: 3, PerSecond: 2}}
		ask := func(n int) (out string) {
			for range n {
				ok, lost := l.allow(time.Now())
				out += map[bool]string{true: "+", false: "-"}[ok]
				if lost > 0 {
					out += fmt.Sprint(lost)
				}
			}
			return out
		}
		for _, x := range []struct {
			pause time.Duration
			n     int
			want  string
		}{
			{0, 6, "+++---"}, {499 * time.Millisecond, 1, "-"}, {time.Millisecond, 3, "+4--"}, {time.Second, 3, "+2+-"}, {time.Hour, 5, "+1++--"},
		} {
			time.Sleep(x.pause)
			if got := ask(x.n); got != x.want {
				t.Errorf("after %v: %q, want %q", x.pause, got, x.want)
			}
		}
	})
}

// chars is text that is hostile to terminals and to UTF-8.
var hostile = []string{
	"", "plain", "tab\tis kept", "\x1b[2J\x1b]0;title\a", "a\rb", "a\nb", "\x00\x08\x0b\x0c\x7f", "\u0085\u009b1A\u2028\u2029",
	"Привет, мир", "─│└┘▶", "\xff\xfe\xc3(", "\xed\xa0\x80", "\xf4\x90\x80\x80", "x\r\n", "\r\n\r\n", "日本語\U0001F600",
	strings.Repeat("x", MaxLine-1) + "я", strings.Repeat("\xff", MaxLine), strings.Repeat("я", MaxLine), "\u00a0\u200b\u202e",
}

// cleaned reports what is wrong with a line that is kept.
func cleaned(s string) error {
	if len(s) > MaxLine {
		return fmt.Errorf("%d bytes, want at most %d", len(s), MaxLine)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("not UTF-8")
	}
	for i, c := range s {
		// C0, DEL and C1 controls, but for the tab, and the Unicode line breaks.
		if c < ' ' && c != '\t' || c >= 0x7f && c <= 0x9f || c == 0x2028 || c == 0x2029 {
			return fmt.Errorf("%U at %d", c, i)
		}
	}
	return nil
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "tab\tis kept": "tab\tis kept", "x\r\n": "x", "a\rb\n": "a\ufffdb", "\x1b[2J": "\ufffd[2J", "\xff": "\ufffd",
		"Привет": "Привет", "\u009b1A": "\ufffd1A", "\r\n\r\n": "", strings.Repeat("y", MaxLine+1): strings.Repeat("y", MaxLine),
	} {
		if got := clean(in); got != want {
			t.Errorf("%.40q: %.40q, want %.40q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if err := cleaned(got); err != nil {
			t.Fatalf("%.100q: %v", got, err)
		}
		if again := clean(got); again != got {
			t.Fatalf("%.100q, cleaned again %.100q", got, again)
		}
		// What is harmless stays as it is.
		if cleaned(s) == nil && got != s {
			t.Fatalf("%.100q was changed to %.100q", s, got)
		}
	})
}

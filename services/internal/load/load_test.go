package load

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCompare(t *testing.T) {
	text := `1 parley {"packets":9,"us_per_packet":3,"loss":0.1,"p99_ms":2,"resent":1}
1 livekit {"packets":9,"us_per_packet":6,"p99_ms":8}
2 parley {"packets":9,"us_per_packet":9,"loss":0,"p99_ms":1,"resent":2}
2 livekit {"packets":9,"us_per_packet":8,"p99_ms":9}
3 parley {"packets":9,"us_per_packet":4,"loss":0,"p99_ms":3,"resent":4}
3 livekit {"packets":9,"us_per_packet":10,"p99_ms":7}
1 w200 {"packets":9,"us_per_packet":5,"kib_per_subscriber":300,"work":{"switches":7}}
`
	l, err := ReadRounds(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Compare()
	want := Comparison{Ratio: 0.5, CPU: 4, Loss: 0.1, P99: 2, W200CPU: 5, W200Each: 300}
	if err != nil || c != want {
		t.Errorf("%+v, %v", c, err)
	}
	for _, part := range []string{"w200", "livekit", "switches", "7"} {
		if !strings.Contains(l.Table(), part) {
			t.Errorf("no %q in the table:\n%s", part, l.Table())
		}
	}
	for _, bad := range []string{"", "x", "1 parley {}", "1 parley {", "1 parley {\"packets\":1}\n1 livekit []", "1 parley {\"packets\":1}\n1 livekit {\"packets\":0}", "1 janus {\"packets\":1}", "1 parley {\"packets\":1}"} {
		l, err := ReadRounds(strings.NewReader(bad))
		if err == nil {
			_, err = l.Compare()
		}
		if err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for i := range 1000 {
		h.Add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := h.Quantile(q); got < want || got > want*110/100 {
			t.Errorf("quantile %v: %v, want %v and a tenth more at most", q, got, want)
		}
	}
	var sum Histogram
	sum.Merge(&h)
	sum.Merge(&h)
	if sum.Count() != 2000 || sum.Quantile(0.5) != h.Quantile(0.5) {
		t.Errorf("%d, %v", sum.Count(), sum.Quantile(0.5))
	}
}

// Keys and certificates that are none are refused, with the file's name.
func TestReadKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	for name, text := range map[string]string{
		"nothing": "", "no PEM": "x", "no key": "-----BEGIN PRIVATE KEY-----\neA==\n-----END PRIVATE KEY-----\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := NewClient(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s as a certificate: %v", name, err)
		}
	}
	if _, err := ParseLiveKit("http://x", "nocolon", "r", nil); err == nil {
		t.Error("a pair without a colon was taken")
	}
}

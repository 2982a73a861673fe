package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/squashfs"
)

// TestMain lets the test program stand in for bench-image when it starts itself.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "-pack-squashfs" {
		if err := packSquashfs(context.Background(), os.Args[2], os.Args[3]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 3, 2, 1}, 2.5}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

func fixed(cpu time.Duration, size int64, n int) []result {
	out := make([]result, n)
	for i := range out {
		out[i] = result{cpu: cpu, size: size}
	}
	return out
}

// TestWorseInputCounts: the JSON line takes the slower and the larger of the inputs, whatever their order.
func TestWorseInputCounts(t *testing.T) {
	a := comparison{ours: fixed(time.Second, 105, 3), theirs: fixed(4*time.Second, 100, 3)}
	b := comparison{ours: fixed(2*time.Second, 101, 3), theirs: fixed(6*time.Second, 100, 3)}
	want := summary{VMDKSpeed: 3, VMDKSize: 1.05, SquashfsSize: 1.05, SquashfsCPU: 0.333}
	for _, order := range [][]comparison{{a, b}, {b, a}} {
		if got := summarize(order, order); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	// One slow run out of three does not count.
	a.ours[1].cpu = time.Hour
	if got := a.cpuRatio(); math.Abs(got-0.25) > 1e-9 {
		t.Errorf("ratio %v, want the median 0.25", got)
	}
}

func TestGather(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"a/x": 100, "a/y/z": 50, "b/x": 70, "b/y": 1000} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte{'x'}, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("x", filepath.Join(dir, "a", "link")); err != nil {
		t.Fatal(err)
	}
	dirs := []string{filepath.Join(dir, "missing"), filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	to := t.TempDir()
	size, used, err := gather(t.Context(), dirs, to, 200)
	if err != nil || size != 220 || len(used) != 2 {
		t.Errorf("gathered %d bytes from %q, %v; want 220 from two", size, used, err)
	}
	if _, err := os.Stat(filepath.Join(to, "2", "y")); err == nil {
		t.Error("files were taken after there were enough")
	}
	if _, _, err := gather(t.Context(), dirs, t.TempDir(), 1e6); err == nil || !strings.Contains(err.Error(), "1220") {
		t.Errorf("too little gave %v", err)
	}
	raw := filepath.Join(t.TempDir(), "raw")
	if n, err := tarDisk(to, raw); err != nil || n != mib {
		t.Errorf("tarDisk: %d, %v, want one MiB", n, err)
	}
	if st, err := os.Stat(raw); err != nil || st.Size() != mib {
		t.Errorf("the disk is %v, %v", st, err)
	}
}

// disk makes a GPT disk whose second partition is a squashfs.
func disk(t *testing.T) string {
	t.Helper()
	const start = 2048
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "file"), []byte(strings.Repeat("content ", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	entries, err := squashfs.FromDir(src)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img := filepath.Join(t.TempDir(), "img")
	g, err := os.Create(img)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, err := squashfs.Write(t.Context(), g, entries, squashfs.Options{ModTime: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	gpt := make([]byte, 2*512+128*128)
	copy(gpt[512:], "EFI PART")
	binary.LittleEndian.PutUint64(gpt[1024+32:], 34)
	binary.LittleEndian.PutUint64(gpt[1024+128+32:], start)
	for off, p := range map[int64][]byte{0: gpt, start * 512: b} {
		if _, err := f.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(4 * mib); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestFindSquashfs(t *testing.T) {
	b, err := os.ReadFile(disk(t))
	if err != nil {
		t.Fatal(err)
	}
	if off, err := findSquashfs(bytes.NewReader(b)); err != nil || off != mib {
		t.Errorf("found at %d, %v, want one MiB", off, err)
	}
	for name, edit := range map[string]func(b []byte){
		"no GPT":         func(b []byte) { b[512] = 0 },
		"no squashfs":    func(b []byte) { b[mib] = 0 },
		"beyond the end": func(b []byte) { binary.LittleEndian.PutUint64(b[1024+128+32:], 1<<50) },
	} {
		c := bytes.Clone(b)
		edit(c)
		if off, err := findSquashfs(bytes.NewReader(c)); err == nil {
			t.Errorf("%s: found at %d", name, off)
		}
	}
	if _, err := findSquashfs(bytes.NewReader(b[:1000])); err == nil {
		t.Error("a short disk passed")
	}
}

// TestReport: the last line is JSON with the four keys and nothing else.
func TestReport(t *testing.T) {
	c := []comparison{{in: input{"x", "x", 1e6}, ours: fixed(time.Second, 1, 1), theirs: fixed(time.Second, 1, 1)}}
	var out bytes.Buffer
	if err := report(&out, []string{"note"}, c, c); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var got map[string]float64
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"vmdk_mb_per_core_s_vs_qemu_img", "vmdk_size_vs_qemu_img", "squashfs_size_vs_mksquashfs", "squashfs_cpu_vs_mksquashfs"} {
		if got[key] != 1 {
			t.Errorf("%s is %v, want 1", key, got[key])
		}
	}
	if len(got) != 4 {
		t.Errorf("%d keys, want 4", len(got))
	}
}

// TestSmallRun measures a small disk and a small folder with the real programs.
func TestSmallRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	for _, tool := range []string{"qemu-img", "mksquashfs", "unsquashfs", "go"} {
		judge(t, tool)
	}
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "file"), bytes.Repeat([]byte("0123456789"), 120_000), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), options{disk: disk(t), tree: tree, work: t.TempDir(), mb: 1, runs: 2}); err != nil {
		t.Error(err)
	}
	if err := run(t.Context(), options{tree: tree, work: t.TempDir(), mb: 10, runs: 1}); err == nil {
		t.Error("one megabyte passed for ten")
	}
	if err := run(t.Context(), options{disk: filepath.Join(tree, "file"), work: t.TempDir(), mb: 1, runs: 1}); err == nil {
		t.Error("a file without partitions passed for a disk")
	}
	if err := run(t.Context(), options{mb: 1}); err == nil {
		t.Error("no runs passed")
	}
}

// judge skips the test (fails it in CI) unless the program is installed.
func judge(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

package lastboot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-meet/parley/internal/durable"
)

// read fails the test on an error.
func read(t *testing.T, dir, id string) (line, report string) {
	t.Helper()
	line, report, err := Read(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	return line, report
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustMark(t *testing.T, dir, id string, orderly bool) {
	t.Helper()
	if err := Mark(dir, id, orderly); err != nil {
		t.Fatal(err)
	}
}

const disorderly = "the last boot ended without an orderly shutdown (power loss, reset or kernel panic)"

// Boots one after the other, as PID 1 goes through them.
func TestBoots(t *testing.T) {
	dir := t.TempDir()
	if line, report := read(t, dir, "1"); line != "" || report != "" {
		t.Errorf("the first boot: %q %q", line, report)
	}
	mustMark(t, dir, "1", false)
	if line, _ := read(t, dir, "1"); line != "" {
		t.Errorf("read again in the same boot: %q", line)
	}
	mustMark(t, dir, "1", true)
	if line, _ := read(t, dir, "2"); line != "" {
		t.Errorf("after an orderly end: %q", line)
	}
	mustMark(t, dir, "2", false)
	if line, _ := read(t, dir, "3"); line != disorderly {
		t.Errorf("after a power cut: %q", line)
	}
	mustMark(t, dir, "3", false)
	write(t, dir, PanicFile, "\npanic: \x1b[2Jboom\ngoroutine 1\n\tmain.go:1\n")
	line, report := read(t, dir, "4")
	if line != "PID 1 panicked: panic:  [2Jboom" || report != "panic: \x1b[2Jboom\ngoroutine 1\n\tmain.go:1" {
		t.Errorf("after a panic: %q %q", line, report)
	}
	if err := Told(dir); err != nil {
		t.Fatal(err)
	}
	mustMark(t, dir, "4", true)
	if line, report := read(t, dir, "5"); line != "" || report != "" {
		t.Errorf("told twice: %q %q", line, report)
	}
	// Boots without a panic leave an empty file; the last report stays.
	for range 3 {
		write(t, dir, PanicFile, "")
		if line, _ := read(t, dir, "5"); line != "" {
			t.Errorf("an empty report: %q", line)
		}
		if err := Told(dir); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, PanicFile+".old")); err != nil || !strings.Contains(string(b), "boom") {
		t.Errorf("the last panic's report was lost: %q, %v", b, err)
	}
	// A newer one takes its place.
	write(t, dir, PanicFile, "panic: bang")
	if err := Told(dir); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, PanicFile+".old")); string(b) != "panic: bang" {
		t.Errorf("%q", b)
	}
	if err := Told(dir); err != nil {
		t.Errorf("nothing to tell: %v", err)
	}
}

func TestJudge(t *testing.T) {
	for content, want := range map[string]string{
		`{"version":1,"bootID":"a","state":"running"}`:  disorderly,
		`{"version":1,"bootID":"b","state":"running"}`:  "",
		`{"version":1,"bootID":"a","state":"clean"}`:    "",
		`{"version":1,"bootID":"a","state":"sleeping"}`: disorderly,
		`{"version":1,"bootID":"a","new":1}`:            disorderly,
		`{"version":2,"bootID":"a","state":"clean"}`:    "not known: boot.json has version 2, want 1",
		`{}`:   "version 0, want 1",
		``:     "not known: boot.json: unexpected end",
		`null`: "version 0",
		"\x00": "not known: boot.json: invalid character",
	} {
		got := judge([]byte(content), "b")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
}

func TestLongReport(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, PanicFile, strings.Repeat("я", maxPanic))
	line, report := read(t, dir, "1")
	if len(report) != maxPanic || len(line) > 350 {
		t.Errorf("a line of %d bytes, a report of %d", len(line), len(report))
	}
	write(t, dir, PanicFile, "x"+strings.Repeat("я", 200)+"\n")
	if line, _ := read(t, dir, "1"); !strings.HasSuffix(line, "я?") {
		t.Errorf("cut inside a character: %q", line)
	}
}

func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "panic: x\ny", "\xff\x1b\u009b", strings.Repeat("\u2028", 200), `{"version":1,"bootID":"a","state":"running"}`, `{"version":"\u001b"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, line := range []string{firstLine(s), judge([]byte(s), "id")} {
			for _, c := range line {
				if c < ' ' || c >= 0x7f && c < 0xa0 || c == 0x2028 || c == 0x2029 {
					t.Fatalf("%q moves a terminal's cursor", line)
				}
			}
		}
		if len(firstLine(s)) > 600 {
			t.Fatalf("%d bytes", len(firstLine(s)))
		}
	})
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "boot.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(dir, "1"); err == nil {
		t.Error("boot.json is a folder and nobody minds")
	}
	if err := os.Mkdir(filepath.Join(dir, PanicFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(dir, "1"); err == nil {
		t.Error("the report is a folder and nobody minds")
	}
	if err := Mark(filepath.Join(dir, "none"), "1", true); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A mark that cannot be written leaves the one before it.
func TestMarkFails(t *testing.T) {
	dir := t.TempDir()
	for _, failing := range durable.Steps[:len(durable.Steps)-1] {
		mustMark(t, dir, "1", false)
		fault := errors.New("fault")
		end := durable.Fault(func(step string) error {
			if step == failing {
				return fault
			}
			return nil
		})
		err := Mark(dir, "1", true)
		end()
		if !errors.Is(err, fault) {
			t.Errorf("%s: %v", failing, err)
		}
		if line, _ := read(t, dir, "2"); line != disorderly {
			t.Errorf("%s: %q, want that the old mark counts", failing, line)
		}
	}
}

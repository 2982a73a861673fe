package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/layout"
)

// TestLongestCmdline: what config takes fits the sector that BIOS reads.
func TestLongestCmdline(t *testing.T) {
	data, err := os.ReadFile("../config.json")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`"arguments": \["quiet"[^]]*\]`).ReplaceAllString(string(data), `"arguments": ["`+strings.Repeat("x", 255)+`"]`)
	text = strings.Replace(text, `"ttyS0", "baud": 115200`, `"ttyS3", "baud": 115200`, 1)
	c, err := config.Decode("config.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range []layout.Slot{layout.SlotA, layout.SlotB} {
		line := Cmdline(c, slot)
		if len(line) > layout.MaxCmdline || !strings.Contains(line, "console=ttyS3,115200 parley.slot="+slot.String()+" xxx") {
			t.Errorf("%d bytes, at most %d fit: %s", len(line), layout.MaxCmdline, line)
		}
	}
}

type writerAt struct{ err error }

func (w writerAt) WriteAt(p []byte, _ int64) (int, error) { return len(p), w.err }

// TestContentHash: every byte and every place counts, and nothing else.
func TestContentHash(t *testing.T) {
	sum := func(writes ...any) string {
		h := &hashingWriter{w: writerAt{}}
		for i := 0; i < len(writes); i += 2 {
			if _, err := h.WriteAt([]byte(writes[i].(string)), int64(writes[i+1].(int))); err != nil {
				t.Fatal(err)
			}
		}
		s := h.sum()
		return hex.EncodeToString(s[:])
	}
	seen := map[string]bool{}
	for _, writes := range [][]any{{}, {"a", 0}, {"a", 1}, {"b", 0}, {"a", 0, "b", 1}, {"b", 1, "a", 0}, {"ab", 0}} {
		s := sum(writes...)
		if seen[s] || s != sum(writes...) {
			t.Errorf("%v: %s", writes, s)
		}
		seen[s] = true
	}
	broken := errors.New("broken")
	if _, err := (&hashingWriter{w: writerAt{broken}}).WriteAt([]byte("a"), 0); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// TestPartChecked: a part that is not the one of config.json is an error that
// names both hashes.
func TestPartChecked(t *testing.T) {
	name := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(name, []byte("part"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256([]byte("part"))
	good := hex.EncodeToString(h[:])
	var p Part
	if err := p.read(name, good); err != nil || string(p.Data) != "part" || p.SHA256 != h {
		t.Errorf("%+v, %v", p, err)
	}
	bad := strings.Repeat("0", 64)
	if err := new(Part).read(name, bad); err == nil || !strings.Contains(err.Error(), good) || !strings.Contains(err.Error(), bad) {
		t.Errorf("got %v", err)
	}
	if err := new(Part).read(name+"x", good); err == nil {
		t.Error("a missing part passed")
	}
}

// TestUnchangedLoader compares the loader with Debian's package of the same
// version, as image/boot/README.md promises.
func TestUnchangedLoader(t *testing.T) {
	ours, err := os.ReadFile("boot/systemd-bootx64.efi")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	version := regexp.MustCompile(`LoaderInfo: systemd-boot \S+`)
	a, b := version.Find(ours), version.Find(theirs)
	if a == nil || b == nil {
		t.Fatalf("versions %q and %q", a, b)
	}
	if !bytes.Equal(a, b) {
		t.Logf("%s is here, Debian has %s by now", a, b)
	} else if !bytes.Equal(ours, theirs) {
		t.Errorf("%s: the bytes are others than Debian's", a)
	}
}

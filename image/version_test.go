package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestVersion(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef01234567"
	for _, c := range []struct {
		described string
		modified  bool
		want      string
	}{
		{"", false, "0.0.0-dev+g0123456789ab"},
		{"", true, "0.0.0-dev+g0123456789ab.modified"},
		{"v1.2.3-0-g0123456789ab", false, "1.2.3"},
		{"v1.2.3-0-g0123456789ab", true, "1.2.3+g0123456789ab.modified"},
		{"v1.2.3-7-g0123456789ab", false, "1.2.4-dev.7+g0123456789ab"},
		{"v1.2.3-rc1-7-g0123456789ab", false, "0.0.0-dev+g0123456789ab"},
	} {
		if got := version(c.described, hash, c.modified); got != c.want {
			t.Errorf("version(%q, modified %v) = %q, want %q", c.described, c.modified, got, c.want)
		}
	}
}

// TestGitVersion asks a real history.
func TestGitVersion(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE=2026-03-04T05:06:07+05:00", "GIT_AUTHOR_DATE=2020-01-01T00:00:00Z")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	if _, err := GitVersion(t.Context(), dir); err == nil {
		t.Error("a folder without history has a version")
	}
	git("init", "-q")
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	git("add", "f")
	git("commit", "-qm", "one")
	git("tag", "v2.0.1")
	v, err := GitVersion(t.Context(), dir)
	if err != nil || v.String != "2.0.1" || !v.Time.Equal(time.Date(2026, 3, 4, 0, 6, 7, 0, time.UTC)) {
		t.Errorf("on the tag: %+v, %v", v, err)
	}
	git("config", "log.showSignature", "true")
	extra := filepath.Join(dir, "extra.go")
	if err := os.WriteFile(extra, []byte("package x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := GitVersion(t.Context(), dir); err != nil || !strings.HasSuffix(v.String, ".modified") {
		t.Errorf("with a file that git does not know: %+v, %v", v, err)
	}
	if err := os.Remove(extra); err != nil {
		t.Fatal(err)
	}
	git("commit", "-qm", "two", "--allow-empty")
	if err := os.WriteFile(file, []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err = GitVersion(t.Context(), dir)
	if err != nil || !strings.HasPrefix(v.String, "2.0.2-dev.1+g") || !strings.HasSuffix(v.String, ".modified") {
		t.Errorf("behind the tag, modified: %+v, %v", v, err)
	}
	if want := "commit-time=2026-03-04T00:06:07Z\n"; !strings.HasSuffix(v.File(), want) {
		t.Errorf("file %q, want the end %q", v.File(), want)
	}
}

package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const maxLines = 700

// vague are names that say nothing about what a package is.
var vague = []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "shared", "base"}

func TestPackageComments(t *testing.T) {
	comment := make(map[string]string) // folder → start of the comment
	seen := make(map[string]string)    // folder → package name
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		seen[s.dir] = s.ast.Name.Name
		if s.ast.Doc != nil {
			comment[s.dir] = s.ast.Doc.Text()
		}
	}
	for dir, name := range seen {
		text := comment[dir]
		want := "Package " + name + " "
		if name == "main" {
			// A command's says its name, with or without Go's old word for it.
			want = strings.ToLower(path.Base(dir)) + " "
			text = strings.ToLower(strings.TrimPrefix(text, "Command "))
		}
		if !strings.HasPrefix(text, want) {
			t.Errorf("%s: the package comment starts with %.40q, want %q", dir, text, want)
		}
	}
}

func TestPackageNames(t *testing.T) {
	for _, s := range sources(t) {
		name := strings.TrimSuffix(s.ast.Name.Name, "_test")
		if slices.Contains(vague, name) || slices.Contains(vague, path.Base(s.dir)) {
			t.Errorf("%s: package %s says nothing about what it is", s.path, name)
		}
		if name != "main" && name != path.Base(s.dir) {
			t.Errorf("%s: package %s in the folder %s", s.path, name, s.dir)
		}
	}
}

func TestFileLengths(t *testing.T) {
	for _, s := range sources(t) {
		if n := s.fset.File(s.ast.Pos()).LineCount(); n > maxLines {
			t.Errorf("%s has %d lines, want at most %d: split it by subject", s.path, n, maxLines)
		}
	}
}

// skipsAnyway are tests that may be skipped in continuous integration, and why.
var skipsAnyway = map[string]string{
	"image/squashfs/oracle_test.go TestKernelMount": "the virtual machine's tests mount the same trees",
	"image/squashfs/oracle_test.go mount":           "the virtual machine's tests mount the same trees",
}

// A test that is skipped where CI is set proves nothing there and looks green.
// So what calls Skip also asks for CI; or for another system than CI's, or for
// go test -short, which CI does not give.
func TestSkipsAskForCI(t *testing.T) {
	used := make(map[string]bool)
	for _, s := range sources(t) {
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !calls(f, "Skip", "Skipf", "SkipNow") {
				continue
			}
			name := s.path + " " + f.Name.Name
			if skipsAnyway[name] != "" {
				used[name] = true
				continue
			}
			if !holds(f, `"CI"`) && !calls(f, "Short") && !holds(f, "GOOS") {
				t.Errorf("%s: skips without asking whether the environment has CI", name)
			}
		}
	}
	for name := range skipsAnyway {
		if !used[name] {
			t.Errorf("%s: has a reason to skip and does not", name)
		}
	}
}

// calls reports whether the function calls one of the names, of testing or of
// what its tests call their testing.TB.
func calls(f *ast.FuncDecl, names ...string) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(names, sel.Sel.Name) {
			x, ok := sel.X.(*ast.Ident)
			found = found || ok && slices.Contains([]string{"t", "b", "f", "tb", "testing"}, x.Name)
		}
		return !found
	})
	return found
}

// holds reports whether the function has the literal or the identifier.
func holds(f *ast.FuncDecl, word string) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			found = found || n.Value == word
		case *ast.Ident:
			found = found || n.Name == word
		}
		return !found
	})
	return found
}

// localPath matches a path of the machine that something was made on. The words
// are put together here, or this file would be found.
var localPath = regexp.MustCompile(`(?:^|[^A-Za-z0-9_.$}*-])(/(?:` + strings.Join([]string{
	"work" + "/", "root" + "/", "tmp" + "/h/", "home" + "/[a-z]", "Users" + "/[A-Za-z]",
}, "|") + "))")

func TestNoLocalPaths(t *testing.T) {
	for _, f := range committed(t) {
		data, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			t.Fatal(err)
		}
		// Foreign binaries are bytes, sums are not words.
		if bytes.IndexByte(data, 0) >= 0 || f == "go.sum" {
			continue
		}
		for i, line := range bytes.Split(data, []byte("\n")) {
			if m := localPath.FindSubmatch(line); m != nil {
				t.Errorf("%s:%d: holds %q", f, i+1, m[1])
			}
		}
	}
}

func TestLocalPath(t *testing.T) {
	for text, want := range map[string]bool{
		"/wo" + "rk/x": true, `"/ro` + `ot/go/pkg"`: true, "see /ho" + "me/anna/x": true,
		"art" + "/wo" + "rk/x": false, "image/boot": false, "$X" + "/ro" + "ot/": false, "the home" + "/": false,
	} {
		if got := localPath.MatchString(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestChangelog(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range changelog(string(data)) {
		t.Errorf("CHANGELOG.md: %s", problem)
	}
}

var (
	release = regexp.MustCompile(`^## \[(\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?)\] - \d{4}-\d{2}-\d{2}( \[YANKED\])?$`)
	kinds   = []string{"### Added", "### Changed", "### Deprecated", "### Removed", "### Fixed", "### Security"}
)

// changelog returns what is not in the form of Keep a Changelog 1.1.0.
func changelog(text string) (problems []string) {
	sections, kind := 0, ""
	for i, line := range strings.Split(text, "\n") {
		bad := func(format string, args ...any) {
			problems = append(problems, fmt.Sprintf("line %d: ", i+1)+fmt.Sprintf(format, args...))
		}
		switch {
		case i == 0:
			if line != "# Changelog" {
				bad("%q: want \"# Changelog\"", line)
			}
		case strings.HasPrefix(line, "## "):
			if kind = ""; sections == 0 && line != "## [Unreleased]" {
				bad("%q: want \"## [Unreleased]\" first", line)
			}
			if sections > 0 && !release.MatchString(line) {
				bad("%q: want \"## [1.2.3] - 2026-01-31\"", line)
			}
			sections++
		case strings.HasPrefix(line, "### "):
			if kind = line; sections == 0 || !slices.Contains(kinds, line) {
				bad("%q: want one of %q inside a version", line, kinds)
			}
		case strings.HasPrefix(line, "- "):
			if kind == "" {
				bad("an entry outside every kind of change: %.40q", line)
			}
		}
	}
	if sections == 0 {
		problems = append(problems, `no section "## [Unreleased]"`)
	}
	return problems
}

func TestChangelogForm(t *testing.T) {
	const head = "# Changelog\n\nWords.\n\n"
	for text, want := range map[string]int{
		head + "## [Unreleased]\n": 0,
		head + "## [Unreleased]\n\n### Added\n\n- x\n\n## [1.0.0] - 2026-01-01\n\n### Fixed\n- y\n": 0,
		head:                                            1,
		"## [Unreleased]\n":                             2,
		head + "## [1.0.0] - 2026-01-01\n":              1,
		head + "## [Unreleased]\n- x\n":                 1,
		head + "## [Unreleased]\n### New\n- x\n":        1,
		head + "## [Unreleased]\n## 1.0.0\n":            1,
		head + "## [Unreleased]\n### Added\n## [1.0]\n": 1,
	} {
		if got := changelog(text); len(got) != want {
			t.Errorf("%q: %q, want %d problems", text, got, want)
		}
	}
}

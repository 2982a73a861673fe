// Package looktest checks the words of an interface: that every language has
// every text, and that every key that templates and Go name has one.
package looktest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/look"
)

var (
	inPages = regexp.MustCompile(`\.T "([^"]+)"`)
	inGo    = regexp.MustCompile(`\.(?:T|flash)\("([^"]+)"[,)]|Title: +"([a-z][^"]*)"|add\((?:&d\.\w+, )?"([^"]+)"`)
	errors  = regexp.MustCompile(`p\(http\.\w+, "([^"]+)"\)|Code: "([^"]+)"\}`)
	faults  = regexp.MustCompile(`fault\.New\([^,]*, "([^"]+)"|l\.Add\([^,]*, "([^"]+)"`)
)

// Pages returns the keys that templates name.
func Pages(t testing.TB, pages fs.FS) []string {
	t.Helper()
	files, err := fs.Glob(pages, "pages/*.html")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var keys []string
	for _, name := range files {
		b, err := fs.ReadFile(pages, name)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, found(inPages, "", string(b))...)
	}
	return keys
}

// Go returns the keys that the Go files of a folder name as literals.
func Go(t testing.TB, dir string) []string {
	t.Helper()
	return goFiles(t, dir, func(text string) []string {
		return append(found(inGo, "", text), append(found(errors, "error.", text), found(faults, "fault.", text)...)...)
	})
}

// Faults returns the keys of the errors that the Go files of a folder give.
func Faults(t testing.TB, dir string) []string {
	t.Helper()
	return goFiles(t, dir, func(text string) []string { return found(faults, "fault.", text) })
}

func goFiles(t testing.TB, dir string, keys func(string) []string) (out []string) {
	t.Helper()
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") || filepath.Base(name) == "doc.go" {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, keys(string(b))...)
	}
	return out
}

func found(re *regexp.Regexp, prefix, text string) (keys []string) {
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		keys = append(keys, prefix+strings.Join(m[1:], ""))
	}
	return keys
}

// Complete fails for what a translator forgot, and for each key without a text.
// A key that ends in "." or "-" is the beginning of one that is put together.
func Complete(t testing.TB, d look.Dictionary, keys []string) {
	t.Helper()
	for _, f := range d.Faults() {
		t.Error(f)
	}
	seen := map[string]bool{}
	for _, k := range keys {
		if !seen[k] && !d[look.English].Has(k) && !strings.HasSuffix(k, ".") && !strings.HasSuffix(k, "-") {
			t.Errorf("%q has no text", k)
		}
		seen[k] = true
	}
}

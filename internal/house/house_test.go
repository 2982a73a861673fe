package house

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/parley-meet/parley"

// root is the repository's folder from here.
const root = "../.."

// source is one .go file.
type source struct {
	path string // from the root, with slashes
	dir  string // "." for the root
	test bool
	ast  *ast.File
	fset *token.FileSet
}

// imports returns the paths that the file imports.
func (s source) imports() []string {
	var paths []string
	for _, i := range s.ast.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			panic(err) // the parser has taken it
		}
		paths = append(paths, p)
	}
	return paths
}

// git runs git in the root and returns its output.
func git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// committed returns the files that git knows and the work tree has.
func committed(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, f := range strings.Split(strings.TrimSuffix(git(t, "ls-files", "-z"), "\x00"), "\x00") {
		if info, err := os.Lstat(filepath.Join(root, f)); err == nil && info.Mode().IsRegular() {
			files = append(files, f)
		}
	}
	if len(files) < 50 {
		t.Fatalf("git knows %d files: this is not the repository", len(files))
	}
	return files
}

var parse = struct {
	sync.Once
	sources []source
	err     error
}{}

// sources returns every .go file that git knows, parsed.
func sources(t *testing.T) []source {
	t.Helper()
	files := committed(t)
	parse.Do(func() {
		for _, f := range files {
			if path.Ext(f) != ".go" || strings.Contains("/"+f, "/testdata/") {
				continue
			}
			s := source{path: f, dir: path.Dir(f), test: strings.HasSuffix(f, "_test.go"), fset: token.NewFileSet()}
			s.ast, parse.err = parser.ParseFile(s.fset, filepath.Join(root, f), nil, parser.ParseComments|parser.SkipObjectResolution)
			if parse.err != nil {
				return
			}
			parse.sources = append(parse.sources, s)
		}
	})
	if parse.err != nil {
		t.Fatal(parse.err)
	}
	return parse.sources
}

// within reports whether dir is top or below it.
func within(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }

// withinAny is within for several.
func withinAny(dir string, tops ...string) bool {
	for _, top := range tops {
		if within(dir, top) {
			return true
		}
	}
	return false
}

// local returns the folder of a package of this module.
func local(importPath string) (dir string, ok bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// standard reports whether the package is of Go's library: its first element
// is no domain.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	_, own := local(importPath)
	return !own && !strings.Contains(first, ".")
}

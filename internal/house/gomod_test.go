package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var requirement = regexp.MustCompile(`^(?:require )?(\S+\.\S+) (v\S+)(?:\s*//\s*(.*))?$`)

// requirements returns the modules of a go.mod and the comment behind each.
func requirements(gomod string) map[string]string {
	found := make(map[string]string)
	for line := range strings.Lines(gomod) {
		if m := requirement.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			found[m[1]] = m[3]
		}
	}
	return found
}

// Each direct dependency says in go.mod why it is there; go mod tidy keeps the
// comment.
func TestDependenciesHaveReasons(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	all := requirements(string(data))
	if len(all) == 0 {
		t.Fatal("go.mod requires nothing: the form was not understood")
	}
	for name, comment := range all {
		if comment != "indirect" && len(strings.Fields(comment)) < 2 {
			t.Errorf("go.mod: %s is a direct dependency without a reason behind it: %q", name, comment)
		}
	}
	if strings.Contains(string(data), "\nreplace ") {
		t.Error("go.mod has a replace: go install and other modules would not see it")
	}
}

func TestRequirements(t *testing.T) {
	got := requirements("module x.example/y\n\ngo 1.26.0\n\nrequire a.example/b v1.2.3 // for c\n\nrequire (\n\td.example/e/v2 v2.0.0 // indirect\n\tf.example/g v0.0.0-20260101000000-abcdef\n)\n")
	want := map[string]string{"a.example/b": "for c", "d.example/e/v2": "indirect", "f.example/g": ""}
	if len(got) != len(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, comment := range want {
		if c, ok := got[name]; !ok || c != comment {
			t.Errorf("%s: %q, want %q", name, c, comment)
		}
	}
}

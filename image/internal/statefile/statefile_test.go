package statefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type content struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
}

func TestLoadAndSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.json")
	var got content
	if found, err := Load(path, 2, &got); found || err != nil {
		t.Errorf("no file: %v, %v", found, err)
	}
	want := content{2, "a \"b\""}
	if err := Save(path, want); err != nil {
		t.Fatal(err)
	}
	if found, err := Load(path, 2, &got); !found || err != nil || got != want {
		t.Errorf("%+v, %v, %v", got, found, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	for bad, words := range map[string]string{
		"": "end of JSON", "{}": "version 0, want 2", `{"version":3,"more":1}`: "version 3, want 2", `{"version":2,"x":1}`: `unknown field "x"`,
		`{"version":2} {}`: "after top-level", `{"version":2,"name":1}`: "cannot unmarshal", "\x00": "invalid",
		`{"version":2}` + strings.Repeat(" ", maxSize): "longer than",
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if found, err := Load(path, 2, &got); !found || err == nil || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.40q: %v, %v; want an error about %q", bad, found, err, words)
		}
	}
}

// Whatever stands in a file, reading it ends with an error or a value of the
// wanted version.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "{}", `{"version":1,"name":"a"}`, `{"version":1}{`, `{"version":1e0}`, `{"Version":1,"version":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v content
		if err := Parse(b, 1, &v); err == nil && v.Version != 1 {
			t.Fatalf("%+v", v)
		}
	})
}

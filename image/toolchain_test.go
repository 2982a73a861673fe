package image

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEnvironment: where things are found is kept, what changes bytes is not.
func TestEnvironment(t *testing.T) {
	user := []string{"PATH=/bin", "HOME=/h", "GOROOT=/go", "GOFLAGS=-tags=x", "GOAMD64=v4", "GOEXPERIMENT=x", "CGO_CFLAGS=-g", "GOPROXY=old", "GODEBUG=x=1", "GOMAXPROCS=1"}
	got := environment(user, map[string]string{"GOPROXY": "https://proxy.example", "GOTOOLCHAIN": "go1.2.3", "GOVERSION": "go9"})
	for _, want := range []string{"PATH=/bin", "HOME=/h", "GOROOT=/go", "GOPROXY=https://proxy.example", "GOTOOLCHAIN=go1.2.3", "GOENV=off", "GOAMD64=v1", "CGO_ENABLED=0"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q lacks %s", got, want)
		}
	}
	for _, kv := range got {
		if slices.Contains(user[3:], kv) || strings.HasPrefix(kv, "GOVERSION") {
			t.Errorf("%s is kept", kv)
		}
	}
}

// TestToolchain asks the real go command with settings of go env -w in the way.
func TestToolchain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("GOEXPERIMENT=arenas\nGOPRIVATE=corp.example\nGOFLAGS=-tags=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOENV", file)
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOTOOLCHAIN", "local")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/x\n\ngo 1.21\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tc, err := NewToolchain(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	out, err := tc.Run(t.Context(), "env", "-json", "GOEXPERIMENT", "GOPRIVATE", "GOFLAGS", "GOOS", "GOTOOLCHAIN")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"GOEXPERIMENT": "", "GOPRIVATE": "corp.example", "GOFLAGS": "-mod=readonly", "GOOS": "linux", "GOTOOLCHAIN": "local"}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s is %q, want %q", name, got[name], v)
		}
	}
	if _, err := tc.Run(t.Context(), "list", "./nothing"); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a missing package gave %v", err)
	}
}

// The version of Go that go.mod names is used although another one runs.
func TestToolchainOfModule(t *testing.T) {
	t.Setenv("GOTOOLCHAIN", "auto")
	t.Setenv("GOENV", "off")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/x\n\ngo 1.21\n\ntoolchain go1.21.13\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tc, err := NewToolchain(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(tc.env, "GOTOOLCHAIN=go1.21.13") {
		t.Errorf("environment is %q", tc.env)
	}
}

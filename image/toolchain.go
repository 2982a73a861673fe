package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Toolchain runs the go command for a module in such a way that what it
// compiles depends on the module alone.
type Toolchain struct {
	Dir string // of go.mod
	env []string
}

// keptSettings say where the go command finds and keeps things. Every other
// setting of the user's, in the environment or made with go env -w, could
// change a byte of what is compiled and is left out.
var keptSettings = []string{
	"GOPATH", "GOMODCACHE", "GOCACHE", "GOTMPDIR", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY",
	"GOINSECURE", "GOAUTH", "GOVCS", "GOTOOLCHAIN",
}

// NewToolchain asks the go command in the folder of a go.mod for the user's
// settings.
//
// Another version of Go makes other bytes. Unless the user forbids it with
// GOTOOLCHAIN=local, the version in go.mod's toolchain line is taken (from the
// module proxy when it is not installed), even where a newer one runs mkovf.
func NewToolchain(ctx context.Context, dir string) (*Toolchain, error) {
	t := &Toolchain{Dir: dir, env: os.Environ()}
	out, err := t.Run(ctx, append([]string{"env", "-json", "GOVERSION"}, keptSettings...)...)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	if err := json.Unmarshal(out, &settings); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	if out, err = t.Run(ctx, "mod", "edit", "-json"); err != nil {
		return nil, err
	}
	var mod struct{ Toolchain string }
	if err := json.Unmarshal(out, &mod); err != nil {
		return nil, fmt.Errorf("go mod edit: %w", err)
	}
	if settings["GOTOOLCHAIN"] != "local" && mod.Toolchain != "" && mod.Toolchain != settings["GOVERSION"] {
		settings["GOTOOLCHAIN"] = mod.Toolchain
	}
	t.env = environment(os.Environ(), settings)
	return t, nil
}

// environment is what the go command sees.
func environment(user []string, settings map[string]string) []string {
	env := slices.DeleteFunc(slices.Clone(user), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name != "GOROOT" && (strings.HasPrefix(name, "GO") || strings.HasPrefix(name, "CGO_"))
	})
	for _, name := range keptSettings {
		if v := settings[name]; v != "" {
			env = append(env, name+"="+v)
		}
	}
	// Without GOENV=off an empty GOEXPERIMENT would mean the one of go env -w.
	return append(env, "GOENV=off", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "CGO_ENABLED=0",
		"GOFLAGS=-mod=readonly", "GOWORK=off", "GOFIPS140=off")
}

// Run runs the go command and returns its standard output.
func (t *Toolchain) Run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = t.Dir
	cmd.Env = t.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if text := bytes.TrimSpace(stderr.Bytes()); len(text) > 0 {
			return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, text)
		}
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	return stdout.Bytes(), nil
}

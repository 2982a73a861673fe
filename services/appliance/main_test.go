package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/parley-meet/parley/image/config"
)

// The services of the shipped config.json name programs that are there, and all
// of them: none is in the image for nothing.
func TestConfig(t *testing.T) {
	cfg, err := config.Load("../../config.json")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, s := range cfg.Services {
		if s.Package != "./services/appliance" {
			t.Errorf("service %s is of %s: a second file has all that they share once more", s.Name, s.Package)
			continue
		}
		if len(s.Arguments) == 0 || programs[s.Arguments[0]] == nil {
			t.Errorf("service %s has the arguments %q, and the first is no program", s.Name, s.Arguments)
			continue
		}
		named[s.Arguments[0]] = true
	}
	for name := range programs {
		if !named[name] {
			t.Errorf("no service of config.json is program %q", name)
		}
	}
}

// The right program gets the rest of the arguments, and its exit code is the
// process's.
func TestRun(t *testing.T) {
	var got []string
	for name := range programs {
		old := programs[name]
		defer func() { programs[name] = old }()
		programs[name] = func(args []string) int {
			got = append([]string{name}, args...)
			return 7
		}
	}
	var out strings.Builder
	if code := run([]string{"console", "-mode", "web"}, &out); code != 7 || fmt.Sprint(got) != "[console -mode web]" || out.Len() > 0 {
		t.Errorf("exit code %d, ran %q, said %q", code, got, &out)
	}
	for _, args := range [][]string{nil, {""}, {"portal"}, {"-mode", "console"}} {
		got = nil
		out.Reset()
		code := run(args, &out)
		if want := "want one of console, controller, network, router\n"; code != 2 || got != nil || !strings.HasSuffix(out.String(), want) {
			t.Errorf("%q: exit code %d, ran %q, said %q", args, code, got, &out)
		}
	}
}

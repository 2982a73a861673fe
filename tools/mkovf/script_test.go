package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/parley-meet/parley/internal/judge"
)

// TestScripts runs the command line as its users see it.
func TestScripts(t *testing.T) {
	root, err := filepath.Abs(repo)
	if err != nil {
		t.Fatal(err)
	}
	// Scripts have a home of their own, where Go would look for its caches.
	var settings []string
	for _, name := range []string{"GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOTOOLCHAIN"} {
		settings = append(settings, name+"="+strings.TrimSpace(judge.Run(t, "go", "env", name)))
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, settings...)
			first, _, _ := strings.Cut(e.Getenv("PATH"), string(filepath.ListSeparator))
			e.Vars = append(e.Vars, "REPO="+root, "BIN="+first)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "namespaces" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			// In CI they have to be there.
			return os.Getenv("CI") != "" || exec.Command("unshare", "-Urm", "true").Run() == nil, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": status, "signal": signalAt, "replace": replace, "ls": ls, "glob": glob,
		},
	})
}

// status N COMMAND: the exit status is N exactly.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command [args...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if exit, ok := err.(*exec.ExitError); ok {
		got = strings.TrimPrefix(exit.Error(), "exit status ")
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// signalAt interrupts or kills a command when it says that a stage begins; its
// standard error becomes the script's.
func signalAt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: signal interrupt|killed STAGE command [args...]")
	}
	path := ""
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(dir, args[2]); path == "" && holds(dir, args[2]) {
			path = p
		}
	}
	cmd := exec.Command(path, args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOTOOLCHAIN", "TMPDIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	var said strings.Builder
	sent := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), args[1]) {
			sent = true
			if args[0] == "killed" {
				ts.Check(cmd.Process.Kill())
			} else {
				ts.Check(cmd.Process.Signal(os.Interrupt))
			}
		}
	}
	if err := cmd.Wait(); err == nil || !sent {
		ts.Fatalf("it ended with %v; the signal was sent: %v\n%s", err, sent, said.String())
	}
	_, err = ts.Stderr().Write([]byte(said.String()))
	ts.Check(err)
}

// replace OLD NEW FILE: OLD is in the file.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace old new file")
	}
	name := ts.MkAbs(args[2])
	data := ts.ReadFile(name)
	if !strings.Contains(data, args[0]) {
		ts.Fatalf("%s lacks %q", args[2], args[0])
	}
	ts.Check(os.WriteFile(name, []byte(strings.ReplaceAll(data, args[0], args[1])), 0o600))
}

// ls lists a folder on standard output, hidden files too.
func ls(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ls folder")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, e := range entries {
		_, err := ts.Stdout().Write([]byte(e.Name() + "\n"))
		ts.Check(err)
	}
}

// glob says that there are files of a pattern.
func glob(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] glob pattern")
	}
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if (len(found) > 0) == neg {
		ts.Fatalf("found %q", found)
	}
}

package judge

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Start starts name, which Need has asked for. It is killed when the test ends; what
// it wrote is shown when the test fails.
func Start(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	p := &Process{Output: &Output{}}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s %s: %v", name, strings.Join(args, " "), err)
	}
	p.follow(t, name, cmd)
	return p
}

// Process is one that a test has started.
type Process struct {
	*Output
	kill func()
	stop func() error
}

// Kill kills it (SIGKILL), and returns when it has ended: the kernel closes its
// sockets, and it says goodbye to nobody.
func (p *Process) Kill() { p.kill() }

// Stop stops it (SIGSTOP): its connections stay open, and nothing comes any more, as
// of a machine that has lost its power. Kill ends it.
func (p *Process) Stop() error { return p.stop() }

// Self starts the test's own program again, with more in its environment and what
// to do on its standard input: its TestMain tells by the environment what it is.
// It is killed when the test ends. It may be called in a thread of another network
// namespace, and the process is there then; so an error is returned.
func Self(t testing.TB, input string, env ...string) (*Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Process{Output: &Output{}}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), p, p
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start this program again: %w", err)
	}
	p.follow(t, strings.Join(env, " "), cmd)
	return p, nil
}

// follow has the process killed when the test ends, or before.
func (p *Process) follow(t testing.TB, name string, cmd *exec.Cmd) {
	p.stop = func() error { return cmd.Process.Signal(syscall.SIGSTOP) }
	p.kill = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, p)
		}
	})
}

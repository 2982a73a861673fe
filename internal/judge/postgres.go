//go:build linux

package judge

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Postgres is a PostgreSQL server of its own for tests, on a socket in a
// temporary folder that nobody else can look into.
type Postgres struct {
	dir  string
	bin  string
	cred *syscall.Credential // nil: the test's own
	cmd  *exec.Cmd
	done chan error
	held *os.File // the reaper ends the server when this is closed
}

// postgresLimit is how long the server may take to start: after a kill it reads
// its log again.
const postgresLimit = 60 * time.Second

// NewPostgres makes a cluster and starts it. It lives as long as the test's
// process, however that ends: a reaper waits for it. Debian's package is
// postgresql, of which only the programs are needed.
func NewPostgres(t testing.TB) *Postgres {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	if len(found) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("PostgreSQL is not installed")
		}
		t.Skip("PostgreSQL is not installed")
	}
	p := &Postgres{bin: filepath.Dir(found[len(found)-1])}
	var err error
	if p.dir, err = os.MkdirTemp("/tmp", "parley-pg"); err != nil { // a socket's path is short
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // which postgres refuses
		u, err := user.Lookup("postgres")
		if err != nil {
			u, err = user.Lookup("nobody")
		}
		if err != nil {
			t.Fatal(err)
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 != nil || err2 != nil {
			t.Fatalf("user %s: ids %s and %s", u.Username, u.Uid, u.Gid)
		}
		p.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(p.dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	p.reaper(t)
	init := p.command("initdb", "-D", p.dir+"/data", "-U", "parley", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// version is the number in /usr/lib/postgresql/17/bin/postgres.
func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// reaper starts a process that waits for the end of this one.
func (p *Postgres) reaper(t testing.TB) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `read x
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
rm -rf "$1"`, "reaper", p.dir)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is not for it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	p.held = w
}

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred, Setpgid: true}
	return cmd
}

// Start starts the server, after Kill again, and returns when it answers.
func (p *Postgres) Start() error {
	log, err := os.OpenFile(p.dir+"/log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = p.command("postgres", "-D", p.dir+"/data", "-k", p.dir, "-c", "listen_addresses=", "-c", "shared_buffers=16MB",
		"-c", "fsync=on", "-c", "max_connections=120", "-c", "max_wal_size=128MB", "-c", "restart_after_crash=off")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.done = make(chan error, 1)
	go func() { p.done <- p.cmd.Wait() }()
	for end := time.Now().Add(postgresLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-p.done:
			text, _ := os.ReadFile(p.dir + "/log")
			return fmt.Errorf("postgres: %v\n%s", err, text)
		default:
		}
		// The last line says "ready" when it answers.
		if b, err := os.ReadFile(p.dir + "/data/postmaster.pid"); err == nil {
			lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
			// A server that was killed has left its file behind.
			own := strings.TrimSpace(string(lines[0])) == strconv.Itoa(p.cmd.Process.Pid)
			if own && strings.TrimSpace(string(lines[len(lines)-1])) == "ready" {
				return nil
			}
		}
	}
	return fmt.Errorf("postgres does not answer after %v", postgresLimit)
}

// Kill kills the server and all its processes: nothing is written any more, and
// the next Start reads the log again.
func (p *Postgres) Kill() error {
	pid := p.cmd.Process.Pid
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return err
	}
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	var children []int
	for _, f := range strings.Fields(string(b)) {
		child, err := strconv.Atoi(f)
		if err != nil {
			return err
		}
		children = append(children, child)
		if err := syscall.Kill(child, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return err
		}
	}
	<-p.done
	// Their shared memory is in use until they are gone.
	for _, child := range children {
		for end := time.Now().Add(postgresLimit); syscall.Kill(child, 0) == nil && !zombie(child); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				return fmt.Errorf("process %d of postgres lives on", child)
			}
		}
	}
	return nil
}

// zombie reports whether a process has ended and nobody has asked how.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(rest, "Z")
}

// URL is the one of a database of the server.
func (p *Postgres) URL(database string) string {
	return "postgres:///" + database + "?user=parley&host=" + p.dir
}

// SQL runs statements on a database, each on its own.
func (p *Postgres) SQL(t testing.TB, database string, statements ...string) string {
	t.Helper()
	args := []string{"-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", p.dir, "-U", "parley", "-d", database}
	for _, s := range statements {
		args = append(args, "-c", s)
	}
	out, err := p.command("psql", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("psql %s %q: %v\n%s", database, statements, err, out)
	}
	return strings.TrimSpace(string(out))
}

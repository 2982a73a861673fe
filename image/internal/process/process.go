// Package process starts services as confined processes and reaps every child
// of PID 1. It is the supervisor's Starter on a real machine.
//
// Reaping: one place calls wait4(-1), the Table. A process that this package
// started is entered in the table before the lock that reaping takes is
// released, so its status always finds it; whatever else ends is an orphan that
// the kernel handed to PID 1, and its status is dropped. Nothing in PID 1 may
// use os/exec, whose own wait would race with the table's.
package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/internal/confine"
	"github.com/parley-meet/parley/image/internal/ring"
	"github.com/parley-meet/parley/image/internal/supervisor"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
)

// Starter starts services.
type Starter struct {
	Launch  string // PID 1's program, which has image/launch in it
	Role    string // of the appliance
	Cgroups string // where each service gets a control group; "": none does
	Table   *Table
	Ring    *ring.Ring // takes what services write
	Log     *slog.Logger
	Guard   func(func()) func() // wraps the top of a goroutine; nil: not
}

// Start starts the service and returns at once.
func (s *Starter) Start(cfg *config.Service) (supervisor.Process, error) {
	spec, err := json.Marshal(Spec(cfg, s.Role))
	if err != nil {
		return nil, err
	}
	var files closer
	defer files.close()
	null, err := files.open(unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	if err != nil {
		return nil, fmt.Errorf("/dev/null: %w", err)
	}
	var out [2]int
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	files = append(files, out[1])
	// Only PID 1's end does not block: a service must be able to use print.
	logs := file(out[0], cfg.Name+" log")
	line, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		logs.Close()
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	files = append(files, line[1])
	p := &process{
		table:    s.Table,
		line:     file(line[0], cfg.Name+" liveness"),
		messages: make(chan liveness.Message, 4),
		exited:   make(chan supervisor.Exit, 1),
		closed:   make(chan struct{}),
	}
	attr := &syscall.SysProcAttr{Setsid: true}
	if s.Cgroups != "" {
		// Better without its share than not at all.
		if attr.CgroupFD, err = files.open(s.group(cfg.Name)); err != nil {
			s.Log.Warn("start", "service", cfg.Name, "error", err)
		}
		attr.UseCgroupFD = err == nil
	}
	memfd, err := files.open(unix.MemfdCreate("spec", unix.MFD_CLOEXEC))
	if err == nil {
		_, err = unix.Pwrite(memfd, spec, 0)
	}
	if err == nil {
		err = s.Table.start(p, s.Launch, []string{confine.LaunchName, cfg.Name}, &syscall.ProcAttr{
			Dir: "/",
			// What launch needs in front of its own program; the service's
			// environment is in the spec.
			Env:   []string{"GOTRACEBACK=single", "GOMAXPROCS=1"},
			Files: []uintptr{uintptr(null), uintptr(out[1]), uintptr(out[1]), uintptr(line[1]), uintptr(memfd)},
			Sys:   attr,
		})
	}
	if err != nil {
		logs.Close()
		p.line.Close()
		return nil, fmt.Errorf("%s: %w", s.Launch, err)
	}
	guard := s.Guard
	if guard == nil {
		guard = func(f func()) func() { return f }
	}
	// Both goroutines end with the process: it has no children, so its ends of
	// the pipe and of the socket are closed with it.
	go guard(func() {
		defer logs.Close()
		if err := s.Ring.Copy(cfg.Name, logs, ring.ServiceRate); err != nil {
			s.Log.Error("log pipe", "service", cfg.Name, "error", err)
		}
	})()
	go guard(func() { p.read(cfg.Name, s.Log) })()
	return p, nil
}

// Spec returns what the service is confined to on an appliance of the role.
func Spec(s *config.Service, role string) *confine.Spec {
	spec := &confine.Spec{
		Path:      ServicePath(s.Package),
		Args:      s.Arguments,
		UID:       s.User.ID,
		GID:       s.User.ID,
		Groups:    slices.Clone(s.User.Groups),
		Caps:      s.Capabilities,
		Files:     config.DefaultFiles,
		Processes: maxThreads,
		Bind:      s.Access.Bind,
		Connect:   s.Access.Connect, ConnectAny: s.Access.ConnectAny,
		Umask: 0o027,
		Env: []string{
			"HOME=/",
			"TZ=UTC",
			"GOTRACEBACK=single",
			"PARLEY_ROLE=" + role,
			layout.LivenessEnv + "=" + strconv.Itoa(confine.LivenessFD),
		},
		// /etc is the image's; somaxconn is what Go's listeners ask for.
		Read: append([]string{
			"/etc", layout.RunDir + "/network", "/proc/sys/net/core/somaxconn",
		}, s.Access.Read...),
		Write: append([]string{
			layout.RunDir + "/" + s.Name, layout.PermDir + "/" + s.Name, "/dev/null",
		}, s.Access.Write...),
	}
	if s.Files != 0 {
		spec.Files = uint64(s.Files)
	}
	if s.MemoryMiB != 0 {
		spec.Env = append(spec.Env, fmt.Sprintf("GOMEMLIMIT=%dMiB", s.MemoryMiB))
	}
	for _, t := range s.Terminals {
		spec.Devices = append(spec.Devices, "/dev/"+t)
	}
	console := slices.Contains(s.User.Groups, layout.ConsoleGroup)
	if console {
		// What one console makes there the other reads and replaces, folders
		// included: they are setgid, and the group may write.
		spec.Write = append(spec.Write, layout.CredentialDir, layout.CredentialRunDir)
		spec.Umask = 0o007
	}
	switch {
	case !slices.Contains(s.User.Groups, layout.ConnectorGroup):
	case console:
		spec.Write = append(spec.Write, layout.ConnectorDir)
	default:
		// Settings and keys are the consoles' to change. Their folder's mode lets
		// the whole group write; it is Landlock that does not.
		spec.Read = append(spec.Read, layout.ConnectorDir)
		spec.Write = append(spec.Write, layout.ConnectorRunDir)
	}
	switch s.Control {
	case "":
	case config.ControlClock:
		spec.Groups = append(spec.Groups, layout.ControlGroup)
		spec.Sockets = []string{layout.ControlSocket}
	default:
		// A console asks PID 1 and the services, each by its socket.
		spec.Groups = append(spec.Groups, layout.ControlGroup)
		spec.Sockets = []string{layout.RunDir}
	}
	// The kernel ends something else first when memory is short: a service that
	// is not essential before one that is, and PID 1 never.
	spec.OOMScoreAdj = 300
	if s.Essential {
		spec.OOMScoreAdj = 100
	}
	return spec
}

// maxThreads is how many threads a service's user may have.
const maxThreads = 1024

// ServicePath is where the builder puts a package's program.
func ServicePath(pkg string) string { return layout.ServiceDir + "/" + path.Base(pkg) }

// file wraps a descriptor so that reading and writing it does not hold a thread.
func file(fd int, name string) *os.File {
	// os.NewFile registers a non-blocking descriptor with the poller. Setting
	// the flag on a descriptor that is open cannot fail.
	_ = unix.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), name)
}

// closer closes descriptors that only the child needs.
type closer []int

func (c *closer) open(fd int, err error) (int, error) {
	if err == nil {
		*c = append(*c, fd)
	}
	return fd, err
}

// close has a pointer receiver: it is deferred before there is anything to close.
func (c *closer) close() {
	for _, fd := range *c {
		unix.Close(fd)
	}
}

// process is a started service.
type process struct {
	table    *Table
	pid      int
	line     *os.File
	messages chan liveness.Message
	exited   chan supervisor.Exit // buffered: the table never waits
	closed   chan struct{}
	once     sync.Once
}

func (p *process) PID() int                          { return p.pid }
func (p *process) Messages() <-chan liveness.Message { return p.messages }
func (p *process) Exited() <-chan supervisor.Exit    { return p.exited }
func (p *process) Signal(sig syscall.Signal) error   { return p.table.signal(p, sig) }

// Ping writes a packet and never waits: the socket holds more than the one ping
// that is ever unanswered, so one that is full is a service that broke the rule.
// There is no deadline. On a slow machine one that is short is over before the
// write was tried, and a ping that nobody got counts as one not answered.
func (p *process) Ping(seq uint64) error {
	b, err := json.Marshal(liveness.Ping{Seq: seq})
	if err != nil {
		return err
	}
	c, err := p.line.SyscallConn()
	if err != nil {
		return err
	}
	var werr error
	err = c.Write(func(fd uintptr) bool {
		_, werr = unix.Write(int(fd), b)
		return true
	})
	return errors.Join(err, werr)
}

func (p *process) Close() {
	p.once.Do(func() {
		close(p.closed)
		p.line.Close()
	})
}

// read hands on what the service says. A service that sends what is no message
// loses its line: it then counts as one that does not answer.
func (p *process) read(name string, log *slog.Logger) {
	defer close(p.messages)
	buf := make([]byte, liveness.MaxMessage+1)
	for {
		n, err := p.line.Read(buf)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
				log.Error("liveness line", "service", name, "error", err)
			}
			return
		}
		m, err := ParseMessage(buf[:n])
		if err != nil {
			log.Error("liveness line", "service", name, "error", err)
			return
		}
		select {
		case p.messages <- m:
		case <-p.closed:
			return
		}
	}
}

// ParseMessage reads one packet of a service. Texts are cut to
// liveness.MaxText bytes of JSON, and what does not print becomes a space.
func ParseMessage(b []byte) (liveness.Message, error) {
	var m liveness.Message
	if len(b) > liveness.MaxMessage {
		return m, fmt.Errorf("packet is longer than %d bytes", liveness.MaxMessage)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return liveness.Message{}, fmt.Errorf("packet %.100q: %w", b, err)
	}
	m.Detail, m.Error = oneLine(m.Detail), oneLine(m.Error)
	return m, nil
}

// oneLine bounds the text as JSON spells it, which is how package liveness
// counts too: a status with many services must fit into one line.
func oneLine(s string) string {
	var b strings.Builder
	size := 0
	for _, c := range s {
		if !unicode.IsPrint(c) {
			c = ' '
		}
		n := utf8.RuneLen(c)
		switch c {
		case '"', '\\':
			n = 2
		case '<', '>', '&':
			n = 6
		}
		if size += n; size > liveness.MaxText {
			break
		}
		b.WriteRune(c)
	}
	return b.String()
}

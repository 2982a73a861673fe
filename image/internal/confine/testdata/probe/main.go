// Command probe is the service of this package's tests: it says what it is and
// what it may do. Each argument is an attempt "VERB:WHAT", each line of output
// "VERB:WHAT RESULT", where the result is "ok" or the error's name.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/liveness"
)

func main() {
	for _, a := range os.Args[1:] {
		verb, what, _ := strings.Cut(a, ":")
		f := verbs[verb]
		if f == nil {
			fmt.Fprintf(os.Stderr, "unknown verb %q\n", verb)
			os.Exit(2)
		}
		err := f(what)
		var errno syscall.Errno
		switch {
		case err == nil:
			fmt.Println(a, "ok")
		case errors.As(err, &errno):
			fmt.Println(a, unix.ErrnoName(errno))
		default:
			fmt.Println(a, err)
		}
	}
}

var verbs = map[string]func(string) error{
	"report": report,
	"read": func(p string) error {
		_, err := os.ReadFile(p)
		return err
	},
	"show": func(p string) error {
		b, err := os.ReadFile(p)
		os.Stdout.Write(b)
		return err
	},
	"list": func(p string) error {
		_, err := os.ReadDir(p)
		return err
	},
	"write": func(p string) error {
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString("probe")
		return err
	},
	"create": func(p string) error {
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if err != nil {
			return err
		}
		return f.Close()
	},
	"truncate": func(p string) error { return os.Truncate(p, 0) },
	"remove":   os.Remove,
	"mkdir":    func(p string) error { return os.Mkdir(p, 0o777) },
	"mknod":    func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
	"rename": func(p string) error {
		from, to, _ := strings.Cut(p, ",")
		return os.Rename(from, to)
	},
	// lock takes a file's lock as two processes that share it do.
	"lock": func(p string) error {
		f, err := os.OpenFile(p, os.O_RDWR|os.O_CREATE, 0o660)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	},
	"ping": func(string) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	},
	"exec": func(p string) error {
		// The copy is an own program in a folder that it may write.
		if from, to, ok := strings.Cut(p, ","); ok {
			b, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			if err := os.WriteFile(to, b, 0o777); err != nil {
				return err
			}
			p = to
		}
		return unix.Exec(p, []string{p}, nil)
	},
	"ioctl": func(p string) error {
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		return err
	},
	"bind": func(port string) error {
		l, err := net.Listen("tcp4", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		return l.Close()
	},
	"connect": func(port string) error {
		c, err := net.Dial("tcp4", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		return c.Close()
	},
	"unix": func(p string) error {
		c, err := net.Dial("unix", p)
		if err != nil {
			return err
		}
		return c.Close()
	},
	"raw": func(string) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	},
	"kill": func(pid string) error {
		n, err := strconv.Atoi(pid)
		if err != nil {
			return err
		}
		return unix.Kill(n, 0)
	},
	"setuid": func(string) error { return unix.Setresuid(0, 0, 0) },
	"setgid": func(string) error { return unix.Setresgid(0, 0, 0) },
	"addcap": func(string) error {
		return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SYS_ADMIN, 0, 0)
	},
	"mount": func(p string) error { return unix.Mount("tmpfs", p, "tmpfs", 0, "") },
	"files": func(string) error {
		for {
			if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
				return err
			}
		}
	},
	"nolimit": func(string) error {
		return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 16, Max: 1 << 16})
	},
	"say": func(text string) error {
		_, err := fmt.Fprintln(os.Stderr, text)
		return err
	},
	"exit": func(code string) error {
		n, err := strconv.Atoi(code)
		if err == nil {
			os.Exit(n)
		}
		return err
	},
	"self": func(sig string) error {
		n, err := strconv.Atoi(sig)
		if err != nil {
			return err
		}
		signal.Reset()
		return unix.Kill(os.Getpid(), syscall.Signal(n))
	},
	// call makes a system call of that number and first argument.
	"call": func(numbers string) error {
		var nr, arg uintptr
		if _, err := fmt.Sscanf(numbers, "%d,%d", &nr, &arg); err != nil {
			return err
		}
		pid, _, errno := unix.RawSyscall(nr, arg, 0, 0)
		switch {
		case errno != 0:
			return errno
		case pid == 0: // the child
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return nil
	},
	"sleep": func(string) error { return unix.Pause() },
	"orphan": func(string) error {
		// Its own program is the one that it may execute. The child of the
		// child outlives it.
		_, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "say:orphan"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
		return err
	},
	"serve": serve,
	// listen serves with a socket that its group may use.
	"listen": func(p string) error {
		l, err := net.Listen("unix", p)
		if err != nil {
			return err
		}
		defer l.Close()
		if err := os.Chmod(p, 0o660); err != nil {
			return err
		}
		return serve(p)
	},
	// packet sends what is no message.
	"packet": func(text string) error {
		_, err := unix.Write(3, []byte(text))
		return err
	},
	"deaf": func(string) error {
		line, err := liveness.Open()
		if err != nil {
			return err
		}
		if err := line.Ready("deaf"); err != nil {
			return err
		}
		return unix.Pause()
	},
}

// serve says that it is ready and answers until SIGTERM.
func serve(detail string) error {
	line, err := liveness.Open()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := line.Ready(detail); err != nil {
		return err
	}
	return line.Run(ctx, func() (string, error) { return detail, nil })
}

// Report is what the process is, as the kernel and its own runtime see it.
type Report struct {
	Args, Env []string
	Cwd       string
	Umask     int
	Status    map[string]string // /proc/self/status
	Files     map[string]string // of /proc/self/fd
	Limits    map[string]uint64
	OOM       string
	Session   bool // it leads its session
	Bits      int  // securebits
}

func report(string) error {
	r := Report{Args: os.Args, Env: os.Environ(), Status: make(map[string]string), Files: make(map[string]string), Limits: make(map[string]uint64)}
	r.Cwd, _ = os.Getwd()
	r.Umask = unix.Umask(0)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for sc := bufio.NewScanner(bytes.NewReader(status)); sc.Scan(); {
		k, v, _ := strings.Cut(sc.Text(), ":")
		r.Status[k] = strings.TrimSpace(v)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range fds {
		// The runtime's own and the one that lists them are close-on-exec.
		n, _ := strconv.Atoi(e.Name())
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			target, _ := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
			r.Files[e.Name()], _, _ = strings.Cut(target, ":")
		}
	}
	for name, which := range map[string]int{"files": unix.RLIMIT_NOFILE, "processes": unix.RLIMIT_NPROC, "core": unix.RLIMIT_CORE, "locked": unix.RLIMIT_MEMLOCK} {
		var l unix.Rlimit
		if err := unix.Prlimit(0, which, nil, &l); err != nil {
			return err
		}
		r.Limits[name] = l.Max
	}
	oom, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return err
	}
	r.OOM = strings.TrimSpace(string(oom))
	sid, err := unix.Getsid(0)
	r.Session = err == nil && sid == os.Getpid()
	if r.Bits, err = unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0); err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = io.WriteString(os.Stdout, "report: "+string(b)+"\n")
	return err
}

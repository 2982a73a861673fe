package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/parley-meet/parley/image/layout"
)

// Sysctl is a kernel parameter.
type Sysctl struct {
	Name, Value string
}

// Sysctls are set before the services start. kernel.kexec_load_disabled is not
// among them: an update may try a new system by kexec, which only PID 1 can do
// anyway.
var Sysctls = []Sysctl{
	// The serial line must not offer a reset or a memory dump to whoever can send
	// a BREAK on it.
	{"kernel.sysrq", "0"},
	// Kernel messages go to the log; on the serial line they would stand in the
	// middle of what an operator types. A panic is printed all the same.
	{"kernel.printk", "1 4 1 7"},
	// What the kernel does not survive ends in a reboot.
	{"kernel.panic", "10"},
	{"kernel.panic_on_oops", "1"},
	{"kernel.panic_on_rcu_stall", "1"},
	{"kernel.hung_task_panic", "1"},
	// Ctrl-Alt-Del is a signal to PID 1, not a reset.
	{"kernel.ctrl-alt-del", "0"},
	// Nobody learns the kernel's addresses or enters it by these doors.
	{"kernel.kptr_restrict", "2"},
	{"kernel.dmesg_restrict", "1"},
	{"kernel.perf_event_paranoid", "3"},
	{"kernel.unprivileged_bpf_disabled", "1"},
	{"net.core.bpf_jit_harden", "2"},
	{"kernel.yama.ptrace_scope", "2"},
	{"kernel.io_uring_disabled", "2"},
	{"vm.unprivileged_userfaultfd", "0"},
	{"dev.tty.ldisc_autoload", "0"},
	{"dev.tty.legacy_tiocsti", "0"},
	{"fs.protected_symlinks", "1"},
	{"fs.protected_hardlinks", "1"},
	{"fs.protected_fifos", "2"},
	{"fs.protected_regular", "2"},
	{"fs.suid_dumpable", "0"},
	{"kernel.core_pattern", ""},
	// Services take their ports from 80 up without a capability; Landlock says
	// which of them.
	{"net.ipv4.ip_unprivileged_port_start", "80"},
	// The consoles ping without a capability (ICMP sockets, RFC 792), nobody else.
	{"net.ipv4.ping_group_range", strconv.Itoa(layout.ConsoleGroup) + " " + strconv.Itoa(layout.ConsoleGroup)},
	// Landlock's rules are about TCP and let MPTCP pass, on any port.
	{"net.mptcp.enabled", "0"},
	// A host, not a router. Loose reverse-path filter: with two addresses of one
	// network the answer may leave by the other.
	{"net.ipv4.conf.all.rp_filter", "2"},
	{"net.ipv4.conf.default.rp_filter", "2"},
	{"net.ipv4.conf.all.accept_redirects", "0"},
	{"net.ipv4.conf.default.accept_redirects", "0"},
	{"net.ipv4.conf.all.secure_redirects", "0"},
	{"net.ipv4.conf.default.secure_redirects", "0"},
	{"net.ipv4.conf.all.send_redirects", "0"},
	{"net.ipv4.conf.default.send_redirects", "0"},
	{"net.ipv4.conf.all.accept_source_route", "0"},
	{"net.ipv4.conf.default.accept_source_route", "0"},
	{"net.ipv6.conf.all.accept_redirects", "0"},
	{"net.ipv6.conf.default.accept_redirects", "0"},
	{"net.ipv6.conf.all.accept_source_route", "0"},
	{"net.ipv6.conf.default.accept_source_route", "0"},
	{"net.ipv4.icmp_echo_ignore_broadcasts", "1"},
	{"net.ipv4.tcp_syncookies", "1"},
	{"net.ipv4.tcp_rfc1337", "1"},
}

// LastSysctls cannot be taken back and are set when everything has been loaded.
var LastSysctls = []Sysctl{
	{"kernel.modules_disabled", "1"},
}

// SetSysctls writes the parameters under root, /proc/sys. One that this kernel
// has not is told once for all; another error is logged for each.
func SetSysctls(root string, list []Sysctl, log *slog.Logger) {
	var missing []string
	for _, s := range list {
		err := setSysctl(root, s)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, s.Name)
		case err != nil:
			log.Error("sysctl", "error", err)
		}
	}
	if len(missing) > 0 {
		log.Info("the kernel has no such sysctls", "names", strings.Join(missing, " "))
	}
}

func setSysctl(root string, s Sysctl) error {
	f, err := os.OpenFile(filepath.Join(root, strings.ReplaceAll(s.Name, ".", "/")), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	// The line's end matters: of a write of nothing the kernel takes no notice, so
	// an empty value would not be set.
	_, err = f.WriteString(s.Value + "\n")
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return fmt.Errorf("%s = %q: %w", s.Name, s.Value, err)
	}
	return nil
}

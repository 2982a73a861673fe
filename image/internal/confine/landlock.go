package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights on files.
const (
	readFile = unix.LANDLOCK_ACCESS_FS_READ_FILE
	readTree = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	// writeTree leaves out devices of both kinds: nobody but PID 1 makes them.
	writeTree = readTree | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER |
		unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	device = readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	// onFile are the rights that a rule about something other than a folder may
	// carry; the kernel refuses others there.
	onFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
)

// ruleNetPort and netPort are LANDLOCK_RULE_NET_PORT and struct
// landlock_net_port_attr of linux/landlock.h.
const ruleNetPort = 2

type netPort struct {
	access uint64
	port   uint64
}

// handled returns what a domain under the ABI version controls.
func handled(abi int) (fsRights, netRights, scoped uint64) {
	// Bits 0 to 12 are those of the first ABI.
	fsRights = 1<<13 - 1
	if abi >= 2 {
		fsRights |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		fsRights |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		netRights = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= 5 {
		fsRights |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	if abi >= 9 {
		fsRights |= unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	}
	return fsRights, netRights, scoped
}

// minABI is the oldest Landlock that is taken: below it a file could be
// truncated without the right to write.
const minABI = 3

// ruleset makes the Landlock ruleset of the spec. The caller closes it.
func ruleset(s *Spec) (fd int, err error) {
	abi, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return -1, fmt.Errorf("landlock_create_ruleset(version): %w", errno)
	}
	if abi < minABI {
		return -1, fmt.Errorf("landlock ABI %d: want at least %d", abi, minABI)
	}
	fsRights, netRights, scoped := handled(int(abi))
	if s.ConnectAny {
		netRights &^= unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: fsRights, Handled_access_net: netRights, Scoped: scoped}
	// The kernel takes a longer struct than it knows as long as the rest is zero.
	r, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return -1, fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	rules := int(r)
	defer func() {
		if err != nil {
			unix.Close(rules)
		}
	}()
	allow := func(rights uint64, paths ...string) error {
		for _, p := range paths {
			if err := allowPath(rules, p, rights&fsRights); err != nil {
				return err
			}
		}
		return nil
	}
	if err := errors.Join(
		allow(unix.LANDLOCK_ACCESS_FS_EXECUTE|readFile, s.Path),
		allow(readTree, s.Read...),
		allow(writeTree, s.Write...),
		allow(device, s.Devices...),
		allow(unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX, s.Sockets...),
	); err != nil {
		return -1, err
	}
	if netRights == 0 {
		return rules, nil
	}
	for _, p := range s.Bind {
		if err := allowPort(rules, p, unix.LANDLOCK_ACCESS_NET_BIND_TCP); err != nil {
			return -1, err
		}
	}
	for _, p := range s.Connect {
		if s.ConnectAny {
			break // the kernel refuses a rule about what is not handled
		}
		if err := allowPort(rules, p, unix.LANDLOCK_ACCESS_NET_CONNECT_TCP); err != nil {
			return -1, err
		}
	}
	return rules, nil
}

// allowPath adds a rule. A path that does not exist needs none.
func allowPath(ruleset int, path string, rights uint64) error {
	if rights == 0 {
		return nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= onFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("landlock_add_rule(%s, %#x): %w", path, rights, errno)
	}
	return nil
}

func allowPort(ruleset int, port uint16, rights uint64) error {
	rule := netPort{access: rights, port: uint64(port)}
	_, _, errno := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), ruleNetPort, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("landlock_add_rule(port %d, %#x): %w", port, rights, errno)
	}
	return nil
}

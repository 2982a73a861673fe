// Package config is the schema of config.json, the description of an appliance
// instance: its kernel, services, virtual hardware, network defaults and update
// keys. The builder reads it, and a copy of it in the root file system tells
// PID 1 what to run.
//
// Decoding is strict: an unknown, missing or repeated field, a wrong type, null
// or an impossible value is an *Error with file, line, column and field. A field
// is optional when its tag says omitempty or omitzero; names are matched with
// their case. A file is at most MaxSize bytes of UTF-8.
package config

import (
	"slices"
	"strconv"
	"time"
)

// FormatVersion is the version of the schema that this package reads.
const FormatVersion = 1

// Config is a whole config.json.
type Config struct {
	FormatVersion int       `json:"formatVersion"`
	Hostname      string    `json:"hostname"`
	Role          string    `json:"role"` // of a machine that nobody gave one
	Kernel        Kernel    `json:"kernel"`
	Boot          Boot      `json:"boot"`
	Hardware      Hardware  `json:"hardware"`
	Network       Network   `json:"network"`
	Serial        Serial    `json:"serial"`
	Update        Update    `json:"update"`
	Variants      []Variant `json:"variants"`
	Services      []Service `json:"services"`
}

// Kernel names the Go package whose module folder holds a file vmlinuz
// (gokrazy's convention).
type Kernel struct {
	Package   string   `json:"package"`
	Arguments []string `json:"arguments"` // behind those that the builder sets
}

// Firmware names.
const (
	BIOS = "bios"
	UEFI = "uefi"
)

// Boot says which firmware the disk starts from, and the parts for it.
type Boot struct {
	Firmware []string `json:"firmware"`
	MBR      MBR      `json:"mbr,omitzero"`  // must be there for BIOS
	UEFI     File     `json:"uefi,omitzero"` // must be there for UEFI: systemd-boot, as the fallback loader \EFI\BOOT\BOOTX64.EFI
}

// MBR names the BIOS boot loader: a file in the folder of a Go module.
type MBR struct {
	Module string `json:"module"`
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
}

// File is a file that must have the given content.
type File struct {
	Path   string `json:"path"` // relative to the folder of go.mod, or absolute
	SHA256 string `json:"sha256"`
}

// Hardware is the virtual machine that the OVF asks for.
type Hardware struct {
	CPUs      int `json:"cpus"`
	MemoryMiB int `json:"memoryMiB"`
	DiskMiB   int `json:"diskMiB"`
}

// ModeDHCP is the network mode that asks a DHCP server.
const ModeDHCP = "dhcp"

// Network is eth0's state until an administrator sets another.
type Network struct {
	Interface string `json:"interface"`
	Mode      string `json:"mode"` // "dhcp"
}

// Serial is the recovery line.
type Serial struct {
	Device string `json:"device"` // "ttyS0"
	Baud   int    `json:"baud"`
	// NoRecovery is the field recovery the other way round: whoever holds the
	// console may reset the administrator's password unless it says false.
	NoRecovery Off `json:"recovery,omitempty"`
}

// Off is a field that is true in JSON unless the file says false, and false
// here, so that an absent one means what a new value does.
type Off bool

// MarshalJSON implements json.Marshaler.
func (o Off) MarshalJSON() ([]byte, error) { return strconv.AppendBool(nil, !bool(o)), nil }

// Update channels. An appliance of a channel other than development must know a
// root key, or it could never take an update.
const (
	ChannelStable      = "stable"
	ChannelTest        = "test"
	ChannelDevelopment = "development"
)

// Update says which updates the appliance takes.
type Update struct {
	Channel string   `json:"channel"` // "stable", "test" or "development"
	Keys    []string `json:"keys"`    // root keys: Ed25519 public keys, base64
}

// Variant is one OVF made from the disk.
type Variant struct {
	Name      string `json:"name"` // of the files: parley-controller
	Role      string `json:"role"`
	Title     string `json:"title"`
	CPUs      int    `json:"cpus,omitempty"`      // 0: hardware.cpus
	MemoryMiB int    `json:"memoryMiB,omitempty"` // 0: hardware.memoryMiB
}

// Rights on PID 1's control socket, each with those before it; "" is none.
const (
	ControlRead     = "read"     // status and logs
	ControlServices = "services" // start, stop and restart services
	ControlManage   = "manage"   // reboot, poweroff, role, reset, identity, clock
	ControlOperate  = "operate"  // repair
)

// ControlClock stands beside them: clock and hostname, and nothing else. It is
// for the service that learns both from the network; the host name is its alone.
const ControlClock = "clock"

// Service is a process that PID 1 keeps running.
type Service struct {
	Name         string   `json:"name"`    // operators' name, the log's tag, the folder in /run and /perm
	Title        string   `json:"title"`   // for people
	Package      string   `json:"package"` // Go package, "./services/console"
	Arguments    []string `json:"arguments,omitempty"`
	User         User     `json:"user"`
	Capabilities []string `json:"capabilities,omitempty"` // "NET_ADMIN"; nothing else is in any set
	Roles        []string `json:"roles"`                  // appliances it runs on
	Essential    bool     `json:"essential,omitempty"`    // the watchdog is fed only while it answers
	Unique       bool     `json:"unique,omitempty"`       // not started while this machine may be a copy of another
	Control      string   `json:"control,omitempty"`      // rights on PID 1's socket: "" or one of those above
	Terminals    []string `json:"terminals,omitempty"`    // devices handed to its user: "ttyS0"
	MemoryMiB    int      `json:"memoryMiB,omitempty"`    // GOMEMLIMIT; 0: none
	Files        int      `json:"files,omitempty"`        // RLIMIT_NOFILE; 0: 1024
	Ready        Duration `json:"ready,omitempty"`        // deadline from start to ready; 0: 30s
	Stop         Duration `json:"stop,omitempty"`         // deadline from SIGTERM to SIGKILL; 0: 5s
	Restart      Restart  `json:"restart,omitzero"`
	Access       Access   `json:"access"`
}

// User is who a service runs as. There is no /etc/passwd: the numbers rule.
type User struct {
	Name   string   `json:"name"`
	ID     uint32   `json:"id"`               // user and group
	Groups []uint32 `json:"groups,omitempty"` // supplementary
}

// Restart is the pause before a service that ended is started again: none the
// first time, then Min, doubled up to Max, with jitter.
type Restart struct {
	Min Duration `json:"min,omitempty"` // 0: 100ms
	Max Duration `json:"max,omitempty"` // 0: 30s
	// Calm is how long a service must run for its next pause to be none again.
	Calm Duration `json:"calm,omitempty"` // 0: 60s
}

// Access is what Landlock lets a service touch; its binary, /etc, and its own
// folders in /run and /perm always are (read, read, write, write), and so are the
// folders of the groups layout.ConsoleGroup and layout.ConnectorGroup by being in
// them: both lists name none of these.
type Access struct {
	Read    []string `json:"read,omitempty"`
	Write   []string `json:"write,omitempty"`
	Bind    []uint16 `json:"bind,omitempty"`    // TCP ports it may listen on
	Connect []uint16 `json:"connect,omitempty"` // TCP ports it may connect to
	// ConnectAny lets it connect to every TCP port, as diagnostics must: Connect
	// is then absent.
	ConnectAny bool `json:"connectAny,omitempty"`
}

// Defaults that an absent field stands for.
const (
	DefaultReady      = 30 * time.Second
	DefaultStop       = 5 * time.Second
	DefaultRestartMin = 100 * time.Millisecond
	DefaultRestartMax = 30 * time.Second
	DefaultCalm       = 60 * time.Second
	DefaultFiles      = 1024
)

// RunsIn reports whether the service runs on appliances of the role.
func (s *Service) RunsIn(role string) bool { return slices.Contains(s.Roles, role) }

// Roles of an appliance.
const (
	RoleController = "controller"
	RoleRouter     = "router"
	RolePortal     = "portal"
)

// HasRole reports whether an appliance of this image may have the role: at least
// one of its services runs in it.
func (c *Config) HasRole(role string) bool { return anyRuns(c.Services, role) }

// HasFirmware reports whether the disk is to start from the firmware.
func (c *Config) HasFirmware(f string) bool { return slices.Contains(c.Boot.Firmware, f) }

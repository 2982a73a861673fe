// Package confine makes a process into a service: resource limits, user and
// groups, capabilities, no-new-privileges and a Landlock domain, and then
// execve. PID 1 writes a Spec; image/launch reads it and calls Exec.
//
// It needs Linux 6.2 (Landlock ABI 3, truncation) at least; later ABIs add what
// they can: TCP ports (4), ioctl on devices (5), scopes (6), unix sockets by
// path (9). UDP is restricted by no ABI that ships today, and neither is MPTCP,
// which Go's listeners choose where they can: PID 1 turns it off (package
// kernel), or the rules about ports would be void.
package confine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxSpec is the longest encoded Spec in bytes.
const MaxSpec = 64 << 10

// SpecFD is the descriptor that image/launch reads the Spec from. LivenessFD is
// that of the service's liveness line, which it leaves open.
const (
	LivenessFD = 3
	SpecFD     = 4
)

// LaunchName is the name (argv[0]) under which PID 1's program is image/launch.
const LaunchName = "launch"

// FailedCode is the exit code of image/launch when a step failed. Its reason
// stands on standard error.
const FailedCode = 125

// Spec is what a service is confined to.
type Spec struct {
	Path        string   `json:"path"` // of the program, absolute
	Args        []string `json:"args"` // behind the program's name
	Env         []string `json:"env"`
	UID         uint32   `json:"uid"`
	GID         uint32   `json:"gid"`
	Groups      []uint32 `json:"groups"`
	Caps        []string `json:"caps"` // "NET_ADMIN"; in every set
	Files       uint64   `json:"files"`
	Processes   uint64   `json:"processes"`   // threads of the user
	OOMScoreAdj int      `json:"oomScoreAdj"` // -1000 to 1000
	Read        []string `json:"read"`        // folders and files; what is not there is left out
	Write       []string `json:"write"`       // like Read, and every kind of change
	Devices     []string `json:"devices"`     // terminals: read, write, ioctl
	Sockets     []string `json:"sockets"`     // folders with unix sockets it may connect to, beside those in Write
	Bind        []uint16 `json:"bind"`        // TCP ports
	Connect     []uint16 `json:"connect"`     // TCP ports
	ConnectAny  bool     `json:"connectAny"`  // every TCP port
	Umask       uint32   `json:"umask"`
}

// Decode reads a Spec. It refuses unknown fields: PID 1 and image/launch come
// from one build.
func Decode(r io.Reader) (*Spec, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxSpec+1))
	if err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	if len(b) > MaxSpec {
		return nil, fmt.Errorf("spec is longer than %d bytes", MaxSpec)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var s Spec
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("spec: more than one value")
	}
	if !strings.HasPrefix(s.Path, "/") {
		return nil, fmt.Errorf("spec: path %q is not absolute", s.Path)
	}
	if s.UID == 0 || s.GID == 0 {
		return nil, fmt.Errorf("spec: user %d, group %d: a service is never root", s.UID, s.GID)
	}
	return &s, nil
}

// Package ovf writes OVF 1.0 descriptors (DMTF DSP0243, schema DSP8023) and SHA-256 manifests for one virtual machine
// with one disk.
//
// The machine is the one that the appliance's kernel has drivers for and that VMware, VirtualBox, virt-v2v and govmomi
// all accept: disk on SATA AHCI, CD drive on IDE, one E1000 network adapter. Devices that an importer may lack are
// marked as not required. Only the envelope/1 namespace is used: importers refuse or misread the OVF 2 one. Output
// depends on the Spec alone.
package ovf

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Text is a string people read: English, and Russian where it differs from "". Russian goes into a Strings bundle that
// importers without it skip.
type Text struct {
	EN, RU string
}

// Firmware is what vSphere sets up. VirtualBox does not read it, so the disk has to boot by both.
type Firmware string

// The two kinds of firmware.
const (
	BIOS Firmware = "bios"
	EFI  Firmware = "efi"
)

// Spec is everything that varies between descriptors.
type Spec struct {
	ID          string // of the virtual system; importers propose it as the machine's name
	Name        string // display name
	Product     string
	Vendor      string
	Version     string // short
	FullVersion string
	ProductURL  string // may be empty
	Annotation  Text   // may be empty
	EULA        []string

	CPUs      int
	MemoryMiB int64
	Disk      Disk
	Network   string // proposed network, "" means "VM Network"
	NIC       string // "" means "E1000"
	Firmware  Firmware
	// Serial adds a serial port bound to a port of the host, not connected. It gives vSphere a recovery console, but
	// a host without the port shows a warning and the machine cannot be migrated while it is connected.
	Serial bool

	Properties []Property
}

// Disk is the streamOptimized VMDK beside the descriptor.
type Disk struct {
	File        string // flat file name
	Size        int64  // bytes of the VMDK
	CapacityMiB int64
	Populated   int64 // bytes in use on the disk, 0 if not known
}

// Property is a value that the importer may ask for and the guest reads.
type Property struct {
	Key              string // letters, digits, underscore: dots and colons separate class and instance
	Type             string // "string", "boolean", "uint16" ... (DSP0243 section 9.5.1)
	Qualifiers       string // as `ValueMap{"a","b"}` or `MaxLen(63)`
	Label            Text
	Description      Text
	Category         Text // shown as a heading where it changes
	UserConfigurable bool
	Default          string
	// Password asks importers not to show the value. It is no protection: the guest reads it in the clear.
	Password bool
}

const (
	nsEnvelope = "http://schemas.dmtf.org/ovf/envelope/1"
	nsRASD     = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
	nsVSSD     = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
	nsVMware   = "http://www.vmware.com/schema/ovf"

	formatStreamOptimized = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
	hardware              = "vmx-15"                   // ESXi 6.7 U2; SATA needs 10, other4xLinux64Guest 14
	transport             = "com.vmware.guestInfo iso" // guestinfo.ovfEnv, or ovf-env.xml on the CD
	unitMiB               = "byte * 2^20"              // exactly so: VirtualBox compares strings
	osID                  = 101                        // CIM: Linux 64-bit
	osType                = "other4xLinux64Guest"
)

var (
	reID       = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$`)
	reKey      = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	propTypes  = []string{"string", "boolean", "uint8", "sint8", "uint16", "sint16", "uint32", "sint32", "uint64", "sint64", "real32", "real64"}
	nics       = []string{"E1000", "E1000e"}
	maxMemory  = int64(1 << 24) // MiB
	maxCPUs    = 768
	maxDiskMiB = int64(62 << 20)
)

// check names the first value of s that an importer would stumble over.
func (s *Spec) check() error {
	for _, f := range []struct{ name, value string }{
		{"name", s.Name}, {"product", s.Product}, {"vendor", s.Vendor}, {"version", s.Version}, {"full version", s.FullVersion},
	} {
		if f.value == "" {
			return fmt.Errorf("%s is empty", f.name)
		}
	}
	switch {
	case !reID.MatchString(s.ID):
		return fmt.Errorf("id %q, want %s", s.ID, reID)
	case s.CPUs < 1 || s.CPUs > maxCPUs:
		return fmt.Errorf("%d CPUs, want 1 to %d", s.CPUs, maxCPUs)
	case s.MemoryMiB < 4 || s.MemoryMiB > maxMemory || s.MemoryMiB%4 != 0:
		return fmt.Errorf("memory %d MiB, want a multiple of 4 up to %d", s.MemoryMiB, maxMemory)
	case !reID.MatchString(s.Disk.File):
		return fmt.Errorf("disk file %q, want %s", s.Disk.File, reID)
	case s.Disk.Size < 1:
		return fmt.Errorf("disk file of %d bytes", s.Disk.Size)
	case s.Disk.CapacityMiB < 1 || s.Disk.CapacityMiB > maxDiskMiB:
		return fmt.Errorf("disk capacity %d MiB, want 1 to %d", s.Disk.CapacityMiB, maxDiskMiB)
	case s.Disk.Populated < 0 || s.Disk.Populated > s.Disk.CapacityMiB<<20:
		return fmt.Errorf("disk populated with %d bytes of %d MiB", s.Disk.Populated, s.Disk.CapacityMiB)
	case !slices.Contains(nics, s.NIC):
		return fmt.Errorf("network adapter %q, want one of %q", s.NIC, nics)
	case s.Firmware != BIOS && s.Firmware != EFI:
		return fmt.Errorf("firmware %q, want %q or %q", s.Firmware, BIOS, EFI)
	}
	seen := map[string]bool{}
	for _, p := range s.Properties {
		switch {
		case !reKey.MatchString(p.Key):
			return fmt.Errorf("property key %q, want %s", p.Key, reKey)
		case seen[p.Key]:
			return fmt.Errorf("property %q stands twice", p.Key)
		case !slices.Contains(propTypes, p.Type):
			return fmt.Errorf("property %q: type %q, want one of %q", p.Key, p.Type, propTypes)
		case p.Label.EN == "":
			return fmt.Errorf("property %q has no label", p.Key)
		case p.Password && p.Default != "":
			return fmt.Errorf("property %q is secret and has a default, which everybody can read", p.Key)
		}
		seen[p.Key] = true
	}
	return nil
}

// Write writes the descriptor of s to w. A value that importers are known to refuse is an error.
func Write(w io.Writer, s Spec) error {
	if s.NIC == "" {
		s.NIC = "E1000"
	}
	if s.Network == "" {
		s.Network = "VM Network"
	}
	if err := s.check(); err != nil {
		return fmt.Errorf("ovf: %w", err)
	}
	out, err := xml.MarshalIndent(s.envelope(), "", "  ")
	if err != nil {
		return fmt.Errorf("ovf: %w", err)
	}
	_, err = io.WriteString(w, xml.Header+string(out)+"\n")
	if err != nil {
		return fmt.Errorf("ovf: write: %w", err)
	}
	return nil
}

// Digest is a line of the manifest.
type Digest struct {
	Name   string
	SHA256 [32]byte
}

// Manifest is the text of the .mf file: one line per file in the order given. The form is openssl's, without a space
// before the parenthesis, which some importers do not skip.
func Manifest(files []Digest) ([]byte, error) {
	if len(files) == 0 {
		return nil, errors.New("manifest: no files")
	}
	var b strings.Builder
	for _, f := range files {
		if !reID.MatchString(f.Name) {
			return nil, fmt.Errorf("manifest: file name %q, want %s", f.Name, reID)
		}
		fmt.Fprintf(&b, "SHA256(%s)= %x\n", f.Name, f.SHA256)
	}
	return []byte(b.String()), nil
}

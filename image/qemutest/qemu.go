// Package qemutest boots the real image in QEMU, for tests and for trying it.
//
// The machine is emulated in software with one virtual CPU: with two, a few
// boots in a hundred die in the emulator, and /dev/kvm may exist and still kill
// the guest. It has a hardware watchdog (i6300esb), its serial line and QEMU's
// monitor (QMP) are unix sockets in a folder of its own, and the appliance's
// port 5480 is forwarded to a free port of 127.0.0.1.
package qemutest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ConsolePort is the appliance's web console.
const ConsolePort = 5480

// Options describe a virtual machine.
type Options struct {
	Disk       string // raw or qcow2 image
	Format     string // "raw" (default) or "qcow2"
	Snapshot   bool   // throw writes away
	Machine    string // "q35" (default) or "pc"
	UEFI       bool   // OVMF instead of SeaBIOS
	Bus        string // "ahci" (default), "ide", "virtio", "nvme", "virtio-scsi"
	NIC        string // "e1000" (default), "e1000e", "virtio-net-pci"
	MemoryMiB  int    // 512 by default
	NoWatchdog bool
	Dir        string // folder for sockets; paths in it must stay short
	Extra      []string
	// DiskOptions are added to the disk's -drive, as "rerror=report".
	DiskOptions string
	// Video gives the machine a screen (its picture is taken with Screendump).
	Video bool
	// HTTPSPort of 127.0.0.1 is forwarded to port 443, unless it is 0.
	HTTPSPort int
	// Forwards are further ports of this machine that lead to the appliance's, as
	// QEMU spells them: "udp:203.0.113.7:8801-10.0.2.15:8801".
	Forwards []string
}

// ovmfCode and ovmfVars are where Debian puts OVMF.
const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// Machine is a running virtual machine.
type Machine struct {
	Options
	Port   int // of 127.0.0.1, forwarded to the web console
	Serial *Line
	QMP    *QMP

	cmd    *exec.Cmd
	exited chan struct{}
	err    error
	stderr strings.Builder
}

// Arguments is QEMU's command line but for the serial line and the monitor.
func (o *Options) Arguments(port int) ([]string, error) {
	machine := o.Machine
	if machine == "" {
		machine = "q35"
	}
	mem := o.MemoryMiB
	if mem == 0 {
		mem = 512
	}
	netdev := fmt.Sprintf("user,id=net0,hostfwd=tcp:127.0.0.1:%d-:%d", port, ConsolePort)
	if o.HTTPSPort != 0 {
		netdev += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:443", o.HTTPSPort)
	}
	for _, f := range o.Forwards {
		netdev += ",hostfwd=" + f
	}
	args := []string{
		"-machine", machine, "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", fmt.Sprint(mem),
		"-nodefaults", "-no-user-config", "-rtc", "base=utc",
		"-netdev", netdev,
		"-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0",
	}
	nic := o.NIC
	if nic == "" {
		nic = "e1000"
	}
	args = append(args, "-device", nic+",netdev=net0")
	if o.Video {
		args = append(args, "-device", "VGA", "-display", "none")
	} else {
		args = append(args, "-display", "none", "-vga", "none")
	}
	if !o.NoWatchdog {
		args = append(args, "-device", "i6300esb", "-action", "watchdog=reset")
	}
	if o.UEFI {
		vars := filepath.Join(o.Dir, "vars.fd")
		if _, err := os.Stat(vars); err != nil {
			data, err := os.ReadFile(ovmfVars)
			if err != nil {
				return nil, fmt.Errorf("%w (Debian: apt install ovmf)", err)
			}
			if err := os.WriteFile(vars, data, 0o600); err != nil {
				return nil, err
			}
		}
		args = append(args,
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+ovmfCode,
			"-drive", "if=pflash,unit=1,format=raw,file="+vars)
	}
	format := o.Format
	if format == "" {
		format = "raw"
	}
	drive := fmt.Sprintf("if=none,id=disk0,format=%s,file=%s,cache=unsafe", format, o.Disk)
	if o.Snapshot {
		drive += ",snapshot=on"
	}
	if o.DiskOptions != "" {
		drive += "," + o.DiskOptions
	}
	args = append(args, "-drive", drive)
	const boot = ",drive=disk0,bootindex=0"
	switch o.Bus {
	case "", "ahci":
		if machine == "q35" {
			args = append(args, "-device", "ide-hd,bus=ide.0"+boot)
		} else {
			args = append(args, "-device", "ahci,id=ahci0", "-device", "ide-hd,bus=ahci0.0"+boot)
		}
	case "ide":
		if machine == "q35" {
			return nil, errors.New("bus ide: the q35 machine has AHCI alone")
		}
		args = append(args, "-device", "ide-hd,bus=ide.0"+boot)
	case "virtio":
		args = append(args, "-device", "virtio-blk-pci"+boot)
	case "nvme":
		args = append(args, "-device", "nvme,serial=parley"+boot)
	case "virtio-scsi":
		args = append(args, "-device", "virtio-scsi-pci,id=scsi0", "-device", "scsi-hd,bus=scsi0.0"+boot)
	default:
		return nil, fmt.Errorf("bus %q: want ahci, ide, virtio, nvme or virtio-scsi", o.Bus)
	}
	return append(args, o.Extra...), nil
}

// Start boots a machine. Close ends it.
func Start(ctx context.Context, o Options) (_ *Machine, err error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	args, err := o.Arguments(port)
	if err != nil {
		return nil, err
	}
	serial, monitor := filepath.Join(o.Dir, "serial"), filepath.Join(o.Dir, "qmp")
	sl, err := listen(serial)
	if err != nil {
		return nil, err
	}
	defer sl.Close()
	ql, err := listen(monitor)
	if err != nil {
		return nil, err
	}
	defer ql.Close()
	args = append(args,
		"-chardev", "socket,id=serial0,path="+serial, "-serial", "chardev:serial0",
		"-chardev", "socket,id=qmp0,path="+monitor, "-mon", "chardev=qmp0,mode=control")
	m := &Machine{Options: o, Port: port, exited: make(chan struct{})}
	m.cmd = exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	m.cmd.Stderr = &m.stderr
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (Debian: apt install qemu-system-x86)", err)
	}
	go func() {
		m.err = m.cmd.Wait()
		close(m.exited)
		// Accept below ends when QEMU could not start.
		sl.Close()
		ql.Close()
	}()
	defer func() {
		if err != nil {
			m.Close()
			err = fmt.Errorf("qemu: %w: %s", err, m.stderr.String())
		}
	}()
	sc, err := sl.Accept()
	if err != nil {
		return nil, err
	}
	m.Serial = newLine(sc)
	qc, err := ql.Accept()
	if err != nil {
		return nil, err
	}
	if m.QMP, err = newQMP(qc); err != nil {
		return nil, err
	}
	return m, nil
}

// PID is QEMU's.
func (m *Machine) PID() int { return m.cmd.Process.Pid }

// Exited is closed when QEMU has ended, as it does when the guest powers off.
func (m *Machine) Exited() <-chan struct{} { return m.exited }

// Kill is a power cut: QEMU ends at once, with what it had not written.
func (m *Machine) Kill() {
	m.cmd.Process.Kill()
	<-m.exited
}

// Close ends the machine and frees what it held.
func (m *Machine) Close() {
	m.Kill()
	if m.Serial != nil {
		m.Serial.close()
	}
	if m.QMP != nil {
		m.QMP.conn.Close()
	}
}

// URL is the web console's address on this machine.
func (m *Machine) URL() string { return fmt.Sprintf("https://127.0.0.1:%d/", m.Port) }

func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", path, err)
	}
	return l, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// WaitExit waits until QEMU has ended.
func (m *Machine) WaitExit(timeout time.Duration) error {
	select {
	case <-m.exited:
		return nil
	case <-time.After(timeout):
		return fmt.Errorf("the machine still runs after %v", timeout)
	}
}

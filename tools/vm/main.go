// Vm boots a disk image in QEMU with the serial line on the terminal and the
// web console on a port of this machine: what `make run` does last.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/parley-meet/parley/image/drill"
	"github.com/parley-meet/parley/image/qemutest"
)

func main() {
	var o qemutest.Options
	flag.StringVar(&o.Disk, "disk", "dist/parley.raw", "raw disk image; it is not changed")
	flag.IntVar(&o.MemoryMiB, "memory", 1024, "memory in MiB")
	flag.BoolVar(&o.UEFI, "uefi", false, "boot by UEFI (OVMF) instead of BIOS")
	flag.StringVar(&o.Bus, "bus", "ahci", "disk: ahci, virtio, nvme or virtio-scsi")
	flag.StringVar(&o.NIC, "nic", "e1000", "network card: e1000, e1000e or virtio-net-pci")
	port := flag.Int("port", qemutest.ConsolePort, "port of 127.0.0.1 for the web console")
	flag.IntVar(&o.HTTPSPort, "https", 0, "port of 127.0.0.1 for port 443 of the appliance, as a portal has it; 0 is none")
	breakage := flag.String("drill", "", "break the appliance on purpose, as kill:all:10@5s (see README)")
	flag.Parse()
	if err := run(o, *port, *breakage); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

func run(o qemutest.Options, port int, breakage string) error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return fmt.Errorf("port %d: %w: choose another with go run ./tools/vm -port N", port, err)
	}
	l.Close()
	if _, err := drill.Parse(breakage); err != nil {
		return err
	}
	if breakage != "" && o.UEFI {
		return errors.New("-drill changes the command line that BIOS reads: leave -uefi out")
	}
	o.Snapshot = true
	if o.UEFI || breakage != "" {
		dir, err := os.MkdirTemp("", "parley-vm-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	if breakage != "" {
		disk := filepath.Join(o.Dir, "disk.raw")
		if err := errors.Join(qemutest.CopyDisk(o.Disk, disk), qemutest.AddArguments(disk, drill.Key+"="+breakage)); err != nil {
			return err
		}
		o.Disk = disk
	}
	args, err := o.Arguments(port)
	if err != nil {
		return err
	}
	// Ctrl-C belongs to the appliance's line; Ctrl-A X ends QEMU.
	args = append(args, "-chardev", "stdio,id=serial0,mux=on,signal=off", "-serial", "chardev:serial0", "-mon", "chardev=serial0")
	if o.HTTPSPort != 0 {
		fmt.Printf("\n  Port 443        https://127.0.0.1:%d/   (links of a portal have the address inside QEMU)\n", o.HTTPSPort)
	}
	fmt.Printf(`
  Web console     https://127.0.0.1:%d/   (the certificate is the appliance's own;
                  the address in the banner below is the one inside QEMU)
  Serial console  this terminal; user admin, the password is shown above the login prompt
  To leave        Ctrl-A, then X          (nothing is kept)

`, port)
	// A terminal that is closed must not leave the folder behind.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP, syscall.SIGTERM)
	defer stop()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w (Debian: apt install qemu-system-x86)", err)
	}
	return err
}

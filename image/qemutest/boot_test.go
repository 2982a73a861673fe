package qemutest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/parley-meet/parley/image/qemutest"
)

// hardware lists every machine that the appliance is promised to boot on.
func hardware() []qemutest.Options {
	var all []qemutest.Options
	for _, machine := range []string{"q35", "pc"} {
		for _, uefi := range []bool{false, true} {
			for _, bus := range []string{"ahci", "virtio", "ide", "nvme", "virtio-scsi"} {
				for _, nic := range []string{"e1000", "virtio-net-pci", "e1000e"} {
					if bus == "ide" && machine == "q35" {
						continue // it has AHCI alone
					}
					all = append(all, qemutest.Options{Machine: machine, UEFI: uefi, Bus: bus, NIC: nic})
				}
			}
		}
	}
	return all
}

// sample has each disk, each card, each machine and each firmware at least once.
var sample = []qemutest.Options{
	{Machine: "q35", Bus: "ahci", NIC: "e1000"},
	{Machine: "q35", Bus: "virtio", NIC: "virtio-net-pci"},
	{Machine: "q35", Bus: "nvme", NIC: "e1000e", UEFI: true},
	{Machine: "pc", Bus: "ide", NIC: "e1000"},
	{Machine: "pc", Bus: "ahci", NIC: "virtio-net-pci", UEFI: true},
	{Machine: "pc", Bus: "virtio-scsi", NIC: "e1000"},
}

// It boots, all services are ready, and it has an address, on every machine.
func TestBoots(t *testing.T) {
	list := sample
	if long {
		list = hardware()
	}
	for _, o := range list {
		firmware := "bios"
		if o.UEFI {
			firmware = "uefi"
		}
		t.Run(fmt.Sprintf("%s-%s-%s-%s", o.Machine, firmware, o.Bus, o.NIC), func(t *testing.T) {
			v := boot(t, o)
			v.up()
			v.login()
			v.want("version", firmware)
			v.address()
			v.until("status", `10\.0\.2\.15`)
			v.off()
		})
	}
}

// What a kernel that is told nothing would do with a BREAK and a key on the
// serial line: reboot. The appliance does not.
func TestNoSysRq(t *testing.T) {
	v := boot(t, qemutest.Options{})
	v.up()
	for _, key := range []string{"b", "o", "c", "t"} {
		if _, err := v.QMP.Command("chardev-send-break", map[string]any{"id": "serial0"}); err != nil {
			t.Fatal(err)
		}
		v.send(key)
	}
	v.send("\x15\r") // what the line editor took of it goes
	v.expect("login: ", stepTime)
	v.login()
	v.want("version", "slot")
	if text := v.Serial.Text(); strings.Contains(text, "sysrq") || strings.Contains(text, "SysRq") {
		t.Error("the kernel answered to SysRq")
	}
	for _, e := range v.QMP.Events() {
		if e.Name == "RESET" || e.Name == "SHUTDOWN" {
			t.Errorf("the machine did %s", e.Name)
		}
	}
}

// The serial line is enough for everything.
func TestSerialConsole(t *testing.T) {
	disk := copyDisk(t)
	v := boot(t, qemutest.Options{Disk: disk})
	v.up()
	v.send("admin\r")
	v.expect("Password: ", stepTime)
	v.send("not the password\r")
	v.expect("Wrong name or password", stepTime)
	v.expect("login: ", stepTime)
	v.login()
	help := v.command("help")
	for _, c := range []string{"ifconfig", "services", "logs", "start", "stop", "restart", "version", "reboot", "poweroff", "help"} {
		if !strings.Contains(help, "\n  "+c+" ") && !strings.HasPrefix(help, "  "+c+" ") {
			t.Errorf("help does not list %s:\n%s", c, help)
		}
	}
	v.want("services", `(?s)network.*console-serial.*console-web.*zctrl.*mmr`)
	v.want("stop mmr", `mmr`)
	v.want("services", `(?m)^mmr .*stopped`)
	v.want("start mmr", `mmr`)
	v.want("services", `(?m)^mmr .*running`)
	v.want("restart zctrl", `zctrl`)
	v.want("start nothing", `nothing`)
	v.address()
	v.wantLog("logs network -n 50", `10\.0\.2\.15`)
	v.wantLog("logs init -n 200", `all \d+ services ready`)
	if out := v.command("logs -n 10000"); strings.Contains(out, v.password) || strings.Contains(out, strings.ReplaceAll(v.password, "-", "")) {
		t.Error("the generated password is in the log")
	}
	v.want("role", `(?i)controller`)
	v.want("repair", `(?i)retry`)
	v.want("language ru", `Русский`)
	v.want("services", `контроллер зоны`)
	v.want("language en", `English`)

	// A password that is set is not shown again and is still there after a restart.
	old := v.password
	v.send("passwd\r")
	v.expect("(?i)current.*: ", stepTime)
	v.send(old + "\r")
	v.expect("(?i)new password.*: ", stepTime)
	v.password = "correct horse battery staple"
	v.send(v.password + "\r")
	v.expect("(?i)again.*: ", stepTime)
	v.send(v.password + "\r")
	v.expect(prompt, stepTime)
	v.wantLog("logs console-serial -n 100", `password changed`)
	v.send("reboot\r")
	v.expect(`\[y/N\] `, stepTime)
	v.send("y\r")
	v.ready()
	v.expect("login: ", stepTime)
	if rest := v.Serial.Text(); strings.Count(rest, "admin password: ") > strings.Count(rest, "admin password: "+old) {
		t.Error("a password is shown though one was set")
	}
	v.login()
	v.want("status", `controller`)
	v.send("poweroff\r")
	v.expect(`\[y/N\] `, stepTime)
	v.send("y\r")
	if err := v.WaitExit(stepTime); err != nil {
		t.Fatal(err)
	}
}

// The role router leaves the zone controller out.
func TestRole(t *testing.T) {
	disk := copyDisk(t)
	v := boot(t, qemutest.Options{Disk: disk})
	v.up()
	v.login()
	v.send("role router\r")
	v.expect(`\[y/N\] `, stepTime)
	v.send("y\r")
	v.expect(prompt, stepTime)
	v.want("role", `Role: controller; after the restart: multimedia router`)
	v.send("reboot\r")
	v.expect(`\[y/N\] `, stepTime)
	v.send("y\r")
	v.up()
	v.login()
	v.want("role", `Role: multimedia router\n`)
	if out := v.command("services"); strings.Contains(out, "zctrl") || !strings.Contains(out, "mmr") {
		t.Errorf("services of a router:\n%s", out)
	}
	v.off()
}

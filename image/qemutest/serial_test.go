package qemutest_test

import (
	"strings"
	"testing"

	"github.com/parley-meet/parley/image/qemutest"
)

// answer waits for a question and types the answer.
func (v *vm) answer(question, answer string) {
	v.t.Helper()
	v.expect(question, stepTime)
	v.send(answer + "\r")
}

// The administrator's journey with nothing but the serial line: password,
// address, connector, processes, operators, restart; and a password that was
// lost.
// connectorToken is one of a portal that is not there.
const connectorToken = "parley1.eyJ1IjoiaHR0cHM6Ly9wb3J0YWwuZXhhbXBsZS5jb20iLCJpIjoidDEiLCJzIjoiQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQSJ9.68e1164c"

func TestSerialJourney(t *testing.T) {
	v := boot(t, qemutest.Options{Disk: copyDisk(t)})
	v.up()

	// The first login opens the menu by itself, and is forced to nothing.
	v.send("admin\r")
	v.answer("Password: ", v.password)
	v.expect("What would you like to do", stepTime)
	v.expect(prompt, stepTime)

	// The address that DHCP gave, then one by hand, and the second one.
	v.address()
	v.want("network set eth0 static 10.0.2.300/24 10.0.2.2", `eth0 address/length: `)
	v.want("network set eth0 static 10.0.2.15/24 10.0.2.2", `Saved and in force`)
	v.want("network set eth0:0 10.0.2.16/24", `Saved and in force`)
	v.until("ifconfig", `10\.0\.2\.16/24 \(eth0:0\)`)
	v.want("network", `(?s)Saved\s+eth0 +10\.0\.2\.15/24 through 10\.0\.2\.2\s+eth0:0 +10\.0\.2\.16/24`)

	// The connector: addresses come from the network, the token is asked for.
	v.want("configure", `(?s)10\.0\.2\.15 \(from the network\).*10\.0\.2\.16 \(from the network\).*The token is missing`)
	v.send("configure token\r")
	v.answer(`Token \(not shown\): `, connectorToken[:60])
	v.expect("A part of the token is missing", stepTime)
	v.expect(prompt, stepTime)
	v.send("configure token\r")
	v.answer(`Token \(not shown\): `, connectorToken)
	v.expect("Saved", stepTime)
	v.expect(prompt, stepTime)
	v.want("configure other 10.0.2.30", `Saved`)
	v.until("configure", `Zone enrolling`) // once the zone controller has seen the token
	if out := v.command("configure"); !strings.Contains(out, "ends with 164c") || strings.Contains(out, "token is missing") {
		t.Errorf("configure:\n%s", out)
	}
	v.want("services", `(?s)zctrl .*running.*mmr .*running`)

	// Operators: one who may only look, by the menu.
	v.send("5\r")
	v.expect("4 +Add a user who may only look", stepTime)
	v.answer("Number, 1 to 9", "4")
	v.answer("Name: ", "anna")
	v.answer("New password: ", "quiet river under stones")
	v.answer("New password again: ", "quiet river under stones")
	v.expect("anna was added", stepTime)
	v.answer("Number, 1 to 9", "0")
	v.expect(prompt, stepTime)
	v.want("users", `anna +View`)
	v.send("logout\r")
	v.answer("login: ", "anna")
	v.answer("Password: ", "quiet river under stones")
	v.expect("may look", stepTime)
	v.expect(prompt, stepTime)
	v.want("stop mmr", `only look`)
	v.want("network set mtu 1400", `only look`)
	v.send("logout\r")
	v.expect("login: ", stepTime)
	v.login()

	// After a restart everything is as it was.
	v.send("reboot\r")
	v.answer(`\[y/N\] `, "y")
	v.ready()
	v.expect("login: ", stepTime)

	// A password that nobody knows any more.
	v.send("recover\r")
	v.answer("Type RESET", "RESET")
	v.password = "a lamp beside the harbour"
	v.answer("New password: ", v.password)
	v.answer("New password again: ", v.password)
	v.expect("The password of admin was set", stepTime)
	v.send("\r")
	v.expect("login: ", stepTime)
	v.login()
	v.want("audit", `recover \(serial ttyS0\)`)
	v.want("network", `eth0:0 +10\.0\.2\.16/24`)
	v.until("ifconfig", `10\.0\.2\.16/24 \(eth0:0\)`)
	v.want("services", `(?s)zctrl .*running.*mmr .*running`)
	v.want("stop mmr", `mmr is stopped`)
	v.want("start mmr", `mmr is running`)

	// Once: the name is a stranger's from then on.
	v.send("logout\r")
	v.answer("login: ", "recover")
	v.answer("Password: ", "no matter which")
	v.expect("Wrong name or password", stepTime)
	v.off()
}

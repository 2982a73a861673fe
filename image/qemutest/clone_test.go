package qemutest_test

import (
	"strings"
	"testing"

	"github.com/parley-meet/parley/image/qemutest"
)

// A disk that wakes up in another machine does not start what must be unique,
// says so, and goes on saying so; back in its own machine nothing is asked. Its
// clock starts no earlier than the last time that servers confirmed, and what
// "since" says is right although the clock was moved.
func TestCloneAndClock(t *testing.T) {
	const own, other = "11111111-2222-3333-4444-555555555551", "11111111-2222-3333-4444-555555555552"
	disk := copyDisk(t)
	putOnPerm(t, disk, map[string][]byte{
		"parley/machine.json": []byte(`{"version":1,"uuid":"` + own + `"}`),
		"parley/clock.json":   []byte(`{"version":1,"time":"2038-01-20T00:00:00Z"}`),
	})
	v := boot(t, qemutest.Options{Disk: disk, Extra: []string{"-uuid", other, "-rtc", "base=2019-01-01T00:00:00"}})
	if m := v.expect(readyLine, bootTime); m[1] != "3" {
		t.Errorf("%s services are started, want 3", m[1])
	}
	v.expect("THIS MACHINE MAY BE A COPY", stepTime)
	v.expect("zctrl, mmr wait until an administrator says", stepTime)
	v.password = v.expect(`(?:admin password|пароль admin): ([a-z0-9-]+)\s`, stepTime)[1]
	v.expect(`login: `, stepTime)
	v.send("admin\r")
	v.expect(`Password: `, stepTime)
	v.send(v.password + "\r")
	v.expect(`copy, same or later\? `, stepTime)
	v.send("later\r")
	v.expect(prompt, stepTime)
	v.want("services", `(?m)^zctrl .*stopped`)
	v.want("services", `(?m)^mmr .*stopped`)
	v.want("start zctrl", `held: this machine may be a copy`)
	v.want("services", `(?m)^zctrl .*stopped`)
	v.wantLog("logs init -n 300", `before the last saved time and was set to it" was=20\d\d-\S+ to=2038-01-20T00:00:00Z`)
	// Twelve years passed between PID 1's start and theirs, and none for them.
	v.want("services", `(?m)^network .*running +\d+ s `)
	// As a copy it gets keys of its own, and goes on.
	v.send("identity copy\r")
	v.expect(`\[y/N\] `, stepTime)
	v.send("y\r")
	v.expect(prompt, stepTime)
	v.until("services", `zctrl +zone controller +running`)
	v.until("services", `mmr +multimedia router +running`)
	v.off()

	v = boot(t, qemutest.Options{Disk: disk, Extra: []string{"-uuid", other}})
	v.up()
	if text := v.Serial.Text(); strings.Contains(text, "COPY") {
		t.Error("what was answered is asked again")
	}
	v.off()
}

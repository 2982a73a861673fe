package qemutest_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/drill"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/qemutest"
	"github.com/parley-meet/parley/internal/judge"
)

// drilled boots a disk of its own with a drill.
func drilled(t *testing.T, value string, o qemutest.Options) *vm {
	t.Helper()
	o.Disk = copyDisk(t)
	withArguments(t, o.Disk, drill.Key+"="+value)
	return boot(t, o)
}

// A service that is killed is ready again at once, and no other one notices.
func TestKilledServicesComeBack(t *testing.T) {
	n := rounds(5, 100)
	v := drilled(t, fmt.Sprintf("kill:%s:%d@20s", drill.All, n), qemutest.Options{})
	v.up()
	services := 0
	for _, s := range built.config.Services {
		if !s.RunsIn(built.config.Role) {
			continue
		}
		services++
		m := v.expect(`drill: (?:failed: .*|(`+s.Name+`) killed (\d+) times: ready again after (\d+) ms \(p50\), (\d+) ms \(p99\), (\d+) ms \(longest\); 0 starts failed; no other service noticed)`,
			time.Duration(n)*10*time.Second)
		if m[1] == "" {
			t.Fatal(m[0])
		}
		t.Log(m[0])
	}
	v.expect(fmt.Sprintf(`drill: %d services killed %d times each and ready again`, services, n), stepTime)
	v.send("\r") // the prompt may be a while old
	v.expect("login: ", stepTime)
	v.login()
	v.want("services", `(?s)zctrl.*running`)
	v.off()
}

// PID 1 does not feed the hardware watchdog for an essential service that
// hangs: the machine is reset and comes back.
func TestHungServiceResetsTheMachine(t *testing.T) {
	for _, service := range []string{"zctrl", "console-web", "network"}[:rounds(1, 3)] {
		t.Run(service, func(t *testing.T) {
			v := drilled(t, "stop:"+service+"@20s", qemutest.Options{})
			v.up()
			v.expect(`drill: `+service+` \(pid \d+\) is stopped`, stepTime)
			v.event("WATCHDOG", 0, 3*time.Minute)
			v.event("RESET", 0, stepTime)
			v.ready()
			v.expect("without an orderly shutdown", stepTime)
		})
	}
}

// Without a hardware watchdog the hung service is killed instead.
func TestHungServiceWithoutWatchdog(t *testing.T) {
	v := drilled(t, "stop:mmr@20s", qemutest.Options{NoWatchdog: true})
	v.up()
	v.expect(`drill: mmr \(pid \d+\) is stopped`, stepTime)
	v.send("\r")
	v.expect("login: ", stepTime)
	v.login()
	v.until("logs init -n 300", `no hardware watchdog"`)
	v.until("services", `mmr multimedia router running .* no hardware watchdog`)
	v.off()
}

// A PID 1 that hangs as a whole is reset by the watchdog.
func TestHungInitResetsTheMachine(t *testing.T) {
	v := drilled(t, "hang@20s", qemutest.Options{})
	v.up()
	v.event("WATCHDOG", 0, 3*time.Minute)
	v.event("RESET", 0, stepTime)
	v.ready()
	v.expect("without an orderly shutdown", stepTime)
}

// A PID 1 that panics reboots, and the next boot says so.
func TestPanicOfInit(t *testing.T) {
	v := drilled(t, "panic@20s", qemutest.Options{})
	v.up()
	v.expect("PID 1 failed, rebooting", stepTime)
	v.event("RESET", 0, stepTime)
	v.ready()
	v.expect(`PID 1 panicked: panic: recovery drill`, stepTime)
}

// The power button stops the services in order, the last one first, unmounts
// /perm, and the next boot has nothing to say about it.
func TestPowerButton(t *testing.T) {
	disk := copyDisk(t)
	v := boot(t, qemutest.Options{Disk: disk})
	v.up()
	v.off()
	if !strings.Contains(v.Serial.Text(), "poweroff: the power button was pressed") {
		t.Error("the console does not say why the machine goes off")
	}
	judge.Run(t, "e2fsck", "-fn", extract(t, disk, layout.Perm))

	v = boot(t, qemutest.Options{Disk: disk})
	v.up()
	v.login()
	if text := v.Serial.Text(); strings.Contains(text, "ended badly") || strings.Contains(text, "orderly") {
		t.Error("an orderly end is called a bad one")
	}
	log := v.unwrapped("logs init -n 10000")
	at := 0
	for i := len(built.config.Services) - 1; i >= 0; i-- {
		line := "name=" + built.config.Services[i].Name + " from=stopping to=stopped"
		n := strings.Index(log[at:], line)
		if n < 0 {
			t.Fatalf("no %q behind the stops of the services after it, in:\n%s", line, log)
		}
		at += n
	}
	v.off()
}

// Whatever the machine was doing when its power was cut, it comes back with its
// settings, and the file system is sound.
func TestPowerCuts(t *testing.T) {
	judge.Need(t, "e2fsck")
	disk := copyDisk(t)
	random := rand.New(rand.NewPCG(1, 2))
	languages := map[string]string{"en": "running", "ru": "работает"}
	set := "en"
	n := rounds(4, 50)
	for i := range n {
		v := boot(t, qemutest.Options{Disk: disk})
		v.up()
		v.login()
		// Each change of the language is a file that is replaced on /perm; the log
		// is written beside.
		next := map[string]string{"en": "ru", "ru": "en"}[set]
		v.want("language "+next, "(English|Русский)")
		for range random.IntN(4) {
			next = map[string]string{"en": "ru", "ru": "en"}[next]
			v.want("language "+next, "(English|Русский)")
		}
		set = next
		if i%2 == 0 {
			// In the middle of one more change and of a service's stop and start.
			v.send("restart mmr\rlanguage " + map[string]string{"en": "ru", "ru": "en"}[set] + "\r")
			time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
			set = ""
		}
		v.Kill()
		v = boot(t, qemutest.Options{Disk: disk})
		v.up()
		if !strings.Contains(v.Serial.Text(), "without an orderly shutdown") {
			t.Errorf("cut %d: the console does not say how the last boot ended", i)
		}
		v.login()
		out := v.command("services")
		switch {
		case set == "" && strings.Contains(out, languages["ru"]):
			set = "ru"
		case set == "":
			set = "en"
		}
		if !strings.Contains(out, languages[set]) {
			t.Fatalf("cut %d: the language was %s before the power was cut; now:\n%s", i, set, out)
		}
		if out := v.command("repair"); strings.Contains(out, "read-only") || strings.Contains(out, "missing") {
			t.Fatalf("cut %d: /perm: %s", i, out)
		}
		v.off()
		judge.Run(t, "e2fsck", "-fn", extract(t, disk, layout.Perm))
	}
	t.Logf("%d power cuts, all came back", n)
}

// A lost /perm: the machine boots, says so, lets the administrator in, and makes
// a new one when asked to.
func TestLostPerm(t *testing.T) {
	disk := copyDisk(t)
	p := partition(t, layout.Perm)
	scribble(t, disk, p.Start.Bytes(), make([]byte, 8*layout.MiB))
	v := boot(t, qemutest.Options{Disk: disk})
	v.ready()
	v.expect(`DEGRADED: /perm is missing`, stepTime)
	v.expect(`THE STORAGE IS MISSING`, stepTime)
	v.password = v.expect(`admin password: ([a-z0-9-]+)\s`, stepTime)[1]
	v.expect("login: ", stepTime)
	v.login()
	v.want("services", `(?s)zctrl.*running.*mmr.*running`)
	v.send("repair format\r")
	v.expect("Type FORMAT to go on: ", stepTime)
	v.send("FORMAT\r")
	v.expect("Storage: normal", stepTime)
	// The services start again with the new one, this console too.
	v.expect("login: ", 2*stepTime)
	v.login()
	v.want("repair", "Storage: normal")
	v.off()
	judge.Run(t, "e2fsck", "-fn", extract(t, disk, layout.Perm))
	v = boot(t, qemutest.Options{Disk: disk})
	v.up()
	if strings.Contains(v.Serial.Text(), "DEGRADED") {
		t.Error("still degraded after the repair")
	}
	v.off()
}

// A /perm whose journal is damaged is salvaged: what can be read is there.
func TestDamagedJournal(t *testing.T) {
	judge.Need(t, "debugfs")
	disk := copyDisk(t)
	v := boot(t, qemutest.Options{Disk: disk})
	v.up()
	v.login()
	v.want("language ru", "Русский")
	v.off() // what the journal alone holds is lost with it: this is not
	v = boot(t, qemutest.Options{Disk: disk})
	v.ready()
	time.Sleep(6 * time.Second) // until the log is stored and the journal in use
	v.Kill()
	p := partition(t, layout.Perm)
	f := extract(t, disk, layout.Perm)
	// The journal's superblock is its first block.
	out := judge.Run(t, "debugfs", "-R", "bmap <8> 0", f)
	block, err := strconv.ParseInt(strings.TrimSpace(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]), 10, 64)
	if err != nil {
		t.Fatalf("debugfs: %q", out)
	}
	scribble(t, disk, p.Start.Bytes()+block*4096, make([]byte, 4096))
	v = boot(t, qemutest.Options{Disk: disk})
	v.ready()
	v.expect(`DEGRADED: /perm is read-only`, stepTime)
	v.password = v.expect(`пароль admin: ([a-z0-9-]+)\s`, stepTime)[1]
	v.expect("login: ", stepTime)
	v.login()
	v.want("services", "работает") // the setting was read
	v.off()
}

// A virtual disk that was enlarged gives its room to /perm.
func TestEnlargedDisk(t *testing.T) {
	judge.Need(t, "sgdisk", "e2fsck")
	disk := copyDisk(t)
	const more = 3 * layout.GiB
	if err := os.Truncate(disk, built.result.Size+more); err != nil {
		t.Fatal(err)
	}
	v := boot(t, qemutest.Options{Disk: disk})
	v.up()
	v.login()
	v.wantLog("logs init -n 300", "/perm has grown")
	v.want("status", `4\.[0-9] GiB`)
	v.off()
	judge.Run(t, "sgdisk", "-v", disk)
	if out := judge.Run(t, "sgdisk", "-i", fmt.Sprint(layout.Perm), disk); !strings.Contains(out, partition(t, layout.Perm).GUID) {
		t.Errorf("the partition has another GUID:\n%s", out)
	}
	v = boot(t, qemutest.Options{Disk: disk})
	v.up()
	v.login()
	v.want("status", `4\.[0-9] GiB`)
	if out := v.unwrapped("logs init -n 300"); strings.Count(out, `msg="/perm has grown"`) != 1 {
		t.Errorf("it grew again:\n%s", out)
	}
	v.off()
}

package terminal

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/lineedit"
	"github.com/parley-meet/parley/services/internal/look"
)

func TestWordsAreComplete(t *testing.T) {
	d := look.MustLoad(words, "words")
	for _, f := range d.Faults() {
		t.Error(f)
	}
	for _, c := range commands {
		for _, key := range []string{"help." + c.name, "more." + c.name} {
			if !d[look.English].Has(key) {
				t.Errorf("%q has no text", key)
			}
		}
	}
}

func TestBanner(t *testing.T) {
	r := newRig(t)
	out := r.expect("parley login: ")
	for _, want := range []string{"Parley 1.2.3", "192.0.2.7", "https://192.0.2.7:5480", "AB:AB", "zone controller: running (not configured)",
		"multimedia router: running", "0.42 s", "admin password: " + r.keeper.Plain()} {
		if !strings.Contains(out, want) {
			t.Errorf("the banner has no %q:\n%s", want, out)
		}
	}
	if len(r.keeper.Plain()) != 23 {
		t.Errorf("generated password of %d characters", len(r.keeper.Plain()))
	}
	r.server.Change(func(s *control.Status) {
		s.LastBoot = "panic: \x1b[2Joops"
		s.Perm = control.Perm{State: control.PermMissing, Message: "no partition 5"}
	})
	out = r.expect("parley login: ")
	for _, want := range []string{"THE STORAGE IS MISSING", "no partition 5", `panic: \u001b[2Joops`} {
		if !strings.Contains(out, want) {
			t.Errorf("the new banner has no %q:\n%s", want, out)
		}
	}
	checkScreen(t, out)
	// Half a name is not disturbed by news.
	r.send("adm")
	r.expect("adm")
	r.server.Change(func(s *control.Status) { s.LastBoot = "" })
	time.Sleep(3500 * time.Millisecond)
	r.mu.Lock()
	if r.seen != "" {
		t.Errorf("printed into the name: %q", r.seen)
	}
	r.mu.Unlock()
	r.send("in\r")
	r.expect("Password: ")
}

// checkScreen holds that output fits 80 columns and has no control characters
// but those the console itself uses.
func checkScreen(t *testing.T, out string) {
	t.Helper()
	for _, code := range []string{lineedit.AskSize, bold, alarm, plain, "\x1b[K", "\r"} {
		out = strings.ReplaceAll(out, code, "")
	}
	for _, line := range strings.Split(out, "\n") {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("line of %d columns: %q", n, line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("control characters in %q", line)
		}
	}
}

func TestCommands(t *testing.T) {
	r := newRig(t)
	r.expect("login: ")
	r.login(r.keeper.Plain())
	for _, test := range []struct {
		command string
		want    []string
	}{
		{"services", []string{"NAME", "zctrl", "zone controller", "running", "104", "not configured", "killed by signal 9"}},
		{"status", []string{"Parley 1.2.3", "controller", "1 h 30 min", "i6300ESB timer", "900 MiB free of 1.2 GiB"}},
		{"version", []string{"Parley 1.2.3", "Linux 7.1.0, slot a, firmware bios"}},
		{"ifconfig", []string{"eth0:", "up, mtu 1500, 52:54:00:01:02:03", "192.0.2.7/24", "received 12 packets (2.0 KiB)"}},
		{"ifconfig ETH0", []string{"eth0:"}},
		{"ifconfig eth7", []string{"There is no interface eth7"}},
		{"logs zctrl", []string{"waiting for a token"}},
		{"logs -n1", []string{"waiting for a token"}},
		{"logs -n 0", []string{"-n takes a number"}},
		{"logs network", []string{"Nothing has been logged"}},
		{"logs nobody", []string{"There is no service nobody. Logs are kept of: ", "zctrl", "kernel."}},
		{"logs nobody -f", []string{"There is no service nobody"}},
		{"logs -n 1 ZCTRL", []string{"waiting for a token"}},
		{"restart MMR", []string{"mmr was restarted and is running"}},
		{"start zctrl", []string{"zctrl is running"}},
		{"stop zctrl", []string{"zctrl is stopped"}},
		{"stop", []string{"Usage: stop NAME"}},
		{"stop nobody", []string{"no service of that name"}},
		{"role", []string{"Role: controller"}},
		{"role controller", []string{"already"}},
		{"repair", []string{"Storage: normal", "repair format"}},
		{"repair all", []string{"Usage: repair"}},
		{"repair retryfoo", []string{"Usage: repair"}},
		{"repair format!!", []string{"Usage: repair"}},
		{"repair format now", []string{"Usage: repair"}},
		{"repair format", []string{"Storage: normal", "nothing to repair"}},
		{"help STATUS", []string{"Usage: status"}},
		{"language EN", []string{"Language: English"}},
		{"help", []string{"restart NAME", "poweroff", "Tab completes"}},
		{"help logs", []string{"Usage: logs [NAME] [-f] [-n N]"}},
		{"help nothing", []string{"no command nothing"}},
		{"frobnicate", []string{"There is no command frobnicate"}},
		{"; reboot", []string{"There is no command ;"}},
		{"language de", []string{"Usage: language [en|ru]"}},
	} {
		out := r.run(test.command)
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in:\n%s", test.command, want, out)
			}
		}
		checkScreen(t, strings.ReplaceAll(out, "-- more --", "")) // which is wiped
		if n := strings.Count(out, "\n"); n > 24 && !strings.Contains(out, "-- more --") {
			t.Errorf("%s: %d lines, want at most 24", test.command, n)
		}
	}
	var ops []string
	for _, a := range r.server.Asked() {
		ops = append(ops, strings.TrimSpace(string(a.Op)+" "+a.Service))
	}
	if got, want := strings.Join(ops, ", "), "restart mmr, start zctrl, stop zctrl, stop nobody"; got != want {
		t.Errorf("asked %q, want %q", got, want)
	}
	r.send("logout\r")
	r.expect("parley login: ")
	r.send("\x1b[A")
	time.Sleep(100 * time.Millisecond)
	r.mu.Lock()
	if strings.Contains(r.seen, "logout") {
		t.Error("the history outlives the session")
	}
	r.mu.Unlock()
}

func TestConfirmations(t *testing.T) {
	r := newRig(t)
	r.expect("login: ")
	r.login(r.keeper.Plain())
	answer := func(command, prompt, reply, want string) {
		t.Helper()
		r.send(command + "\r")
		r.expect(prompt)
		r.send(reply)
		r.expect(want)
	}
	answer("reboot", "y/N", "\r", "Cancelled")
	answer("reboot", "y/N", "\x03", "Cancelled")
	answer("poweroff", "y/N", "n\r", "Cancelled")
	r.server.Change(func(s *control.Status) { s.Perm.State = control.PermMissing })
	answer("repair format", "Type FORMAT", "format\r", "Cancelled")
	answer("repair FORMAT!", "Type FORMAT", "format\r", "Cancelled")
	answer("role router", "y/N", "no\r", "Cancelled")
	answer("stop console-serial", "y/N", "\x04", "Cancelled")
	if got := r.server.Asked(); len(got) != 0 {
		t.Fatalf("asked %v although nothing was confirmed", got)
	}
	answer("repair format!", "Type FORMAT", "FORMAT\r", "Storage: missing")
	answer("repair format", "Type FORMAT", "FORMAT\r", "Storage: missing")
	r.server.Change(func(s *control.Status) { s.Perm.State = control.PermReadWrite })
	answer("role router", "y/N", "y\r", "Saved")
	answer("reboot", "y/N", "yes\r", "Restarting")
	r.expect("login: ")
	want := []control.Request{{Op: control.OpRepair, Repair: control.RepairFormat + repairConfirmed}, {Op: control.OpRepair, Repair: control.RepairFormat}, {Op: control.OpRole, Role: "router"}, {Op: control.OpReboot}}
	got := r.server.Asked()
	if len(got) != len(want) {
		t.Fatalf("asked %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("asked %v, want %v", got[i], want[i])
		}
	}
}

func TestFollowLogs(t *testing.T) {
	r := newRig(t)
	r.expect("login: ")
	r.login(r.keeper.Plain())
	for _, end := range []string{"q", "\x03"} {
		r.send("logs -f\r")
		r.expect("waiting for a token")
		for r.server.Following() == 0 {
			time.Sleep(time.Millisecond)
		}
		r.server.Log("mmr", "evil \x1b]0;title\a \x9b2J\u202e text")
		out := r.expect(`text\r\n`)
		checkScreen(t, out)
		if !strings.Contains(out, `evil \u001b]0;title\u0007 \ufffd2J\u202e`) {
			t.Errorf("printed %q", out)
		}
		r.send(end)
		r.expect("parley> ")
		r.run("version") // nothing of the input is left
	}
}

// A long line of a log goes on below its text, and the first part of it is as
// long as the others.
func TestLongLogs(t *testing.T) {
	r := newRig(t)
	r.expect("login: ")
	r.login(r.keeper.Plain())
	r.server.Log("mmr", "time=2026-01-02T03:04:05Z "+strings.Repeat("x", 140))
	out := strings.ReplaceAll(r.run("logs mmr"), "\r", "")
	x := strings.Repeat("x", 55)
	if want := " mmr            " + x + "\n" + strings.Repeat(" ", 24) + x + "\n" + strings.Repeat(" ", 24) + x[:30] + "\n"; !strings.Contains(out, want) {
		t.Errorf("no %q in:\n%s", want, out)
	}
	checkScreen(t, out)
}

func TestRussian(t *testing.T) {
	r := newRig(t)
	r.expect("login: ")
	r.login(r.keeper.Plain())
	r.run("language ru")
	for _, test := range []struct{ command, want string }{
		{"services", "контроллер зоны"}, {"status", "Сторожевой таймер"}, {"help", "перезагрузить машину"}, {"ifconfig", "принято:"},
	} {
		out := r.run(test.command)
		if !strings.Contains(out, test.want) {
			t.Errorf("%s: no %q in:\n%s", test.command, test.want, out)
		}
		checkScreen(t, out)
	}
	l, err := readSettings(r.c.cfg.Settings)
	if l != look.Russian || err != nil {
		t.Errorf("settings: %q, %v", l, err)
	}
	r.send("logout\r")
	out := r.expect("parley login: ")
	if !strings.Contains(out, "пароль admin:") {
		t.Errorf("banner:\n%s", out)
	}
	checkScreen(t, out)
}

package terminal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/look"
)

// A password is set over the terminal: refusals first, each with its reason;
// what was typed is never shown, remembered or logged; the generated one ends.
func TestPasswd(t *testing.T) {
	r := newRig(t)
	r.expect("login: ")
	generated := r.keeper.Plain()
	r.login(generated)
	try := func(current, next, again, want string) {
		t.Helper()
		r.send("passwd\r")
		for _, answer := range []string{current, next, again} {
			if answer == "" {
				break
			}
			r.expect(`: \x1b\[K$`)
			r.send(answer + "\r")
		}
		r.expect(want)
		if next != "" && again != next { // asked for again: give up
			r.expect(`: \x1b\[K$`)
			r.send("\r")
		}
		r.expect("parley> ")
	}
	words := look.MustLoad(words, "words")[look.English]
	for next, reason := range map[string]credential.Refusal{
		"short": credential.ErrShort, strings.Repeat("long enough ", 30): credential.ErrLong, "abababababababab": credential.ErrSimple,
		"Parley1234567": credential.ErrGuessable, generated: credential.ErrUnchanged,
		strings.ToUpper(strings.ReplaceAll(generated, "-", "")): credential.ErrShown,
	} {
		// The text is wrapped; its first word is enough to know it by.
		text := words.T("password." + string(reason))
		try(generated, next, "", strings.Join(strings.Fields(text)[:2], `\s+`))
	}
	try("open sesame", "", "", strings.Fields(words.T("passwd.wrong"))[0])
	try(generated, "correct horse battery", "correct horse batterY", strings.Fields(words.T("passwd.differ"))[0])
	if _, err := os.Stat(filepath.Join(r.admin.Dir, "admin.json")); !os.IsNotExist(err) {
		t.Fatalf("a password was set: %v", err)
	}
	try(generated, "correct horse battery", "correct horse battery", strings.Fields(words.T("passwd.done"))[0])
	if r.keeper.Plain() != "" {
		t.Error("the generated password is still there")
	}
	r.send("\x1b[A\x1b[A\x1b[A\x15logout\r")
	r.expect("login: ")
	r.send("admin\r")
	r.expect("Password: ")
	r.send(generated + "\r")
	r.expect("Wrong name or password")
	r.expect("login: ")
	r.login("correct horse battery")
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, secret := range []string{"correct horse", "open sesame", "abababab", "Parley12345", "long enough long"} {
		if strings.Contains(r.all, secret) {
			t.Errorf("%q was shown", secret)
		}
		if strings.Contains(r.logs.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	// The banner before the change shows the generated one; nothing else does.
	shell := r.all[strings.Index(r.all, "parley> "):]
	if strings.Contains(shell, generated) || strings.Contains(r.logs.String(), generated) {
		i := max(strings.Index(shell, generated), 0)
		t.Errorf("the generated password was echoed or logged: %q", shell[max(0, i-200):i+30])
	}
}

// A disk that cannot be written: the old password stays and the reason is told.
func TestPasswdReadOnly(t *testing.T) {
	r := newRig(t)
	r.expect("login: ")
	generated := r.keeper.Plain()
	r.login(generated)
	r.server.Change(func(s *control.Status) { s.Perm.State = control.PermReadOnly })
	if out := r.run("passwd"); strings.Contains(out, "assword:") {
		t.Errorf("asked for a password: %q", out)
	}
	r.server.Change(func(s *control.Status) { s.Perm.State = control.PermReadWrite })
	if err := os.RemoveAll(r.admin.Dir); err != nil {
		t.Fatal(err)
	}
	r.send("passwd\r")
	for _, answer := range []string{generated, "correct horse battery", "correct horse battery"} {
		r.expect(`: \x1b\[K$`)
		r.send(answer + "\r")
	}
	out := r.expect("parley> ")
	if w := look.MustLoad(words, "words")[look.English]; strings.Contains(out, strings.Join(strings.Fields(w.T("passwd.done"))[:3], " ")) {
		t.Errorf("said to be set: %q", out)
	}
	if r.keeper.Plain() != generated {
		t.Error("the generated password was ended")
	}
}

// hostile is text that services, the kernel or servers may say.
const hostile = "x\x1b[2J\x1b]0;title\a\x9b31m\u009b1m\r\n\x00\x7f\u202e\xff" + "y"

// Every command in both languages, with hostile text in every field that PID 1
// passes on: nothing that a terminal would obey comes out.
func TestCommandsAreHarmless(t *testing.T) {
	r := newRig(t)
	r.expect("login: ")
	r.login(r.keeper.Plain())
	r.server.Change(func(s *control.Status) {
		s.Version, s.Kernel, s.Slot, s.Firmware, s.Watchdog, s.LastBoot = hostile, hostile, hostile, hostile, hostile, hostile
		s.Role = hostile
		s.Perm = control.Perm{State: control.PermState(hostile), Message: hostile}
		for i := range s.Services {
			v := &s.Services[i]
			v.Title, v.Detail, v.State, v.CrashLoop = hostile, hostile, control.State(hostile), true
			v.LastExit = &control.Exit{At: time.Now(), Reason: hostile}
		}
	})
	r.server.Log("zctrl", strings.Repeat(hostile, 200))
	for _, op := range []control.Op{control.OpStart, control.OpStop, control.OpRestart, control.OpRole, control.OpRepair, control.OpReboot, control.OpPowerOff} {
		r.server.Refuse(op, &control.Error{Code: control.CodeInvalid, Message: hostile})
	}
	for _, language := range []string{"en", "ru"} {
		r.run("language " + language)
		for _, command := range []string{"status", "services", "version", "ifconfig", "ifconfig eth0", "logs", "logs zctrl -n 5", "start mmr", "stop mmr",
			"restart mmr", "role", "repair", "repair retry", "help", "help logs", "language", "frobnicate", "logs -n x", "ifconfig nowhere", "start nowhere"} {
			out := r.run(command)
			harmless(t, out)
			if strings.Contains(out, "title\a") {
				t.Errorf("%s: the bell of a title: %q", command, out)
			}
		}
		for _, command := range []string{"reboot", "poweroff", "role router", "repair format"} {
			r.send(command + "\r")
			answer := "y\r"
			if command == "repair format" {
				answer = "FORMAT\r"
			}
			r.expect(`(y/N|д/Н|N\]|Н\]|FORMAT).*: \x1b\[K$|\? .*\x1b\[K$|\x1b\[K$`)
			r.send(answer)
			harmless(t, r.expect("parley> "))
		}
		for _, c := range commands {
			harmless(t, r.run("help "+c.name))
		}
		// Completion prints names too.
		r.send("start \t\t")
		r.expect("start ")
		r.send("\x15")
	}
	r.send("logout\r")
	harmless(t, r.expect("parley login: "))
	if text := r.logs.String(); strings.ContainsAny(text, "\x1b\x07\x00\x7f") {
		t.Error("control characters in the log")
	}
}

// A name in the prompt: the machine's own may be anything.
func TestHostNameIsHarmless(t *testing.T) {
	r := newRig(t)
	r.server.Change(func(s *control.Status) { s.Hostname = hostile })
	out := r.expect(`y login: |ff.* login: |… login: |\rlogin: `)
	harmless(t, out)
}

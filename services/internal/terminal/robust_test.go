package terminal

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/lineedit"
	"github.com/parley-meet/parley/services/internal/netclient"
)

// A network service that does not answer costs a sentence and not the session,
// and the banner does not wait for it; Ctrl-C ends the waiting.
func TestNetworkServiceIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.login()
		for _, command := range []string{"network", "network set mtu 1400", "network confirm", "firewall"} {
			d.send(command + "\r")
			began := time.Now()
			out := d.shows(`parley> `)
			if took := time.Since(began); took > statusLimit+time.Second || !strings.Contains(out, "no answer in time") {
				t.Errorf("%s: after %v %q", command, took, out)
			}
		}
		d.send("network\r")
		d.send("\x03")
		if out := d.take(); !strings.Contains(out, "Cancelled") {
			t.Errorf("after Ctrl-C: %q", out)
		}
	})
}

// What does not even end when it is cancelled is left to itself.
func TestWaitGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		s := newSession(d.c, "ttyX", newMemory(), nil)
		stuck := make(chan struct{})
		began := time.Now()
		_, err := get(s, t.Context(), time.Second, func(context.Context) (int, error) { <-stuck; return 1, nil })
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > time.Second+graceTime {
			t.Errorf("after %v: %v", took, err)
		}
		close(stuck)
		synctest.Wait()
	})
}

// Long work shows that it goes on.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.login()
		d.appliance.hang = true
		d.send("restart mmr\r")
		d.take()
		time.Sleep(10 * time.Second)
		if out := d.take(); out != "..." {
			t.Errorf("after 10 s: %q", out)
		}
		d.send("\x03")
		if out := d.take(); !strings.HasPrefix(out, "\n") || !strings.Contains(out, "parley> ") {
			t.Errorf("after Ctrl-C: %q", out)
		}
	})
}

// A cable that is pulled ends the session, and another can log in when it is
// back; nobody finds a session that was left.
func TestHangUp(t *testing.T) {
	r := ready(t)
	var opened atomic.Int32
	devices := make(chan *memory, 2)
	for range 2 {
		devices <- newMemory()
	}
	first := <-devices
	devices <- first
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.c.Serve(ctx, "ttyU", func(string) (Device, error) {
			if opened.Add(1) == 1 {
				return first, nil
			}
			if d := <-devices; d != first {
				return d, nil
			}
			return nil, os.ErrNotExist
		})
	}()
	waitFor := func(m *memory, text string) {
		t.Helper()
		for range 1000 {
			m.mu.Lock()
			found := strings.Contains(m.out.String(), text)
			m.mu.Unlock()
			if found {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("no %q", text)
	}
	waitFor(first, "login: ")
	first.in <- []byte("admin\r")
	waitFor(first, "Password: ")
	first.in <- []byte(admintest.Password + "\r")
	waitFor(first, "parley> ")
	second := <-devices
	devices <- second
	close(first.in)
	waitFor(second, "login: ")
	second.in <- []byte("version\r")
	waitFor(second, "Password: ")
	cancel()
	<-done
	if !strings.Contains(r.logs.String(), "broke off") {
		t.Errorf("log:\n%s", r.logs)
	}
}

// A terminal that does not take bytes holds nothing up for longer than a write
// may take, and what it missed is dropped.
func TestDeafTerminal(t *testing.T) {
	m, name := ptyPair(t)
	dev, err := open(name, false)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	big := []byte(strings.Repeat("x", 1<<20))
	began := time.Now()
	n, err := dev.Write(big)
	if took := time.Since(began); err != nil || n != len(big) || took > writeTimeout+5*time.Second {
		t.Errorf("%d bytes, %v after %v", n, err, took)
	}
	m.SetReadDeadline(time.Now().Add(time.Second))
	got, _ := io.ReadAll(m)
	if len(got) == 0 || len(got) == len(big) {
		t.Errorf("%d bytes arrived", len(got))
	}
}

// A line of 1 MB, UTF-8 that breaks off, NUL bytes and half escape sequences at
// every prompt: the next command works.
func TestAbuseAtThePrompt(t *testing.T) {
	r := ready(t)
	for _, abuse := range []string{strings.Repeat("y", 1<<20), "\xd0", "\x00\x00", "\x1b[", "\x1b[999;999;999", strings.Repeat("\x1b[6n", 100), "\xff\xfe\xd0\xd0", "\x1b]0;title"} {
		for chunk := range chunks(abuse, 4096) {
			r.send(chunk)
		}
		r.send("\r\x03")
		r.send("version\r")
		r.expect("Linux 7.1.0")
		r.expect("parley> ")
	}
	harmless(t, r.printed())
}

func chunks(s string, n int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for len(s) > 0 {
			k := min(n, len(s))
			if !yield(s[:k]) {
				return
			}
			s = s[k:]
		}
	}
}

// The terminal is asked for its size, and believed.
func TestTerminalSize(t *testing.T) {
	r := newRig(t)
	r.admin.SetPassword(t, admintest.Password)
	r.expect("login: ")
	r.send("admin\r")
	r.expect("Password: ")
	r.send(admintest.Password + "\r")
	if out := r.expect("parley> "); !strings.Contains(out, lineedit.AskSize) {
		t.Errorf("not asked: %q", out)
	}
	r.send("\x1b[60;120R")
	if out := r.run("help"); strings.Contains(out, "-- more --") {
		t.Errorf("paged on 60 lines: %q", out)
	}
	r.send("logout\r")
	r.expect("login: ")
	r.login(admintest.Password) // another terminal, which does not answer
	if out := r.run("help"); !strings.Contains(out, "-- more --") {
		t.Errorf("not paged on 24 lines: %q", out)
	}
}

func TestPager(t *testing.T) {
	r := ready(t)
	r.send("help\r")
	out := r.expect("-- more --")
	if n := strings.Count(out, "\n"); n > 24 {
		t.Errorf("a page of %d lines", n)
	}
	r.send("q")
	if out := r.expect("parley> "); strings.Contains(out, "logout") {
		t.Errorf("after q: %q", out)
	}
	r.send("help\r")
	r.expect("-- more --")
	r.send("version\r") // typed ahead: the rest is shown, nothing is lost
	r.expect("logout")
	r.expect("Linux 7.1.0")
	r.expect("parley> ")
	r.send("help\r")
	r.expect("-- more --")
	r.send("\x03")
	r.expect("parley> ")
}

// Who types the name before the appliance has told its state is asked for no
// password: the console waits.
func TestRecoveryEarly(t *testing.T) {
	r := newRig(t)
	r.server.Change(func(s *control.Status) { s.Recovery = true })
	r.server.Refuse(control.OpStatus, &control.Error{Code: control.CodeFailed, Message: "too early"})
	r.expect("login: ")
	for r.c.snapshot().status != nil {
		time.Sleep(10 * time.Millisecond)
	}
	r.send("recover\r")
	time.Sleep(100 * time.Millisecond)
	r.server.Refuse(control.OpStatus, nil)
	r.expect("Type RESET to go on: ")
}

// Recovery: in time, once, and where it is allowed.
func TestRecovery(t *testing.T) {
	r := newRig(t)
	r.admin.SetPassword(t, "a password nobody knows")
	r.server.Change(func(s *control.Status) { s.Recovery = true })
	r.expect("log in as recover")
	r.expect("login: ")
	begin := func() {
		r.send("recover\r")
		r.expect("Type RESET to go on: ")
	}
	begin()
	r.send("reset\r") // not in capitals
	r.expect("Cancelled")
	r.expect("login: ")
	begin()
	r.send("RESET\r")
	r.expect("New password: ")
	r.send("short\r") // asked for again, and an empty line gives up
	r.expect("Not accepted")
	r.expect("New password: ")
	r.send("\r")
	r.expect("Cancelled")
	r.expect("login: ")
	begin()
	r.send("RESET\r")
	r.expect("New password: ")
	r.send("short\r")
	r.expect("Not accepted")
	r.expect("New password: ")
	r.send(admintest.Password + "\r")
	r.expect("New password again: ")
	r.send(admintest.Password + "\r")
	r.expect("The password of admin was set")
	r.expect("login: ")
	r.login(admintest.Password)
	list, err := r.admin.Notices(t.Context())
	if err != nil || len(list) != 1 || !strings.HasPrefix(list[0], admin.NoticeRecovered) {
		t.Errorf("notices %q, %v", list, err)
	}
	r.says("audit", "recover (serial ttyT)")
	r.send("logout\r")
	r.expect("login: ")
	stranger := func(what string) {
		t.Helper()
		r.send("recover\r")
		r.expect("Password: ")
		r.send("no matter\r")
		r.expect("Wrong name or password")
		r.expect("login: ")
	}
	stranger("used")
	if err := os.Remove(r.c.cfg.Recovered); err != nil {
		t.Fatal(err)
	}
	begin()
	r.send("RESET\r")
	r.expect("New password: ")
	r.send("another password for admin\r")
	if err := os.WriteFile(r.c.cfg.Recovered, nil, 0o600); err != nil { // the other terminal
		t.Fatal(err)
	}
	r.uptime.Store(int64(recoverWindow) - 1)
	r.expect("New password again: ")
	r.send("another password for admin\r")
	r.expect("set on another terminal meanwhile")
	r.expect("login: ")
	if err := os.Remove(r.c.cfg.Recovered); err != nil {
		t.Fatal(err)
	}
	r.uptime.Store(int64(recoverWindow))
	stranger("too late")
	r.uptime.Store(0)
	r.server.Change(func(s *control.Status) { s.Recovery = false })
	time.Sleep(2 * pollEvery)
	stranger("switched off")
}

// Whether this machine is a copy is asked after the login, and may wait.
func TestCloneQuestion(t *testing.T) {
	r := newRig(t)
	r.admin.SetPassword(t, admintest.Password)
	r.server.Change(func(s *control.Status) {
		s.Machine = control.Machine{Changed: true, Why: "uuid", Was: "1111" + hostile, Now: "2222", Since: time.Now()}
	})
	harmless(t, r.expect("MAY BE A COPY"))
	r.expect("login: ")
	for i, answer := range []string{"\r", "copy\r"} {
		r.send("admin\r")
		r.expect("Password: ")
		r.send(admintest.Password + "\r")
		harmless(t, r.expect(`copy, same or later\?`))
		r.send(answer)
		r.expect("parley> ")
		if asked := r.server.Asked(); len(asked) != i {
			t.Fatalf("asked %+v", asked)
		}
		r.send("logout\r")
		r.expect("login: ")
	}
	if last := newest(r.server.Asked()); last.Op != control.OpIdentity || last.Identity != control.IdentityCopy {
		t.Errorf("asked %+v", last)
	}
}

// The whole of a first day with nothing but digits, Enter and values, in both
// languages.
func TestMenu(t *testing.T) {
	r := newRig(t)
	r.expect("login: ")
	r.send("admin\r")
	r.expect("Password: ")
	r.send(r.keeper.Plain() + "\r")
	if out := r.expect("parley> "); !strings.Contains(out, "What would you like to do?") {
		t.Fatalf("the menu does not open by itself: %q", out)
	}
	type step struct{ answer, want string }
	for _, steps := range [][]step{
		{{"1", "back"}, {"3", `eth0 \[dhcp\]: `}, {"dynamic", `not one of`}, {"3", `not one of`}, {"2", `address/length \[192.0.2.7/24\]: `}, {"nonsense", `nonsense`},
			{"192.0.2.9/24", `Gateway \[192.0.2.1\]: `}, {"", `MTU \[-\]: `}, {"", `Name servers \[192.0.2.53\]: `}, {"", `(?s)192.0.2.9/24.*y/N`}, {"1", "Saved and in force"}, {"0", "parley> "}},
		{{"1", "back"}, {"4", `eth0:0 \[-\]: `}, {"192.0.2.8/24", "y/N"}, {"n", "Cancelled"}, {"99", "no number"}, {"0", "parley> "}},
		{{"2", "back"}, {"1", `Name servers \[192.0.2.53\]: `}, {"192.0.2.53 8.8.8.8", `Search`}, {"", `Host name`}, {"", "y/N"}, {"y", "Saved"}, {"\x03", "parley> "}},
		{{"3", "back"}, {"2", `Zone controller \[-\]: `}, {"", "router"}, {"", "Other"}, {"192.0.2.300", "192.0.2.300"}, {"192.0.2.30", "Public name"}, {"имя", "имя"}, {"meet.example.net", "Participants at most"}, {"1", "no number from 2"}, {"250", "Token"},
			{"short", "no token"}, {"", "y/N"}, {"y", "Saved"}, {"5", "by default"}, {"120", "Saved"}, {"0", "parley> "}},
		{{"4", "back"}, {"2", "5  mmr"}, {"5", "mmr was restarted"}, {"0", "parley> "}},
		{{"7", "back"}, {"1", "Host"}, {"example.net", "two"}, {"0", "parley> "}},
		{{"5", "back"}, {"3", "Name"}, {"Иван", "name begins"}, {"3", "Name"}, {"admin", "reserved"}, {"0", "parley> "}},
		{{"9", "2  ru"}, {"2", "(?s)Русский.*Что нужно сделать.*parley> "}},
		{{"1", "назад"}, {"3", `eth0 \[static\]: `}, {"", `Адрес eth0/длина \[192.0.2.9/24\]: `}, {"nonsense", "nonsense"}, {"\x03", "Отменено"}, {"0", "parley> "}},
	} {
		for _, st := range steps {
			if st.answer != "\x03" {
				st.answer += "\r"
			}
			r.send(st.answer)
			out := r.expect(st.want)
			checkScreen(t, out)
			r.expect(`\x1b\[K$`)
		}
	}
	if c, err := r.admin.Connector(t.Context()); err != nil || c.Limit != 120 || c.PublicName != "meet.example.net" {
		t.Errorf("%+v, %v", c, err)
	}
	last := newest(r.admin.Network.Asked())
	if c := last.Config; c == nil || c.Eth0.Address.String() != "192.0.2.9/24" || c.Eth0.Gateway.String() != "192.0.2.1" || len(c.DNS.Servers) != 2 {
		t.Errorf("asked %+v", last)
	}
	for _, a := range r.admin.Network.Asked() {
		if a.Op != netclient.OpSet || a.Hold || a.Config.Slave.IsValid() {
			t.Errorf("asked %+v", a)
		}
	}
	// Once is enough.
	r.send("logout\r")
	r.expect("login: ")
	r.send("admin\r")
	r.expect("Пароль: ")
	r.send(r.keeper.Plain() + "\r")
	if out := r.expect("parley> "); strings.Contains(out, "Что нужно сделать") {
		t.Error("the menu opens again")
	}
}

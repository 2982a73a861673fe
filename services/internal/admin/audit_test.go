package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/statefile"
)

var anna = Actor{Name: "anna", Authority: account.Operate, From: "10.0.0.7", Via: "web"}

// noted returns an Admin that can do no more than keep its files, and its clock.
func noted(t testing.TB, dir string) (*Admin, *time.Time) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return New(Config{Dir: dir, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}), &now
}

func audit(t *testing.T, a *Admin, lines int) []Entry {
	t.Helper()
	e, err := a.Audit(t.Context(), lines)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAudit(t *testing.T) {
	dir := t.TempDir()
	a, now := noted(t, dir)
	if e := audit(t, a, 0); len(e) != 0 {
		t.Fatalf("%+v in a new log", e)
	}
	a.Note(anna, "network.set", "eth0.mode: dhcp → static", nil)
	*now = now.Add(time.Second)
	a.Note(Actor{Name: "x\x1b[2J\n\u202e", From: strings.Repeat("я", 100), Via: "serial"}, "reboot", strings.Repeat(`"\`, 5000), errors.New("no\x00thing"))
	e := audit(t, a, 0)
	if len(e) != 2 || e[1].What != "network.set" || e[1].Who != "anna" || e[1].Detail != "eth0.mode: dhcp → static" || e[1].Error != "" {
		t.Fatalf("%+v", e)
	}
	if e[0].Who != "x[2J " || e[0].Error != "nothing" || len(e[0].From) > 64 || !e[0].At.Equal(*now) {
		t.Errorf("%+v", e[0])
	}
	b, err := os.ReadFile(a.folder.Path(auditName))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if len(line) > maxLine {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if info, err := os.Stat(a.folder.Path(auditName)); err != nil || info.Mode() != 0o660 {
		t.Errorf("%v, %v, want 0660", info.Mode(), err)
	}
	// The power is cut in a line; somebody writes nonsense.
	for _, s := range []string{`{"at":"2026-03-01T12`, "\x00\x01\xff\n{}\n[1]\n" + strings.Repeat("x", 5000) + "\n"} {
		f, err := os.OpenFile(a.folder.Path(auditName), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(s)
		f.Close()
		a.Note(anna, "reboot", "", nil)
	}
	if e := audit(t, a, 0); len(e) != 4 || e[0].What != "reboot" || e[3].What != "network.set" {
		t.Errorf("%+v, want what is whole", e)
	}
	if e := audit(t, a, 2); len(e) != 2 {
		t.Errorf("%d lines, want 2", len(e))
	}
}

func TestAuditRotates(t *testing.T) {
	a, _ := noted(t, t.TempDir())
	path, older := a.folder.Path(auditName), a.folder.Path(auditOlder)
	fill := func(word string) {
		t.Helper()
		line := string(Entry{At: a.cfg.Now(), What: word}.line())
		if err := os.WriteFile(path, []byte(strings.Repeat(line, maxAudit/len(line))), 0o660); err != nil {
			t.Fatal(err)
		}
	}
	for _, word := range []string{"first", "second"} {
		fill(word)
		a.Note(anna, "reboot", "", nil)
		b, err := os.ReadFile(older)
		if err != nil || !strings.Contains(string(b), word) {
			t.Errorf("%s is not in the older file: %v", word, err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() > maxLine {
			t.Errorf("%v, %v, want one line in the newer one", info, err)
		}
	}
	if e := audit(t, a, 3); len(e) != 3 || e[0].What != "reboot" || e[1].What != "second" {
		t.Errorf("%+v", e)
	}
}

// Ten thousand guesses leave a few lines that tell how many they were, and the
// rest of the log as it is.
func TestAuditFlood(t *testing.T) {
	a, now := noted(t, t.TempDir())
	a.Note(anna, "network.set", "", nil)
	for i := range 10_000 {
		a.Note(Actor{Name: "admin", From: fmt.Sprint(i), Via: "web"}, "login.failed", "", ErrWrong)
	}
	e := audit(t, a, 0)
	if len(e) < floodLines || len(e) > floodLines+6 || e[len(e)-1].What != "network.set" {
		t.Fatalf("%d lines", len(e))
	}
	total := func(list []Entry) (n int) {
		for _, e := range list {
			if e.What != "login.failed" {
				continue
			}
			more := 0
			if e.Detail != "" {
				if _, err := fmt.Sscanf(e.Detail, "(+%d)", &more); err != nil {
					t.Fatalf("%q: %v", e.Detail, err)
				}
			}
			n += 1 + more
		}
		return n
	}
	*now = now.Add(floodWindow + time.Second)
	if n := total(audit(t, a, 0)); n != 10_000 {
		t.Errorf("%d are told of, want all when the hour is over", n)
	}
	a.Note(Actor{Name: "admin", From: "x", Via: "web"}, "login.failed", "", ErrWrong)
	if n := total(audit(t, a, 0)); n != 10_001 {
		t.Errorf("%d, want the first of the next hour at once", n)
	}
	for range 100 {
		a.Note(anna, "reboot", "", nil)
	}
	if n := len(audit(t, a, 0)); n < 120 {
		t.Errorf("%d lines: what operators do is left out", n)
	}
}

// What cannot be saved is still in the process's log.
func TestAuditBroken(t *testing.T) {
	dir := t.TempDir()
	a, _ := noted(t, dir)
	var b strings.Builder
	a.cfg.Log = slog.New(slog.NewTextHandler(&b, nil))
	if err := syscall.Mkfifo(a.folder.Path(auditName), 0o660); err != nil {
		t.Fatal(err)
	}
	a.Note(anna, "reboot", "", nil) // must not wait for a reader
	if s := b.String(); !strings.Contains(s, "what=reboot who=anna") || !strings.Contains(s, "no regular file") {
		t.Errorf("log %s", s)
	}
	if _, err := a.Audit(t.Context(), 0); err == nil {
		t.Error("a FIFO is read")
	}
}

const childEnv = "PARLEY_TEST_NOTES"

// The two consoles are processes, and where the test may choose users of their
// own in a group that they share: both write lines and accounts at once, and
// nothing is lost.
func TestTwoProcesses(t *testing.T) {
	const each = 25
	if job := os.Getenv(childEnv); job != "" {
		name, dir, _ := strings.Cut(job, ":")
		a, _ := noted(t, dir)
		for i := range each {
			who := anna
			who.Name = name
			a.Note(who, "reboot", fmt.Sprint(i), nil)
			_, err := a.accounts.Change(t.Context(), account.NewBook(), func(b *account.Book) error {
				b.Accounts = append(b.Accounts, account.Record{Name: fmt.Sprint(name, i), Authority: account.View,
					Hash: "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OWFiY2RlZg"})
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	dir, err := os.MkdirTemp("", "parley-console-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	root := os.Geteuid() == 0
	if root { // as PID 1 makes the folder
		if err := errors.Join(os.Chown(dir, 0, layout.ConsoleGroup), os.Chmod(dir, 0o770|fs.ModeSetgid)); err != nil {
			t.Fatal(err)
		}
	}
	var outs [2]strings.Builder
	var cmds [2]*exec.Cmd
	for i, name := range []string{"web", "serial"} {
		c := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestTwoProcesses$")
		c.Env = []string{childEnv + "=" + name + ":" + dir, "TMPDIR=" + os.TempDir()}
		c.Dir, c.Stdout, c.Stderr = "/", &outs[i], &outs[i]
		if root {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(64001 + i), Gid: uint32(64001 + i), Groups: []uint32{layout.ConsoleGroup}}}
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		cmds[i] = c
	}
	for i, c := range cmds {
		if err := c.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, &outs[i])
		}
	}
	a, _ := noted(t, dir)
	if n := len(audit(t, a, 0)); n != 2*each {
		t.Errorf("%d lines, want %d", n, 2*each)
	}
	if b, err := a.accounts.Read(); err != nil || len(b.Accounts) != 2*each {
		t.Errorf("%d accounts, %v, want %d", len(b.Accounts), err, 2*each)
	}
}

func TestNoticesAreBounded(t *testing.T) {
	a, now := noted(t, t.TempDir())
	for i := range 3 * maxNotices {
		if err := a.AddNotice(fmt.Sprintf("x-%d", i/2)); err != nil {
			t.Fatal(err)
		}
		*now = now.Add(time.Second)
	}
	list, err := a.Notices(t.Context())
	if err != nil || len(list) != maxNotices || list[maxNotices-1] != "x-29 2026-03-01T12:00:59Z" {
		t.Errorf("%q, %v", list, err)
	}
	if err := a.AddNotice("No code"); err == nil {
		t.Error("what is no code is kept")
	}
}

// Each code that this package writes has words in both languages.
func TestWords(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var keys, faults []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range codeForm.FindAllStringSubmatch(string(b), -1) {
			keys = append(keys, "audit."+m[1])
		}
		for _, m := range faultForm.FindAllStringSubmatch(string(b), -1) {
			faults = append(faults, m[1])
		}
	}
	if len(keys) < 20 {
		t.Fatalf("%d codes were found in the sources", len(keys))
	}
	for _, v := range []string{"start", "stop", "restart"} {
		keys = append(keys, "audit.service."+v)
	}
	a0, _ := noted(t, t.TempDir())
	for _, f := range []string{a0.accounts.Name, a0.tokens.Name, a0.connector.Name, a0.notices.Name} {
		keys = append(keys, "notice."+noticeDamaged(f))
	}
	keys = append(keys, "notice."+NoticeRecovered, "notice."+NoticeCopy)
	if len(faults) < 20 {
		t.Fatalf("%d faults were found in the sources", len(faults))
	}
	for _, r := range []credential.Refusal{
		credential.ErrShort, credential.ErrLong, credential.ErrSimple, credential.ErrGuessable, credential.ErrText, credential.ErrUnchanged, credential.ErrShown,
	} {
		faults = append(faults, "password-"+string(r))
	}
	for _, f := range faults {
		keys = append(keys, "fault."+f)
	}
	for lang, w := range dictionary(t) {
		for _, k := range keys {
			if !w.Has(k) {
				t.Errorf("%s: no words for %s", lang, k)
			}
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte(`{"at":"2026-03-01T12:00:00Z","who":"anna","from":"x","via":"web","what":"reboot","detail":"d","error":"e"}`))
	f.Add([]byte(`{"at":"2026-03-01T12:00:00Z","what":"` + "\u202e" + `\u0000"}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseEntry(line)
		if err != nil {
			return
		}
		for _, s := range []string{e.Who, e.From, e.Via, e.What, e.Detail, e.Error} {
			if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q is no text", s)
			}
		}
		if b := e.line(); len(b) > maxLine {
			t.Fatalf("%d bytes", len(b))
		}
	})
}

func FuzzConnectorInput(f *testing.F) {
	f.Add("token-0123456789", "10.0.0.1", "10.0.0.2", "10.0.0.3", "meet.example.com", "10.0.0.1", "203.0.113.1", "350")
	f.Add("", "", "::1", "x", "1.2.3.4", "fe80::1%x", "::ffff:1.2.3.4", "1")
	file := connector.File(statefile.New(f.TempDir()))
	f.Fuzz(func(t *testing.T, token, zone, router, other, name, local, external, limit string) {
		in := ConnectorInput{Token: &token, ZoneController: zone, Router: router, OtherZoneController: other, PublicName: name, Limit: limit}
		in.External = append(in.External, struct {
			Local    string `json:"local"`
			External string `json:"external"`
		}{local, external})
		s, err := in.parse()
		if err != nil {
			return
		}
		// What is taken can be saved and read again.
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := file.Parse(b); err != nil || again.Token != s.Token || again.Limit != s.Limit || !slices.Equal(again.External, s.External) {
			t.Fatalf("%s: %v", b, err)
		}
	})
}

func FuzzConnectorFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"token":"token-0123456789","zoneController":"10.0.0.1","publicName":"x.example","external":[{"local":"10.0.0.1","external":"203.0.113.1"}]}`))
	f.Add([]byte(`{"version":1,"external":null}`))
	file := connector.File(statefile.New(f.TempDir()))
	notices := noticeFile(statefile.New(f.TempDir()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := file.Parse(b); err == nil && (c.Token != "" && len(c.Token) < connector.MinToken || len(c.External) > connector.MaxExternal) {
			t.Fatalf("%+v", c)
		}
		if n, err := notices.Parse(b); err == nil && len(n.Notices) > maxNotices {
			t.Fatal("too many notices")
		}
	})
}

var codeForm = regexp.MustCompile(`(?:a\.act|a\.own)\(ctx, who, "([a-z.]+)"`)

// faultForm finds fault.New(FIELD, "CODE" and faults.Add(FIELD, "CODE".
var faultForm = regexp.MustCompile(`(?:fault\.New|faults\.Add)\([^,]*, "([a-z0-9-]*[a-z0-9])"`)

// dictionary returns the words that every face has.
func dictionary(t *testing.T) look.Dictionary {
	t.Helper()
	d, err := look.LoadDictionary(fstest.MapFS{"en.json": {Data: []byte("{}")}, "ru.json": {Data: []byte("{}")}})
	if err != nil {
		t.Fatal(err)
	}
	if faults := d.Faults(); len(faults) > 0 {
		t.Errorf("%q", faults)
	}
	return d
}

package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIAplantedplantedplanted0\nplanted+/=\n-----END EC PRIVATE KEY-----"

// Whatever is planted has the word "planted" in it, or PLANTED.
var secrets = []string{
	"password=planted1", `password="planted with blanks \" and quotes"`, "Password: planted", "proxy_password='planted it'",
	`{"password":"planted","x":1}`, `{"newPassword": "planted"}`, `"hash": "planted"`, "admin_token=planted", "X-Api-Key: planted", "session=planted; path=/",
	"parley_planted-Token_7", "GET /?token=planted&x=1", "Authorization: Bearer planted.planted", "authorization=Basic cGxhbnRlZDpwbGFudGVk planted",
	"Proxy-Authorization: Digest username=x, response=planted", "Cookie: a=planted; b=planted", "set-cookie: s=planted; HttpOnly", "sent bearer planted-planted",
	"$argon2id$v=19$m=65536,t=3,p=4$planted$planted", "hash $2b$10$plantedplantedplanted", "$6$planted$planted", "http://user:planted@proxy.example:3128/",
	"eyJplantedplanted.planted.planted", "otpauth://totp/Parley:anna?secret=PLANTEDPLANTED23", "secret JBSWPLANTEDPXP23", "second factor JBSWPLANTEDPXPYY",
	"JBSW PLAN TEDP PLAN TEDP",
	key, strings.ReplaceAll(`"key": "`+key+`", "after": 1`, "\n", `\n`), "before " + key + " after",
	"-----BEGIN PRIVATE KEY-----\nplanted without an end",
	// Split over lines.
	"password=\nplanted", "password:\n\n  planted", "authorization: bearer\nplanted", "token parley_abc\nplantedplantedplanted",
	"MHcCAQEEIAplantedplantedplantedplantedplantedplanted0Aa",
	// With what hides it.
	"pass\x00word=planted", "pass\u200bword=planted", "\x1b[31mpassword\x1b[0m=planted",
}

func leaks(s string) bool { return strings.Contains(strings.ToLower(s), "planted") }

func bundleOf(t *testing.T, files ...File) (map[string]string, []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := Write(t.Context(), &b, "parley/../x", noon, files); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return out, b.Bytes()
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if dir := strings.Split(h.Name, "/")[0]; dir != "parley-parley----x-20260301-120000" || h.Mode != 0o600 {
			t.Errorf("%s, mode %o", h.Name, h.Mode)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		out[path.Clean(name)] = string(text)
	}
}

func text(name, s string) File {
	return File{Name: name, About: "test", Write: Lines(func() (string, error) { return s, nil })}
}

func TestSecrets(t *testing.T) {
	for i, s := range secrets {
		if !leaks(s) && !strings.Contains(s, "PLAN") {
			t.Fatalf("%q has nothing planted", s)
		}
		for _, around := range []string{"%s", "10:00 console: %s", "%s\nnext line is here"} {
			out, _ := bundleOf(t, text("logs/x.log", fmt.Sprintf(around, s)))
			got := out["logs/x.log"]
			if leaks(strings.ReplaceAll(got, "passwd planted", "")) || strings.Contains(got, "PLAN TEDP") {
				t.Errorf("%d: %q becomes %q", i, fmt.Sprintf(around, s), got)
			}
			if leaks(out["README.txt"]) {
				t.Errorf("%d: README", i)
			}
		}
	}
}

// The lines of a log have times, and secrets go on in the next line all the same.
func TestStamped(t *testing.T) {
	for i, s := range secrets {
		out, _ := bundleOf(t, File{Name: "x", Write: func(_ context.Context, line func(string) error) error {
			stamped := Stamped(line)
			for l := range strings.SplitSeq(s, "\n") {
				if err := stamped(noon, l); err != nil {
					return err
				}
			}
			return stamped(noon, "the end")
		}})
		if leaks(out["x"]) || !strings.HasPrefix(out["x"], "2026-03-01T12:00:00Z ") {
			t.Errorf("%d: %q becomes %q", i, s, out["x"])
		}
	}
}

// What helps is still there.
func TestKeeps(t *testing.T) {
	for _, s := range []string{
		`{"passwordSet": true, "tokenSet": false}`, "zctrl: not configured: waiting for a token", "login of anna from 10.0.0.7 was refused",
		"sha256 AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89",
		"MemTotal:        2016316 kB", "eth0: 10.0.2.15/24 up, MTU 1500", "GET https://portal.example:443/x", "after the key", "пароль сменён",
		"/sys/devices/pci0000:00/0000:00:03.0/net/eth0", "-----BEGIN CERTIFICATE-----",
	} {
		if got := (&Redactor{}).Line(s); got != s {
			t.Errorf("%q becomes %q", s, got)
		}
	}
	out, _ := bundleOf(t, text("a", "x\n"+key+"\nafter the key\n"))
	if !strings.HasSuffix(out["a"], "\nafter the key\n") {
		t.Errorf("%q", out["a"])
	}
}

func TestBounds(t *testing.T) {
	many := func(n, size int) func(context.Context, func(string) error) error {
		return func(_ context.Context, line func(string) error) error {
			for i := range n {
				if err := line(fmt.Sprintf("%d %s", i, strings.Repeat("x ", size/2))); err != nil {
					return err
				}
			}
			return nil
		}
	}
	var files []File
	for i := range 12 {
		files = append(files, File{Name: fmt.Sprintf("%02d", i), Write: many(1500, 6000)})
	}
	files = append([]File{
		{Name: "lines", Write: many(MaxLines+7, 2)}, {Name: "long", Write: many(1, 100_000)}, {Name: "empty", Write: many(0, 0)},
		{Name: "half", Write: func(ctx context.Context, line func(string) error) error {
			return errors.Join(line("one"), errors.New("gone: password=planted"))
		}},
	}, files...)
	out, _ := bundleOf(t, files...)
	total := 0
	for name, s := range out {
		if total += len(s); len(s) > MaxFile {
			t.Errorf("%s has %d bytes", name, len(s))
		}
	}
	if total > MaxTotal+MaxFile+1<<20 {
		t.Errorf("%d bytes in all", total)
	}
	if n := strings.Count(out["lines"], "\n"); n != MaxLines || !strings.HasPrefix(out["lines"], "7 ") {
		t.Errorf("%d lines, from %.10q", n, out["lines"])
	}
	if len(out["long"]) > maxLine+1 || out["half"] != "one\n" {
		t.Errorf("%d bytes, %q", len(out["long"]), out["half"])
	}
	if _, ok := out["empty"]; ok {
		t.Error("an empty file")
	}
	readme := out["README.txt"]
	for _, s := range []string{"LEFT OUT: the 7 oldest lines", "NOT WHOLE: gone: password=[removed]", "11: LEFT OUT, the bundle has 32 MiB"} {
		if !strings.Contains(readme, s) {
			t.Errorf("want %q in:\n%s", s, readme)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Write(ctx, io.Discard, "x", noon, files); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func FuzzRedactor(f *testing.F) {
	for _, s := range secrets {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := &Redactor{}
		out := r.Text(s + "\nparley_planted and $argon2id$planted")
		if strings.Contains(out, "parley_planted") || strings.Contains(out, "$argon2id$planted") {
			t.Errorf("%q becomes %q", s, out)
		}
	})
}

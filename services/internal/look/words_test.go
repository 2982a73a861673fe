package look

import (
	"testing"
	"testing/fstest"
	"time"
)

func load(t *testing.T) Dictionary {
	t.Helper()
	d, err := LoadDictionary(fstest.MapFS{
		"en.json": {Data: []byte(`{"greet": "Hello, %s"}`)},
		"ru.json": {Data: []byte(`{"greet": "Привет, %s"}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSharedWordsAreComplete(t *testing.T) {
	for _, f := range load(t).Faults() {
		t.Error(f)
	}
}

func TestFaults(t *testing.T) {
	d := Dictionary{
		English: {lang: English, m: map[string]string{"a": "x", "b": "%d of %s", "c": "y"}},
		Russian: {lang: Russian, m: map[string]string{"a": " ", "b": "%s", "d": "z"}},
	}
	if got := d.Faults(); len(got) != 4 {
		t.Errorf("%d faults: %q, want 4", len(got), got)
	}
}

func TestFormats(t *testing.T) {
	d := load(t)
	en, ru := d[English], d[Russian]
	for _, test := range []struct{ got, want string }{
		{en.T("greet", "admin"), "Hello, admin"},
		{ru.T("greet", "admin"), "Привет, admin"},
		{en.T("no such key"), "no such key"},
		{en.Duration(-time.Second), "0 s"},
		{en.Duration(59 * time.Second), "59 s"},
		{en.Duration(61 * time.Second), "1 min"},
		{en.Duration(3*time.Hour + 12*time.Minute), "3 h 12 min"},
		{ru.Duration(50 * time.Hour), "2 д 2 ч"},
		{ru.Seconds(420 * time.Millisecond), "0,42 с"},
		{en.Bytes(0), "0 B"},
		{en.Bytes(1023), "1023 B"},
		{en.Bytes(1536), "1.5 KiB"},
		{ru.Bytes(1536 << 20), "1,5 ГиБ"},
		{en.Bytes(200 << 30), "200 GiB"},
		{ru.State("ready"), "работает"},
		{ru.Title("zone controller"), "контроллер зоны"},
		{ru.Title("something new"), "something new"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}

func TestDetail(t *testing.T) {
	d := load(t)
	for _, s := range []string{"exit status 1", "eth0: 192.0.2.7/24 by DHCP, no carrier", "not configured", "killed by PID 1: no answer"} {
		if got := d[English].Detail(s); got != s {
			t.Errorf("English: %q became %q", s, got)
		}
	}
	for s, want := range map[string]string{
		"exit status 1":                     "код завершения 1",
		"eth0: 192.0.2.7/24 by DHCP":        "eth0: 192.0.2.7/24 по DHCP",
		"not configured":                    "не настроена",
		"ready: zone standalone, 1 routers": "готова: зона standalone, 1 маршр.",
		"not configured: not in a zone yet": "не настроена: ещё не входит в зону",
		"something new":                     "something new",
	} {
		if got := d[Russian].Detail(s); got != want {
			t.Errorf("Russian: %q became %q, want %q", s, got, want)
		}
	}
}

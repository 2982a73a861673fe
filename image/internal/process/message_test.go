package process

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/internal/confine"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
)

func TestParseMessage(t *testing.T) {
	long := strings.Repeat("я", liveness.MaxText)
	for packet, want := range map[string]liveness.Message{
		`{"ready":true,"detail":"up"}`:                  {Ready: true, Detail: "up"},
		`{"seq":18446744073709551615}`:                  {Seq: 1<<64 - 1},
		`{}`:                                            {},
		`null`:                                          {},
		`{"new":[1,{}],"seq":1}`:                        {Seq: 1}, // a service of another release
		`{"seq":2,"error":"a\nb\u001b["}`:               {Seq: 2, Error: "a b ["},
		`{"detail":"\u2028\u0085\u202ex"}`:              {Detail: "   x"},
		`{"detail":"` + long + `"}`:                     {Detail: long[:liveness.MaxText]},
		`{"error":"` + strings.Repeat("<", 1000) + `"}`: {Error: strings.Repeat("<", liveness.MaxText/6)},
		"{\"detail\":\"\xff\"}":                         {Detail: "\ufffd"},
	} {
		if got, err := ParseMessage([]byte(packet)); err != nil || got != want {
			t.Errorf("%.60q: %+v, %v; want %+v", packet, got, err, want)
		}
	}
	for _, packet := range []string{"", "x", "[]", `"x"`, `{"seq":-1}`, `{"ready":1}`, `{}{}`, "\x00", `{"detail":"` + strings.Repeat("x", liveness.MaxMessage) + `"}`} {
		if got, err := ParseMessage([]byte(packet)); err == nil || got != (liveness.Message{}) || len(err.Error()) > 1000 {
			t.Errorf("%.60q: %+v, %v; want a short error alone", packet, got, err)
		}
	}
}

// What a service says is one printable line and takes a bounded place in the
// status.
func FuzzParseMessage(f *testing.F) {
	for _, s := range []string{"", "{}", `{"ready":true,"detail":"up"}`, `{"error":"\u0000\ud800\u2028"}`, `{"detail":"<<<<\"\\"}`, `{"seq":1e3}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := ParseMessage(packet)
		if err != nil {
			return
		}
		for _, s := range []string{m.Detail, m.Error} {
			b, err := json.Marshal(s)
			if err != nil || len(b)-2 > liveness.MaxText || !utf8.ValidString(s) {
				t.Fatalf("%q takes %d bytes in JSON, %v", s, len(b)-2, err)
			}
			if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Fatalf("%q does not print at %d", s, i)
			}
		}
		// A service that uses package liveness says the same again.
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseMessage(b); err != nil || again != m {
			t.Fatalf("%+v, then %+v, %v", m, again, err)
		}
	})
}

// The shipped services: what each is confined to.
func TestShippedSpecs(t *testing.T) {
	cfg, err := config.Load("../../../config.json")
	if err != nil {
		t.Fatal(err)
	}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		t.Run(s.Name, func(t *testing.T) {
			spec := Spec(s, cfg.Role)
			b, err := json.Marshal(spec)
			if err != nil {
				t.Fatal(err)
			}
			got, err := confine.Decode(strings.NewReader(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, spec) {
				t.Errorf("launch reads %+v, want %+v", got, spec)
			}
			if spec.UID != s.User.ID || spec.GID != s.User.ID || !slices.Equal(spec.Caps, s.Capabilities) || !slices.Equal(spec.Bind, s.Access.Bind) {
				t.Errorf("%+v is not what config.json says", spec)
			}
			if spec.Processes == 0 || spec.Files < 256 || spec.OOMScoreAdj <= 0 {
				t.Errorf("limits %d, %d, %d", spec.Processes, spec.Files, spec.OOMScoreAdj)
			}
			console, connects := slices.Contains(s.User.Groups, layout.ConsoleGroup), slices.Contains(s.User.Groups, layout.ConnectorGroup)
			if connects == (s.Name == "network") || slices.Contains(spec.Read, layout.ConnectorDir) != (connects && !console) {
				t.Errorf("in the connector's group: %v, reads %q", connects, spec.Read)
			}
			for path, want := range map[string]bool{
				layout.RunDir + "/" + s.Name: true, layout.PermDir + "/" + s.Name: true, "/dev/null": true,
				layout.CredentialDir: console, layout.CredentialRunDir: console,
				layout.ConnectorDir: console, layout.ConnectorRunDir: connects && !console,
				layout.PermDir: false, layout.RunDir: false, layout.PermLogDir: false, layout.PermMount: false, "/": false,
			} {
				if slices.Contains(spec.Write, path) != want {
					t.Errorf("writes %q, want %s: %v", spec.Write, path, want)
				}
			}
			if umask := map[bool]uint32{true: 0o007, false: 0o027}[console]; spec.Umask != umask || spec.ConnectAny != connects {
				t.Errorf("umask %#o, connects anywhere: %v; a console: %v", spec.Umask, spec.ConnectAny, console)
			}
			if slices.Contains(spec.Groups, layout.ControlGroup) != (s.Control != "") || slices.Contains(s.User.Groups, layout.ControlGroup) {
				t.Errorf("groups %v with the right %q", spec.Groups, s.Control)
			}
			if clock := s.Control == config.ControlClock; clock != (s.Name == "network") || clock != slices.Equal(spec.Sockets, []string{layout.ControlSocket}) {
				t.Errorf("sockets %q with the right %q", spec.Sockets, s.Control)
			}
			if slices.Contains(spec.Sockets, layout.RunDir) != console {
				t.Errorf("sockets %q of a console: %v", spec.Sockets, console)
			}
			if len(spec.Devices) != len(s.Terminals) {
				t.Errorf("devices %q, want %q", spec.Devices, s.Terminals)
			}
		})
	}
}

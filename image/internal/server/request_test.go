package server

import (
	"encoding/json"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/parley-meet/parley/image/control"
)

func lockThread() { runtime.LockOSThread() }

func TestParseRequest(t *testing.T) {
	for line, want := range map[string]control.Request{
		`{"op":"status"}`:                                             {Op: control.OpStatus},
		` {"op":"reboot"} ` + "\r\n":                                  {Op: control.OpReboot},
		`{"op":"logs","service":"a","lines":5,"follow":true}`:         {Op: control.OpLogs, Service: "a", Lines: 5, Follow: true},
		`{"op":"logs","lines":1048576}`:                               {Op: control.OpLogs, Lines: maxLines},
		`{"op":"start","service":"a"}`:                                {Op: control.OpStart, Service: "a"},
		`{"op":"repair","repair":"format!"}`:                          {Op: control.OpRepair, Repair: "format!"},
		`{"op":"role","role":"router","service":"","lines":0}`:        {Op: control.OpRole, Role: "router"},
		`{"op":"reset"}`:                                              {Op: control.OpReset},
		`{"op":"identity","identity":"copy"}`:                         {Op: control.OpIdentity, Identity: control.IdentityCopy},
		`{"op":"clock","clock":{"offset":-5}}`:                        {Op: control.OpClock, Clock: &control.Clock{Offset: -5}},
		`{"op":"clock","clock":{"offset":0,"step":true,"save":true}}`: {Op: control.OpClock, Clock: &control.Clock{Step: true, Save: true}},
		`{"op":"hostname","hostname":"a"}`:                            {Op: control.OpHostname, Hostname: "a"},
	} {
		if got, err := ParseRequest([]byte(line)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", line, got, err, want)
		}
	}
	for line, want := range map[string]string{
		"": "EOF", "null": "unknown operation", "[]": "cannot unmarshal", `"status"`: "cannot unmarshal", "{": "unexpected EOF",
		"{}": `unknown operation ""`, `{"op":"STATUS"}`: `unknown operation "STATUS"`, `{"op":"` + strings.Repeat("x", 1000) + `"}`: `unknown operation "xxx`,
		`{"op":"status","x":1}`: `unknown field "x"`, `{"op":"status","service":"a"}`: "status has fields that it does not take",
		`{"op":"reboot","lines":1}`: "fields", `{"op":"poweroff","follow":true}`: "fields", `{"op":"stop","service":"a","repair":"retry"}`: "fields",
		`{"op":"logs","role":"router"}`: "fields", `{"op":"logs","lines":-1}`: "lines -1: want 0 to 1048576", `{"op":"logs","lines":1048577}`: "lines 1048577",
		`{"op":"logs","lines":1.5}`: "cannot unmarshal", `{"op":"logs","lines":99999999999999999999}`: "cannot unmarshal",
		`{"op":"start"}`: "start of which service?", `{"op":"stop"}`: "stop of which", `{"op":"restart"}`: "restart of which",
		`{"op":"repair"}`: "which step?", `{"op":"role"}`: "which role?",
		`{"op":"reset","role":"router"}`: "fields", `{"op":"identity"}`: `identity "": want "same" or "copy"`, `{"op":"identity","identity":"both"}`: "want",
		`{"op":"clock"}`: "by how much", `{"op":"clock","clock":null}`: "by how much", `{"op":"clock","clock":{"offset":0,"x":1}}`: `unknown field "x"`,
		`{"op":"hostname"}`: "which hostname", `{"op":"status","clock":{"offset":0}}`: "fields",
		`{"op":"status"}{"op":"reboot"}`:                             "more than one value",
		`{"op":"status"}` + strings.Repeat(" ", 2000) + `{"op":"x"}`: "more than one value", // behind what the decoder reads at first
		`{"op":"status"} x`:                                          "more than one value",
		"{\"op\":\"status\"}\x00":                                    "more than one value",
	} {
		got, err := ParseRequest([]byte(line))
		if err == nil || !strings.Contains(err.Error(), want) || got != (control.Request{}) || len(err.Error()) > 300 {
			t.Errorf("%.60q: %+v, %v; want a short error about %q", line, got, err, want)
		}
	}
}

// Whatever a caller sends, it is refused or says one thing, and says the same
// when it is written again.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{
		"", "{}", "null", `{"op":"status"}`, `{"op":"logs","service":"a","lines":5,"follow":true}`, `{"op":"repair","repair":"retry"}`,
		`{"op":"role","role":"\ud800"}`, `{"OP":"status","op":"reboot"}`, `{"op":"status"} {"op":"reboot"}`, `{"op":"stop","service":"\u0000"}`, "\xff",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseRequest(line)
		if err != nil {
			if r != (control.Request{}) {
				t.Fatalf("%+v beside %v", r, err)
			}
			return
		}
		if r.Lines < 0 || r.Lines > maxLines {
			t.Fatalf("%+v", r)
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRequest(b)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v, then %+v, %v", r, again, err)
		}
	})
}

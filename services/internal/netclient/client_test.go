package netclient

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/fault"
)

// service answers each connection with one text, and remembers the requests.
func service(t *testing.T, answer string) (c *Client, asked chan string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	asked, done := make(chan string, 10), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			asked <- line
			fmt.Fprint(c, answer)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return &Client{path}, asked
}

func TestDo(t *testing.T) {
	c, asked := service(t, `{"status":{"config":{"hostname":"x"},"newer":1}}`+"\n")
	s, err := c.Do(t.Context(), Request{Op: OpRevert, ID: "7", By: "anna"})
	if err != nil || s.Config.Hostname != "x" {
		t.Errorf("%+v, %v", s, err)
	}
	if r, err := ParseRequest([]byte(<-asked)); err != nil || !reflect.DeepEqual(r, Request{Op: OpRevert, ID: "7", By: "anna"}) {
		t.Errorf("sent %+v, %v", r, err)
	}
}

func TestDoErrors(t *testing.T) {
	ask := func(answer string) error {
		t.Helper()
		c, _ := service(t, answer)
		_, err := c.Do(t.Context(), Request{Op: OpStatus})
		if err == nil {
			t.Fatalf("answer %.60q is no error", answer)
		}
		return err
	}
	want := fault.New("eth0.address", "ip-network", "x", 7.0)
	b, _ := json.Marshal(Response{Error: want.Error(), Faults: want})
	if got := fault.Of(ask(string(b) + "\n")); !reflect.DeepEqual(got, want) {
		t.Errorf("faults %+v, want %+v", got, want)
	}
	var refusal *Error
	if err := ask(`{"error":"no room","code":"read-only"}` + "\n"); !errors.As(err, &refusal) || refusal.Message != "no room" || refusal.Code != CodeReadOnly || refusal.Op != OpStatus {
		t.Errorf("%v", err)
	}
	for _, answer := range []string{"", `{"status":{}}`} { // the service ended; half a line
		if err := ask(answer); !errors.Is(err, ErrAway) {
			t.Errorf("%q: %v", answer, err)
		}
	}
	for answer, text := range map[string]string{
		"{}\n": "empty", "x\n": "invalid character", strings.Repeat("x", MaxLine+1): "more than",
		strings.Repeat("x", MaxLine) + "\n": "more than",
	} {
		if err := ask(answer); errors.Is(err, ErrAway) || !strings.Contains(err.Error(), text) {
			t.Errorf("%.20q: %v, want %q", answer, err, text)
		}
	}
	away := &Client{filepath.Join(t.TempDir(), "none")}
	if _, err := away.Do(t.Context(), Request{Op: OpStatus}); !errors.Is(err, ErrAway) {
		t.Errorf("no socket: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := away.Do(ctx, Request{Op: OpStatus}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrAway) {
		t.Errorf("given up: %v", err)
	}
	if _, err := away.Do(t.Context(), Request{Op: OpStatus, By: strings.Repeat("x", MaxLine)}); err == nil || errors.Is(err, ErrAway) {
		t.Errorf("too long: %v", err)
	}
}

func TestParseRequest(t *testing.T) {
	for _, s := range []string{
		`{"op":"status"}`, `{"op":"sync","by":"Анна from 10.0.0.7"}`, `{"op":"set","config":{"version":1},"hold":true}`,
		`{"op":"confirm","id":"a"}`, `{"op":"revert","id":"a"}`,
	} {
		if _, err := ParseRequest([]byte(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for s, want := range map[string]string{
		``:                                      "EOF",
		`{}`:                                    "unknown operation",
		`{"op":"format"}`:                       "unknown operation",
		`{"op":"status","x":1}`:                 "unknown field",
		`{"op":"status"} {}`:                    "more than one value",
		`{"op":"status","config":{}}`:           "belongs to set",
		`{"op":"set"}`:                          "belongs to set",
		`{"op":"set","config":{"x":1}}`:         "unknown field",
		`{"op":"set","config":{},"id":"a"}`:     "belongs to confirm",
		`{"op":"confirm"}`:                      "belongs to confirm",
		`{"op":"confirm","id":"a","hold":true}`: "takes no hold",
		`{"op":"sync","by":"a\u001b[2J"}`:       "cannot be shown",
		`{"op":"revert","id":"a\u0000"}`:        "cannot be shown",
		`{"op":"sync","by":"` + strings.Repeat("a", MaxBy+1) + `"}`:   "at most 256",
		`{"op":"revert","id":"` + strings.Repeat("a", MaxID+1) + `"}`: "at most 64",
		strings.Repeat(" ", MaxLine+1):                                "at most",
	} {
		if _, err := ParseRequest([]byte(s)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", s, err, want)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"op":"status"}`))
	f.Add([]byte(`{"op":"set","config":{"version":1,"eth0":{"mode":"static","address":"192.0.2.7/24"},"firewall":{"allow":{"console":["10.0.0.0/8"]}}},"hold":true,"by":"anna"}`))
	f.Add([]byte(`{"op":"confirm","id":"0123"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(r)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if again, err := ParseRequest(out); len(out) <= MaxLine && (err != nil || again.Op != r.Op || again.By != r.By || again.ID != r.ID) {
			t.Errorf("read again: %+v, %v", again, err)
		}
	})
}

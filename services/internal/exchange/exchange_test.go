package exchange

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type question struct {
	Word string `json:"word"`
}

type answer struct {
	Word  string `json:"word"`
	Error string `json:"error"`
}

// start serves on a socket on which an earlier process left a file.
func start(t *testing.T, reader uint32) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s := Server[question, answer]{Path: path, Readers: []uint32{reader + 7, reader}, Limit: 64, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Answer: func(_ context.Context, q question, err error) answer {
			if err != nil {
				return answer{Error: err.Error()}
			}
			return answer{Word: q.Word}
		}}
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := net.Dial("unix", path); err == nil {
			t.Error("somebody still answers")
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if i, err := os.Stat(path); err == nil && i.Mode() == os.ModeSocket|0o660 {
			return path
		}
		if time.Now().After(end) {
			t.Fatal("there is no socket of mode 0660")
		}
	}
}

func TestExchange(t *testing.T) {
	path := start(t, uint32(os.Getuid()))
	for range 3 {
		if a, err := Ask[answer](t.Context(), path, question{"hello"}, 64); err != nil || a != (answer{Word: "hello"}) {
			t.Errorf("%+v, %v", a, err)
		}
	}
	for name, q := range map[string]any{
		"another field":  map[string]string{"secret": "secret"},
		"another kind":   []string{"secret"},
		"longer than it": question{"secret" + strings.Repeat("x", 64)},
	} {
		// Of what is too long the rest is not read, and the kernel may tell that first.
		if a, err := Ask[answer](t.Context(), path, q, 64); err == nil && a.Error == "" || strings.Contains(a.Error+fmt.Sprint(err), "secret") {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if a, err := Ask[answer](t.Context(), path, question{strings.Repeat("x", 20)}, 16); err == nil || a != (answer{}) {
		t.Errorf("an answer that is too long: %+v, %v", a, err)
	}
	if _, err := Ask[answer](t.Context(), path+"-none", question{}, 64); err == nil {
		t.Error("nobody answered")
	}
}

// Another user learns nothing, though he may connect.
func TestOther(t *testing.T) {
	path := start(t, uint32(os.Getuid())+1)
	if a, err := Ask[answer](t.Context(), path, question{"hello"}, 64); err == nil || a != (answer{}) {
		t.Errorf("%+v, %v", a, err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
}

func TestAskEnds(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody accepts
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Ask[answer](ctx, l.Addr().String(), question{}, 64); err == nil {
		t.Error("an answer from nobody")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"word":"a"}`))
	f.Add([]byte(`{"word":1,"secret":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, qerr := Parse[question](b, 64)
		a, aerr := ParseAnswer[answer](b, 64)
		if qerr != nil && q != (question{}) || aerr != nil && a != (answer{}) || len(b) > 64 && (qerr == nil || aerr == nil) {
			t.Errorf("%+v with %v, %+v with %v", q, qerr, a, aerr)
		}
		for _, err := range []error{qerr, aerr} {
			if strings.Contains(string(b), "secret") && strings.Contains(fmt.Sprint(err), "secret") {
				t.Error(err)
			}
		}
	})
}

package network

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/controltest"
)

// The configured name, or that of the image, which a process that starts again
// finds in the file; what PID 1 refuses is asked for again, and only the newest
// wish counts.
func TestNaming(t *testing.T) {
	pid1 := controltest.New(t)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	file := filepath.Join(t.TempDir(), imageName)
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if n := newNaming(pid1.Client(), file, log); n.image != own {
		t.Errorf("the image is called %q, want %q", n.image, own)
	}
	if err := os.WriteFile(file, []byte("image"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNaming(pid1.Client(), file, log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	last := func(want string, count int) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			asked := pid1.Asked()
			if len(asked) >= count && asked[len(asked)-1].Hostname == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("asked %v, want at least %d times, at last %q", asked, count, want)
			}
		}
	}
	n.Set("first")
	n.Set("second") // before anybody looked: the first is void
	pid1.Refuse(control.OpHostname, &control.Error{Code: control.CodeFailed, Message: "not now"})
	go func() { done <- n.Run(ctx) }()
	last("second", 2) // and again
	pid1.Refuse(control.OpHostname, nil)
	last("second", 3)
	n.Set("")
	last("image", 4)
	for i, r := range pid1.Asked() {
		if r.Op != control.OpHostname || r.Hostname == "first" {
			t.Error(fmt.Sprint("request ", i, ": ", r))
		}
	}
}

package releases

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// Bytes that a restored portal does not have are named, and come back only as
// they were.
func TestPutBack(t *testing.T) {
	test := func(t *testing.T, blobs Blobs) {
		dir := output(t, "1.4.0")
		s := service(t, storetest.SQLite(t), blobs)
		r, err := s.ImportDir(t.Context(), operator, dir, "", Notes{EN: "new"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		const disk, paper = "parley-router.vmdk", "SOURCES.txt"
		for _, name := range []string{disk, paper} {
			f, _ := r.File(name)
			if err := blobs.Remove(t.Context(), f.Sum); err != nil {
				t.Fatal(err)
			}
		}
		missing, err := s.Missing(t.Context())
		if err != nil || !slices.Equal(missing["1.4.0"], []string{paper, disk}) || len(missing) != 1 {
			t.Errorf("%v %v", missing, err)
		}
		var lost Lost
		if err := s.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), "1.4.0", disk); !errors.As(err, &lost) || lost.Name != disk {
			t.Errorf("%v, want that %s is lost", err, disk)
		}
		var log bytes.Buffer
		s.log = slog.New(slog.NewTextHandler(&log, nil))
		if err := s.tellMissing(t.Context()); err != nil || !strings.Contains(log.String(), `version=1.4.0 files="[SOURCES.txt parley-router.vmdk]"`) {
			t.Errorf("%v %s", err, &log)
		}

		f, _ := r.File(disk)
		for size, text := range map[int64]string{3: "abc", f.Size: strings.Repeat("x", int(f.Size))} {
			if _, err := s.Put(t.Context(), "1.4.0", disk, size, strings.NewReader(text), nil); !strings.Contains(fault.Of(err).Error(), "release-differs") {
				t.Errorf("%d other bytes: %v", size, err)
			}
		}
		if _, err := s.ImportDir(t.Context(), operator, output(t, "1.4.0"), "", Notes{}, nil); !strings.Contains(fault.Of(err).Error(), "release-differs") {
			t.Errorf("another build: %v", err)
		}
		again, err := s.ImportDir(t.Context(), operator, dir, "", Notes{EN: "other"}, nil)
		if err != nil || !slices.Contains(again.Back, disk) || again.NotesEN != "new" || !again.Published.Equal(r.Published) {
			t.Errorf("%+v %v", again, err)
		}
		want, err := os.ReadFile(filepath.Join(dir, disk))
		if err != nil {
			t.Fatal(err)
		}
		if status, got, _ := download(t, s, "1.4.0", disk, nil); status != 200 || !bytes.Equal(got, want) {
			t.Errorf("%d, %d bytes", status, len(got))
		}
		if _, err := s.Begin(t.Context(), operator, "1.4.0", Notes{}); !fault.Of(err).Has("version") {
			t.Errorf("nothing is missing, and %v", err)
		}
	}
	t.Run("folder", func(t *testing.T) {
		f, err := NewFolder(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		test(t, f)
	})
	t.Run("object storage", func(t *testing.T) { test(t, bucket(t)) })
}

// A copy that broke off counts as none.
func TestCutOff(t *testing.T) {
	dir := t.TempDir()
	f, err := NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := service(t, storetest.SQLite(t), f)
	r, err := s.ImportDir(t.Context(), operator, output(t, "1.4.0"), "", Notes{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	file, _ := r.File("parley-router.ova")
	if err := os.Truncate(filepath.Join(dir, file.Sum), 1); err != nil {
		t.Fatal(err)
	}
	var lost Lost
	if err := s.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), "1.4.0", file.Name); !errors.As(err, &lost) {
		t.Errorf("%v, want that it is lost", err)
	}
	if m, err := s.Missing(t.Context()); err != nil || !slices.Equal(m["1.4.0"], []string{file.Name}) {
		t.Errorf("%v %v", m, err)
	}
}

package releases

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// Whoever sends another file while the version is published, at whichever moment,
// changes nothing that accounts see: what its manifest says, or nothing.
func TestPutWhilePublished(t *testing.T) {
	storetest.Each(t, func(t *testing.T, url string) {
		folder, err := NewFolder(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		s := service(t, url, folder)
		ctx := context.Background()
		for round := range 4 {
			version := fmt.Sprintf("1.%d.0", round)
			dir := output(t, version)
			if _, err := s.Begin(ctx, operator, version, Notes{}); err != nil {
				t.Fatal(err)
			}
			list, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range list {
				b, err := os.ReadFile(filepath.Join(dir, f.Name()))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Put(ctx, version, f.Name(), int64(len(b)), bytes.NewReader(b), nil); err != nil {
					t.Fatal(err)
				}
			}
			const name = "parley-router.vmdk"
			good, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					b := good
					if i%2 == 1 {
						b = []byte(fmt.Sprint("evil ", i))
					}
					_, _ = s.Put(ctx, version, name, int64(len(b)), bytes.NewReader(b), nil)
				})
				wg.Go(func() { _ = s.Publish(ctx, operator, version) })
			}
			wg.Wait()
			if _, err := s.Put(ctx, version, name, int64(len(good)), bytes.NewReader(good), nil); err == nil {
				_ = s.Publish(ctx, operator, version)
			}
			status, b, _ := download(t, s, version, name, nil)
			if status != 200 || sha256.Sum256(b) != sha256.Sum256(good) {
				t.Errorf("%s: status %d, %.20q", version, status, b)
			}
			if _, err := s.Put(ctx, version, name, 4, bytes.NewReader([]byte("evil")), nil); err == nil {
				t.Error("a published file was replaced")
			}
		}
	})
}

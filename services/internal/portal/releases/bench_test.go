package releases

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// 200 clients download a file of 40 MB at once, by TLS and without, from Parley
// and from the standard library's file server in the same run. Clients are in the
// same process: the memory and the processors' time are of both ends. One
// operation is all 200 downloads.
//
//	go test -run '^$' -bench Download -benchtime 1x ./services/internal/portal/releases
func BenchmarkDownload(b *testing.B) {
	const clients, size = 200, 40 << 20
	dir := b.TempDir()
	db, err := store.Open(b.Context(), "sqlite:"+filepath.Join(dir, "db"), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	blobs, err := NewFolder(filepath.Join(dir, "blobs"))
	if err != nil {
		b.Fatal(err)
	}
	s := New(db, v, blobs, nil)
	out := output(b, "1.4.0")
	// Its manifest would be another; what is measured is one file.
	if _, err := s.ImportDir(b.Context(), operator, out, "", Notes{}, nil); err != nil {
		b.Fatal(err)
	}
	r, err := s.Get(b.Context(), "1.4.0")
	if err != nil {
		b.Fatal(err)
	}
	f, _ := r.File("parley-controller.vmdk")
	if err := os.Truncate(filepath.Join(dir, "blobs", f.Sum), size); err != nil {
		b.Fatal(err)
	}
	for _, x := range []struct {
		name string
		tls  bool
		h    http.Handler
	}{
		{"parley/tls", true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := s.Serve(w, r, "1.4.0", f.Name); err != nil {
				http.Error(w, err.Error(), http.StatusNotFound)
			}
		})},
		{"fileserver/tls", true, http.FileServer(http.Dir(filepath.Join(dir, "blobs")))},
		{"parley/plain", false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := s.Serve(w, r, "1.4.0", f.Name); err != nil {
				http.Error(w, err.Error(), http.StatusNotFound)
			}
		})},
		{"fileserver/plain", false, http.FileServer(http.Dir(filepath.Join(dir, "blobs")))},
	} {
		b.Run(x.name, func(b *testing.B) {
			srv := httptest.NewUnstartedServer(x.h)
			if x.tls {
				srv.StartTLS()
			} else {
				srv.Start()
			}
			defer srv.Close()
			client := srv.Client()
			client.Transport.(*http.Transport).MaxIdleConnsPerHost = clients
			runtime.GC()
			peak, stop := peakMemory()
			before := cpu()
			for b.Loop() {
				var all sync.WaitGroup
				for range clients {
					all.Go(func() {
						resp, err := client.Get(srv.URL + "/" + f.Sum)
						if err != nil {
							b.Error(err)
							return
						}
						defer resp.Body.Close()
						if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
							b.Errorf("%d bytes: %v", n, err)
						}
					})
				}
				all.Wait()
			}
			close(stop)
			mb := float64(clients*size) / 1e6 * float64(b.N)
			b.ReportMetric(mb/b.Elapsed().Seconds(), "MB/s")
			b.ReportMetric((cpu()-before).Seconds()*1000/mb, "cpu-ms/MB")
			b.ReportMetric(float64(<-peak)/1e6, "peak-heap-MB")
		})
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // the arguments are right
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakMemory watches the heap until stop is closed.
func peakMemory() (peak chan uint64, stop chan struct{}) {
	peak, stop = make(chan uint64, 1), make(chan struct{})
	go func() {
		var most uint64
		t := time.NewTicker(20 * time.Millisecond)
		defer t.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse+m.StackInuse)
			select {
			case <-t.C:
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	return peak, stop
}

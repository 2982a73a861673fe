package edge

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Files is a certificate in files, read again when they change.
type Files struct {
	cert, key string
	log       *slog.Logger
	current   atomic.Pointer[tls.Certificate]
	mu        sync.Mutex
	seen      [2]state
}

type state struct {
	size int64
	at   time.Time
}

// LoadFiles reads a certificate chain and its key, PEM both.
func LoadFiles(cert, key string, log *slog.Logger) (*Files, error) {
	f := &Files{cert: cert, key: key, log: log}
	f.seen = f.look()
	return f, f.load()
}

func (f *Files) look() (out [2]state) {
	for i, p := range []string{f.cert, f.key} {
		if info, err := os.Stat(p); err == nil {
			out[i] = state{info.Size(), info.ModTime()}
		}
	}
	return out
}

func (f *Files) load() error {
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", f.cert, f.key, err)
	}
	f.current.Store(&c)
	return nil
}

// Certificate is for tls.Config.
func (f *Files) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.current.Load(), nil
}

// Look reads the files again when they have changed. What cannot be read leaves
// the certificate that was: a file may be there before the other.
func (f *Files) Look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.look()
	if now == f.seen {
		return
	}
	f.seen = now
	if err := f.load(); err != nil {
		f.log.Warn("the changed certificate is not used", "error", err)
		return
	}
	f.log.Info("the certificate was read again", "file", f.cert, "until", f.current.Load().Leaf.NotAfter)
}

package webconsole

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/throttle"
)

// Lines in the log that anybody may cause: after strangerBurst one each
// strangerEvery. More are left out and counted in the next, so that a flood
// neither pushes out who logged in nor fills the disk.
const (
	strangerBurst = 60
	strangerEvery = 10 * time.Second
)

// strangers logs what people do who have not logged in.
type strangers struct {
	log *slog.Logger

	bucket throttle.Bucket
	mu     sync.Mutex
	left   int // out
}

func newStrangers(log *slog.Logger) *strangers {
	return &strangers{log: log, bucket: throttle.Bucket{Size: strangerBurst, Every: strangerEvery}}
}

func (s *strangers) line(level slog.Level, text string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bucket.Take(time.Now()) > 0 {
		s.left++
		return
	}
	if s.left > 0 {
		args = append(args, "left-out-before", s.left)
		s.left = 0
	}
	s.log.Log(context.Background(), level, text, args...)
}

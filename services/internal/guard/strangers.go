package guard

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/throttle"
)

// Lines in the log that anybody may cause: after StrangerBurst one each
// StrangerEvery. More are left out and counted in the next, so that a flood
// neither pushes out who logged in nor fills the disk.
const (
	StrangerBurst = 60
	StrangerEvery = 10 * time.Second
)

// Strangers logs what people do who have not logged in. It is safe for concurrent
// use.
type Strangers struct {
	log *slog.Logger

	bucket throttle.Bucket
	mu     sync.Mutex
	left   int // out
}

// NewStrangers returns one that writes to log.
func NewStrangers(log *slog.Logger) *Strangers {
	return &Strangers{log: log, bucket: throttle.Bucket{Size: StrangerBurst, Every: StrangerEvery}}
}

// Line logs a line, if there is room.
func (s *Strangers) Line(level slog.Level, text string, args ...any) {
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

package hub

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// logger takes the server's lines. Its notices tell what each NATS server tells
// and are for nobody; what an appliance does wrong comes as an error or a warning,
// with words of its own in it, as often as it likes.
type logger struct {
	log *slog.Logger

	mu    sync.Mutex
	since time.Time
	lines int
}

// maxLines of the server's are logged each linesEvery.
const (
	maxLines   = 20
	linesEvery = time.Minute
)

func (l *logger) write(format string, v []any) {
	l.mu.Lock()
	if now := time.Now(); now.Sub(l.since) > linesEvery {
		l.since, l.lines = now, 0
	}
	l.lines++
	n := l.lines
	l.mu.Unlock()
	if n <= maxLines {
		l.log.Warn("bus: server", "says", fmt.Sprintf("%.300q", fmt.Sprintf(format, v...)), "last", n == maxLines)
	}
}

// The levels of server.Logger.
func (l *logger) Noticef(string, ...any)         {}
func (l *logger) Warnf(format string, v ...any)  { l.write(format, v) }
func (l *logger) Errorf(format string, v ...any) { l.write(format, v) }
func (l *logger) Debugf(string, ...any)          {}
func (l *logger) Tracef(string, ...any)          {}
func (l *logger) Fatalf(format string, v ...any) {
	l.log.Error("bus: server", "says", fmt.Sprintf(format, v...))
}

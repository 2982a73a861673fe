package terminal

import (
	"bytes"
	"context"
	"slices"
	"time"
)

// page shows what was printed, a screen at a time when it is longer than one:
// Space or Enter goes on, q or Ctrl-C ends. Any other key shows the rest and
// begins the next line, so that nobody who types ahead is held up.
func (s *session) page(ctx context.Context) error {
	_, height := s.size()
	rest := slices.Clone(s.out.Bytes())
	s.out.Reset()
	for room := height - 1; ; room = height - 1 {
		n := lineEnd(rest, room)
		s.out.Write(rest[:n])
		if rest = rest[n:]; len(rest) == 0 {
			return nil
		}
		s.printf("%s", s.words().T("more"))
		key, err := s.key(ctx, idleLogout)
		if err != nil {
			return err
		}
		s.printf("\r\x1b[K")
		switch key {
		case ' ', '\r', '\n':
		case 'q', 'Q', 'C' - '@', 'D' - '@':
			return nil
		default:
			s.pending = append([]byte(string(key)), s.pending...)
			s.out.Write(rest)
			return nil
		}
	}
}

// lineEnd is where the first n lines of b end.
func lineEnd(b []byte, n int) int {
	if bytes.Count(b, []byte("\n")) <= n {
		return len(b)
	}
	end := 0
	for range n {
		end += bytes.IndexByte(b[end:], '\n') + 1
	}
	return end
}

// key reads one key.
func (s *session) key(ctx context.Context, idle time.Duration) (rune, error) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	heart := time.NewTicker(5 * time.Second)
	defer heart.Stop()
	if err := s.flush(); err != nil {
		return 0, err
	}
	for {
		for len(s.pending) > 0 {
			b := s.pending[0]
			s.pending = s.pending[1:]
			if r, ok := s.ed.Key(b); ok {
				return r, nil
			}
		}
		select {
		case chunk, ok := <-s.in:
			if !ok {
				return 0, s.gone()
			}
			s.pending = chunk
		case <-heart.C:
			s.c.beat(s.name)
		case <-timer.C:
			return 0, errIdle
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

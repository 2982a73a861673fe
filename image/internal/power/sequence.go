package power

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Step is a part of an orderly shutdown.
type Step struct {
	Name  string
	Limit time.Duration
	Do    func(ctx context.Context) error
}

// ErrLate is the error of a step that was given up.
var ErrLate = errors.New("took too long")

// Run carries out the steps in order. A step that fails or takes longer than its
// limit is logged and left behind: the shutdown goes on, because whoever asked
// for it is waiting, and the steps after it make the end as clean as it can be.
// It reports whether every step succeeded.
func Run(steps []Step, log *slog.Logger) bool {
	clean := true
	for _, s := range steps {
		start := time.Now()
		err := bounded(s)
		took := time.Since(start).Round(time.Millisecond)
		if err != nil {
			clean = false
			log.Error("shutdown", "step", s.Name, "took", took, "error", err)
			continue
		}
		log.Info("shutdown", "step", s.Name, "took", took)
	}
	return clean
}

func bounded(s Step) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.Limit)
	defer cancel()
	done := make(chan error, 1) // a step that comes back late is not waited for
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("panic: %v", r)
			}
		}()
		done <- s.Do(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// It may have come back because its context ended: then it knows better.
	select {
	case err := <-done:
		if err != nil {
			return err
		}
		return nil
	case <-time.After(100 * time.Millisecond):
		return fmt.Errorf("%w: more than %v", ErrLate, s.Limit)
	}
}

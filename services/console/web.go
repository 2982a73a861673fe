package main

import (
	"context"
	"log/slog"

	"github.com/parley-meet/parley/image/liveness"
)

func runWeb(ctx context.Context, log *slog.Logger, line *liveness.Line, listen string) error {
	return nil
}

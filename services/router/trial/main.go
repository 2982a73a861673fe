// Command trial runs the multimedia router by itself, without an appliance and a
// zone: for measurements, with tickets that command load signs.
//
//	load -work init -key FOLDER
//	trial -config FILE
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/parley-meet/parley/services/internal/mmr"
)

func main() { os.Exit(run()) }

func run() int {
	file := flag.String("config", "", "`file` of the configuration, JSON")
	flag.Parse()
	if *file == "" {
		fmt.Fprintln(os.Stderr, "trial: -config is missing; its fields are those of mmr.Config")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *file); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "trial:", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, file string) error {
	cfg, err := mmr.Read(file)
	if err != nil {
		return err
	}
	s, err := mmr.New(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

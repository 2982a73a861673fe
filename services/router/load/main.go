// Command load joins a router as many participants: to certify what a machine
// carries, to measure it, and to compare it with others.
//
//	load -url https://192.0.2.1 -trial LINK            how many participants it carries
//	load -work w200 -url … -ticket-key FILE            200 participants, measured
//	load -work fanout -url … -ticket-key FILE          one sends, many receive
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/parley-meet/parley/services/internal/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "load:", hint(err))
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	level := slog.LevelError
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	switch o.work {
	case "init":
		return load.Trial(o.ticketKey, o.local)
	case "compare":
		rounds, err := load.ReadRounds(os.Stdin)
		if err != nil {
			return err
		}
		fmt.Fprint(os.Stderr, rounds.Table())
		c, err := rounds.Compare()
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(c)
	case "fanout":
		return fanout(ctx, o, log)
	case "w200":
		return meeting(ctx, o, log)
	}
	return certify(ctx, o, log)
}

// fanout is Work A.
func fanout(ctx context.Context, o *options, log *slog.Logger) error {
	target, err := o.target()
	if err != nil {
		return err
	}
	local, err := o.here()
	if err != nil {
		return err
	}
	f := load.Fanout{
		Target: target, Local: local, Subscribers: o.participants(100), FullEvery: fullEvery, Lose: lose,
		Video: load.Video{Frames: 30, Packets: 10, Size: 1150, Width: 1280, Height: 720},
		Warm:  o.warm, Measure: o.measure, PID: o.pid, Log: log, Progress: progress(o.words()),
		Counters: load.ReadCounters(ctx, o.counters),
	}
	r, err := f.Run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// Shares of subscribers that are full ones, and of their packets that get lost.
const (
	fullEvery = 10
	lose      = 200
	cameras   = 25 // three pages of eight, and the one who looks
	turnEvery = 10 * time.Second
	joinsOnce = 4
)

func (o *options) crowd(log *slog.Logger) (*load.Crowd, error) {
	door, err := o.door()
	if err != nil {
		return nil, err
	}
	local, err := o.here()
	if err != nil {
		return nil, err
	}
	return &load.Crowd{
		Door: door, Local: local, Cameras: cameras, FullEvery: fullEvery, Lose: lose, TurnEvery: turnEvery,
		AtOnce: joinsOnce, Log: log, Progress: progress(o.words()),
	}, nil
}

// meeting is Work B.
func meeting(ctx context.Context, o *options, log *slog.Logger) error {
	c, err := o.crowd(log)
	if err != nil {
		return err
	}
	defer c.Close()
	counters := load.ReadCounters(ctx, o.counters)
	r, err := load.Meeting(ctx, c, o.participants(200), o.warm, o.measure, o.pid, counters)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

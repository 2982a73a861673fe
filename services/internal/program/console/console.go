// Package console is the program of the administrator's console. It runs as two
// processes under two users, so that neither takes the other along:
//
//	console -mode serial    the serial line and the screen
//	console -mode web       https on port 5480
package console

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/parley-meet/parley/image/liveness"
)

// Main runs the program with its arguments and returns the exit code.
func Main(args []string) int {
	fs := flag.NewFlagSet("console", flag.ExitOnError)
	mode := fs.String("mode", "", "serial or web")
	terminals := fs.String("terminals", "ttyS0,tty1", "serial: names in /dev, separated by commas")
	listen := fs.String("listen", ":5480", "web: address to listen on")
	fs.Parse(args)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	line, err := liveness.Open()
	if err == nil {
		switch {
		case fs.NArg() > 0:
			err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
		case *mode == "serial":
			err = runSerial(ctx, log, line, strings.Split(*terminals, ","), *listen)
		case *mode == "web":
			err = runWeb(ctx, log, line, *listen)
		default:
			err = fmt.Errorf("-mode %q: want serial or web", *mode)
		}
	}
	if err != nil {
		log.Error("console", "mode", *mode, "error", err)
		return 1
	}
	return 0
}

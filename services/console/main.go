// Command console is the administrator's console. It runs as two processes
// under two users, so that neither takes the other along:
//
//	console -mode serial    the serial line and the screen
//	console -mode web       https on port 5480
package main

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

func main() {
	mode := flag.String("mode", "", "serial or web")
	terminals := flag.String("terminals", "ttyS0,tty1", "serial: names in /dev, separated by commas")
	listen := flag.String("listen", ":5480", "web: address to listen on")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	line, err := liveness.Open()
	if err == nil {
		switch {
		case flag.NArg() > 0:
			err = fmt.Errorf("unexpected argument %q", flag.Arg(0))
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
		os.Exit(1)
	}
}

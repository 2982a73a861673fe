// Command load joins a router as many participants: to measure it, to compare it
// with others, and to certify what a machine carries.
//
//	load -work fanout -subscribers 100 -target https://192.0.2.1 -key FILE …
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/ticket"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

type options struct {
	work, target, livekit, key, zone, issuer, meeting, ca, local string
	subscribers, pid                                             int
	warm, measure                                                time.Duration
	verbose                                                      bool
}

func run(ctx context.Context) error {
	var o options
	flag.StringVar(&o.work, "work", "fanout", "`what` to do: fanout, init (make a trial's key and certificate in the folder -key) or compare (rounds of a benchmark on standard input)")
	flag.StringVar(&o.target, "target", "", "`URL` of the router")
	flag.StringVar(&o.livekit, "livekit", "", "`KEY:SECRET` of LiveKit, if that is the target")
	flag.StringVar(&o.key, "key", "", "`file` of the key that signs tickets, PEM (PKCS #8, Ed25519)")
	flag.StringVar(&o.zone, "zone", "trial", "`id` of the zone")
	flag.StringVar(&o.issuer, "issuer", "https://load.invalid", "`URL` that issues tickets")
	flag.StringVar(&o.meeting, "meeting", "load", "`id` of the meeting")
	flag.StringVar(&o.ca, "ca", "", "`file` of the certificate to trust, PEM")
	flag.StringVar(&o.local, "local", "127.0.0.1", "`address` of this machine that participants use")
	flag.IntVar(&o.subscribers, "subscribers", 100, "`number` of them")
	flag.IntVar(&o.pid, "pid", 0, "`process` of the server, if it runs on this machine: its CPU time is measured")
	flag.DurationVar(&o.warm, "warm", 10*time.Second, "`time` before it is measured")
	flag.DurationVar(&o.measure, "measure", 20*time.Second, "`time` of measuring")
	flag.BoolVar(&o.verbose, "v", false, "say more")
	flag.Parse()
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	switch o.work {
	case "init":
		return load.Trial(o.key, o.local)
	case "compare":
		c, err := load.Compare(os.Stdin)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(c)
	}
	target, err := o.server()
	if err != nil {
		return err
	}
	local, err := netip.ParseAddr(o.local)
	if err != nil {
		return fmt.Errorf("-local: %w", err)
	}
	if o.work != "fanout" {
		return fmt.Errorf("-work %q: there are fanout, init and compare", o.work)
	}
	f := load.Fanout{
		Target: target, Local: local, Subscribers: o.subscribers, FullEvery: 10,
		Video: load.Video{Frames: 30, Packets: 10, Size: 1150, Width: 1280, Height: 720},
		Warm:  o.warm, Measure: o.measure, PID: o.pid, Log: log, Progress: progress(),
	}
	r, err := f.Run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// server is the target.
func (o *options) server() (load.Target, error) {
	if o.target == "" {
		return nil, errors.New("-target is missing: the URL of the router")
	}
	client := &http.Client{Timeout: time.Minute}
	if o.ca != "" {
		b, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("-ca %s: no certificate in it", o.ca)
		}
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 16}
	}
	if o.livekit != "" {
		return load.ParseLiveKit(o.target, o.livekit, o.meeting, client)
	}
	b, err := os.ReadFile(o.key)
	if err != nil {
		return nil, fmt.Errorf("-key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("-key %s: no PEM in it", o.key)
	}
	key, err := load.ParseKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("-key %s: %w", o.key, err)
	}
	return &load.Parley{Base: o.target, HTTP: client, Key: ticket.Key{ID: load.KeyID, Private: key}, Issuer: o.issuer, Zone: o.zone, Meeting: o.meeting}, nil
}

// progress is a bar on a terminal, and lines otherwise.
func progress() func(done, of int, what string) {
	bar := term.IsTerminal(int(os.Stderr.Fd()))
	return func(done, of int, what string) {
		switch {
		case bar:
			fmt.Fprintf(os.Stderr, "\r%d of %d %s ", done, of, what)
			if done == of {
				fmt.Fprintln(os.Stderr)
			}
		case done%50 == 0 || done == of:
			fmt.Fprintf(os.Stderr, "%d of %d %s\n", done, of, what)
		}
	}
}

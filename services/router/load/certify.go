package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/signal"
)

// firstTry participants come at first.
const firstTry = 20

// certify finds how many participants a router carries.
func certify(ctx context.Context, o *options, log *slog.Logger) error {
	c, err := o.crowd(log)
	if err != nil {
		return err
	}
	w := o.words()
	cert := &load.Certificate{
		Crowd: c, First: min(firstTry, o.most), Most: o.most, Warm: o.warm, Measure: o.measure, PID: o.pid,
		Counters: load.ReadCounters(ctx, o.counters),
		Step: func(n int, r load.Result, why load.Limit) {
			fmt.Fprintln(os.Stderr, load.TellStep(w, n, r, why))
		},
	}
	v, err := cert.Run(ctx)
	if err != nil {
		return err
	}
	fmt.Print(v.Tell(w))
	return nil
}

// hint adds to an error what the one who reads it can do.
func hint(err error) error {
	var (
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		verify   *tls.CertificateVerificationError
		resolve  *net.DNSError
		dial     *net.OpError
		closed   load.ErrClosed
		what     string
		isClosed = errors.As(err, &closed)
	)
	switch {
	case isClosed && signal.Code(closed) == signal.BadTicket:
		what = "the ticket is none of this zone's, or five minutes old: with a router by itself, -ticket-key, -zone and -issuer must be those that it was started with"
	case isClosed && signal.Code(closed) == signal.Used:
		what = "each ticket is good once: take fresh ones"
	case isClosed && signal.Code(closed) == signal.Full:
		what = "the router is set to take no more participants; the limit is in its settings"
	case errors.As(err, &unknown):
		what = "its certificate is signed by itself: give its file with -ca"
	case errors.As(err, &name), errors.As(err, &verify):
		what = "use the name or address in -url that the certificate is for"
	case errors.As(err, &resolve):
		what = "no such name: is -url right?"
	case errors.As(err, &dial):
		what = "does the appliance run, and does a firewall let TCP 443 through?"
	case strings.Contains(err.Error(), "connection in time"), strings.Contains(err.Error(), "connection failed"):
		what = "signalling works and media does not: does a firewall let UDP 8801 through, from this machine to the router?"
	}
	if what == "" {
		return err
	}
	return fmt.Errorf("%w\n  hint: %s", err, what)
}

// barWidth is that of the bar on a terminal, characters.
const barWidth = 30

// progress is a bar on a terminal, and lines otherwise.
func progress(w *look.Words) func(done, of int, what string) {
	bar := term.IsTerminal(int(os.Stderr.Fd()))
	return func(done, of int, what string) {
		what = w.T("load." + what)
		switch {
		case bar:
			n := barWidth * done / max(of, 1)
			fmt.Fprintf(os.Stderr, "\r[%s%s] %d/%d %s ", strings.Repeat("#", n), strings.Repeat(".", barWidth-n), done, of, what)
			if done == of {
				fmt.Fprintln(os.Stderr)
			}
		case done%50 == 0 || done == of:
			fmt.Fprintf(os.Stderr, "%d/%d %s\n", done, of, what)
		}
	}
}

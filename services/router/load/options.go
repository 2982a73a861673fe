package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/look"
)

// options are the flags.
type options struct {
	work, url, livekit, ticketKey, tickets, trial, zone, issuer, meeting, ca, local, counters, language string
	count, most, pid                                                                                    int
	warm, measure                                                                                       time.Duration
	verbose                                                                                             bool
}

const usage = `usage: load -url URL (-trial LINK | -ticket-key FILE | -tickets FILE) [flags]

It joins a meeting as more and more participants, each with a microphone, a
picture of 720p, eight small ones and three voices to receive, and tells how many
the machine carries. Run it on another machine than the router's: it needs as much
of a processor itself.

Who takes part needs a ticket:
  -trial LINK        the link of a trial meeting that the console makes while the
                     appliance has no portal; it gives as many tickets as are needed
  -ticket-key FILE   the key with which a router by itself was started (command
                     trial; "load -work init -ticket-key FOLDER" makes one)
  -tickets FILE      tickets, one a line; each is good for five minutes and once

`

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(f.Output(), usage); f.PrintDefaults() }
	f.StringVar(&o.work, "work", "certify", "`what` to do: certify, w200 (Work B: 200 participants), fanout (Work A: one sends, many receive), init (make a router's trial key and certificate in the folder -ticket-key) or compare (rounds of a benchmark on standard input)")
	f.StringVar(&o.url, "url", "", "`URL` of the controller, or of a router by itself")
	f.StringVar(&o.trial, "trial", "", "`LINK` of a trial meeting")
	f.StringVar(&o.ticketKey, "ticket-key", "", "`file` of the key that signs tickets, PEM (PKCS #8, Ed25519)")
	f.StringVar(&o.tickets, "tickets", "", "`file` of tickets, one a line")
	f.StringVar(&o.ca, "ca", "", "`file` of the certificate to trust, PEM; for those that no authority signed")
	f.StringVar(&o.local, "local", "", "`address` of this machine that participants use; it is found by itself")
	f.StringVar(&o.language, "lang", "", "`language` of the verdict, en or ru; that of the system")
	f.IntVar(&o.count, "n", 0, "`number` of participants of w200 and fanout (200, 100)")
	f.IntVar(&o.most, "most", 1000, "`number` of participants that are enough to certify")
	f.DurationVar(&o.warm, "warm", 10*time.Second, "`time` before each measurement")
	f.DurationVar(&o.measure, "measure", 20*time.Second, "`time` of each measurement")
	f.IntVar(&o.pid, "pid", 0, "`process` of the router, if it runs on this machine: its CPU time is measured")
	f.StringVar(&o.counters, "counters", "", "`address` of the debug port of a router by itself")
	f.StringVar(&o.zone, "zone", "trial", "`id` of the zone, with -ticket-key")
	f.StringVar(&o.issuer, "issuer", "https://load.invalid", "`URL` that issues tickets, with -ticket-key")
	f.StringVar(&o.meeting, "meeting", "load", "`id` of the meeting, with -ticket-key")
	f.StringVar(&o.livekit, "livekit", "", "`KEY:SECRET` of LiveKit, if fanout is to measure that")
	f.BoolVar(&o.verbose, "v", false, "say more")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag (load -h lists them)", f.Arg(0))
	}
	return o, o.check()
}

func (o *options) check() error {
	switch o.work {
	case "compare":
		return nil
	case "init":
		if o.ticketKey == "" {
			return errors.New("-ticket-key is missing: the folder to write to")
		}
		if o.local == "" {
			o.local = "127.0.0.1"
		}
		return nil
	case "certify", "w200", "fanout":
	default:
		return fmt.Errorf("-work %q: there are certify, w200, fanout, init and compare", o.work)
	}
	if o.trial != "" && o.url == "" {
		if u, err := url.Parse(o.trial); err == nil && u.Host != "" {
			o.url = u.Scheme + "://" + u.Host
		}
	}
	u, err := url.Parse(o.url)
	switch {
	case o.url == "":
		return errors.New("-url is missing: where the controller or router is, as https://192.0.2.1")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("-url %q: want https://HOST or https://HOST:PORT", o.url)
	}
	ways := 0
	for _, s := range []string{o.trial, o.ticketKey, o.tickets, o.livekit} {
		if s != "" {
			ways++
		}
	}
	if ways != 1 {
		return errors.New("one of -trial, -ticket-key and -tickets says where tickets come from (load -h explains them)")
	}
	if o.work == "fanout" && o.trial+o.tickets != "" {
		return errors.New("-work fanout needs -ticket-key or -livekit")
	}
	if o.warm < 0 || o.measure <= 0 || o.count < 0 || o.most < 1 {
		return errors.New("-warm, -measure, -n and -most: want more than nothing")
	}
	if o.language != "" && o.language != "en" && o.language != "ru" {
		return fmt.Errorf("-lang %q: there are en and ru", o.language)
	}
	return nil
}

func (o *options) participants(usual int) int {
	if o.count > 0 {
		return o.count
	}
	return usual
}

// words are those of the language that was asked for, or of the system.
func (o *options) words() *look.Words {
	l := o.language
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if l == "" {
			l = os.Getenv(name)
		}
	}
	if strings.HasPrefix(l, "ru") {
		return load.Words[look.Russian]
	}
	return load.Words[look.English]
}

// client trusts what -ca says.
func (o *options) client() (*http.Client, error) {
	c, err := load.NewClient(o.ca)
	if err != nil {
		return nil, fmt.Errorf("-ca: %w", err)
	}
	return c, nil
}

// here is the address with which this machine reaches the server.
func (o *options) here() (netip.Addr, error) {
	if o.local != "" {
		a, err := netip.ParseAddr(o.local)
		if err != nil {
			return a, fmt.Errorf("-local: %w", err)
		}
		return a, nil
	}
	u, err := url.Parse(o.url)
	if err != nil {
		return netip.Addr{}, err
	}
	// A UDP socket that is connected sends nothing, and has the address of the route.
	c, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), "9"))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("-url: %w", err)
	}
	defer c.Close()
	a, err := netip.ParseAddrPort(c.LocalAddr().String())
	return a.Addr().Unmap().WithZone(""), err
}

// key signs tickets.
func (o *options) key(client *http.Client) (*load.Parley, error) {
	key, err := load.ReadKey(o.ticketKey)
	if err != nil {
		return nil, fmt.Errorf("-ticket-key: %w", err)
	}
	return &load.Parley{Base: o.url, HTTP: client, Key: key, Issuer: o.issuer, Zone: o.zone, Meeting: o.meeting}, nil
}

// target is what is put under Work A.
func (o *options) target() (load.Target, error) {
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	if o.livekit != "" {
		return load.ParseLiveKit(o.url, o.livekit, o.meeting, client)
	}
	return o.key(client)
}

// door is where the participants of a meeting come in.
func (o *options) door() (load.Door, error) {
	client, err := o.client()
	if err != nil {
		return load.Door{}, err
	}
	d := load.Door{URL: o.url, HTTP: client}
	switch {
	case o.trial != "":
		d.Ticket, err = load.TrialTickets(client, o.trial)
	case o.tickets != "":
		b, err := os.ReadFile(o.tickets)
		if err != nil {
			return d, fmt.Errorf("-tickets: %w", err)
		}
		d.Ticket = load.ListedTickets(string(b))
	case o.ticketKey != "":
		p, err := o.key(client)
		if err != nil {
			return d, err
		}
		d.Ticket = p.Tickets
	default:
		return d, errors.New("-livekit is for -work fanout")
	}
	return d, err
}

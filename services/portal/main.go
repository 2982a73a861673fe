// Command portal is the cloud side of Parley: accounts, downloads, enrolment and
// monitoring of appliances, meetings' metadata.
//
//	go run ./services/portal
//
// starts it with nothing else installed. It is one static program with a
// database in a file, or PostgreSQL when several instances share it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	_ "golang.org/x/crypto/x509roots/fallback" // where the system has none
	"golang.org/x/term"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/portal/server"
)

const usage = `Usage: portal [serve] [FLAGS]            run the portal
       portal operator add EMAIL [FLAGS] make somebody an operator
       portal publish FOLDER [FLAGS]     let accounts download what mkovf wrote
       portal backup FILE [FLAGS]        write a backup, also while it runs
       portal restore FILE [FLAGS]       into an empty database of either kind
       portal install [-print]           write a systemd unit
       portal version

Settings come from the flags, then from the file of -config, which may have:
dir, url, listen, database, keyFile, metricsListen, jsonLog, logRequests,
acmePrivate, tls {mode, cert, key, acmeDirectory, acmeEmail, acmeRoots} and, for
releases in object storage, s3 {endpoint, bucket, region, key, secretFile, plain}.

`

func main() { os.Exit(start(os.Args[1:], os.Stdout, os.Stderr)) }

// errUsage means that the command line is wrong, and that this was told.
var errUsage = errors.New("usage")

// start is main without the exit: 0, 1 when something went wrong, 2 for a wrong
// command line.
func start(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, args, stdout, stderr); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	default:
		fmt.Fprintln(stderr, "portal:", err)
		return 1
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	command := "serve"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	wrong := func(format string, a ...any) error {
		fmt.Fprintf(stderr, "portal: "+format+"\nportal -h tells more.\n", a...)
		return errUsage
	}
	operands := map[string]int{"serve": 0, "operator": 2, "publish": 1, "backup": 1, "restore": 1, "install": 0, "version": 0}
	n, ok := operands[command]
	if !ok {
		return wrong("unknown command %q", command)
	}
	var words []string
	for len(words) < n && len(args) > 0 && (args[0] == "" || args[0][0] != '-') {
		words, args = append(words, args[0]), args[1:]
	}
	cfg, rel, print, err := settings(args, stderr)
	if err != nil {
		return err
	}
	if len(words) < n || command == "operator" && words[0] != "add" {
		return wrong("%s: want %s", command, map[string]string{"operator": "operator add EMAIL", "publish": "a FOLDER", "backup": "a FILE", "restore": "a FILE"}[command])
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if cfg.JSON {
		log = slog.New(slog.NewJSONHandler(stderr, nil))
	}
	switch command {
	case "operator":
		return server.AddOperator(ctx, cfg, words[1], stdout, log)
	case "publish":
		return server.Publish(ctx, cfg, words[0], rel.version, rel.Notes, outOf(stdout), log)
	case "backup":
		return server.Backup(ctx, cfg, words[0], stdout, log)
	case "restore":
		return server.Restore(ctx, cfg, words[0], stdout, log)
	case "install":
		return install(print, stdout)
	case "version":
		_, err := fmt.Fprintln(stdout, "Parley portal", version())
		return err
	}
	if len(cfg.Appliance) > 0 {
		return newAppliance(cfg, log).run(ctx)
	}
	return server.Serve(ctx, cfg, outOf(stdout), log)
}

func outOf(w io.Writer) server.Out {
	f, ok := w.(*os.File)
	return server.Out{Writer: w, Terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// release is what flags say of one.
type release struct {
	version string
	server.Notes
}

// settings reads the flags, over the file that -config names.
func settings(args []string, stderr io.Writer) (cfg server.Config, rel release, print bool, err error) {
	cfg = server.Defaults()
	file := ""
	fs := flag.NewFlagSet("portal", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&file, "config", "", "settings, a `file` of JSON")
	fs.StringVar(&cfg.Dir, "dir", cfg.Dir, "`folder` of what the portal keeps")
	fs.StringVar(&cfg.URL, "url", cfg.URL, "`address` that people and appliances use, https://HOST")
	fs.StringVar(&cfg.Listen, "listen", cfg.Listen, "`address` to listen on")
	fs.StringVar(&cfg.Database, "database", cfg.Database, "`URL`, sqlite:PATH or postgres://… (default portal.db in the folder)")
	fs.StringVar(&cfg.KeyFile, "key-file", cfg.KeyFile, "`file` of the master key (default made in the folder)")
	fs.StringVar(&cfg.TLS.Mode, "tls", cfg.TLS.Mode, "certificate: self, files or acme, a `mode`")
	fs.StringVar(&cfg.TLS.Cert, "cert", cfg.TLS.Cert, "certificate chain, a `file` of PEM")
	fs.StringVar(&cfg.TLS.Key, "key", cfg.TLS.Key, "the certificate's key, a `file` of PEM")
	fs.StringVar(&cfg.Metrics, "metrics-listen", cfg.Metrics, "`address` of figures and health without protection; empty is none")
	fs.BoolVar(&cfg.JSON, "json-log", cfg.JSON, "log lines of JSON")
	fs.BoolVar(&cfg.Requests, "log-requests", cfg.Requests, "log each request, without queries")
	fs.StringVar(&rel.version, "version", "", "of publish: the `version`, when the files name none or to be sure")
	fs.StringVar(&rel.EN, "notes-en", "", "of publish: what is new in English, a `file` of text")
	fs.StringVar(&rel.RU, "notes-ru", "", "of publish: what is new in Russian, a `file` of text")
	fs.Func("appliance", "run as a service of the appliance, whose consoles' users are in the `list`", func(list string) error {
		cfg.Appliance = nil // the flags are read twice
		for _, id := range strings.Split(list, ",") {
			n, err := strconv.ParseUint(id, 10, 31)
			if err != nil || n == 0 {
				return fmt.Errorf("%q is no user's number", id)
			}
			cfg.Appliance = append(cfg.Appliance, uint32(n))
		}
		return nil
	})
	fs.BoolVar(&print, "print", false, "of install: show the unit and write nothing")
	fs.Usage = func() {
		fmt.Fprint(stderr, usage)
		fs.PrintDefaults()
	}
	parse := func() error {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return err
			}
			return errUsage
		}
		if fs.NArg() > 0 {
			fmt.Fprintf(stderr, "portal: unexpected argument %q\n", fs.Arg(0))
			return errUsage
		}
		return nil
	}
	if err := parse(); err != nil || file == "" {
		cfg.Version = version()
		return cfg, rel, print, err
	}
	// The file lies under the flags: it is read between two looks at them.
	cfg = server.Defaults()
	if err := cfg.ReadFile(file); err != nil {
		return cfg, rel, print, err
	}
	err = parse()
	cfg.Version = version()
	return cfg, rel, print, err
}

// install writes the unit, and says what comes next.
func install(print bool, out io.Writer) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	unit := server.Unit(program)
	if print {
		_, err := io.WriteString(out, unit)
		return err
	}
	if err := durable.WriteFile(server.UnitPath, []byte(unit), 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, `%s is written. Before you start it:
  1. the master key, 32 random bytes in hexadecimal, that only root can read:
       (umask 077; openssl rand -hex 32 >%s)
     Keep a copy elsewhere, apart from backups.
  2. settings in %s, at least
       {"url": "https://portal.example.com", "listen": ":443"}
  3. systemctl daemon-reload && systemctl enable --now parley-portal
The first operator's link is then in /var/lib/parley-portal/setup-link.
`, server.UnitPath, server.KeyPath, server.ConfPath)
	return err
}

// version is the one that the Go toolchain stamped.
func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(unknown)"
}

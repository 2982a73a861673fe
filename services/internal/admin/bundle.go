package admin

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/bundle"
	"github.com/parley-meet/parley/services/internal/diagnose"
)

// Bundle writes the support bundle, a .tar.gz without secrets. Who may only look
// is refused: it has every log.
func (a *Admin) Bundle(ctx context.Context, who Actor, w io.Writer) error {
	if who.Authority != account.Operate {
		a.Note(who, "bundle", "", ErrDenied)
		return ErrDenied
	}
	st, err := a.cfg.Appliance.Status(ctx)
	if err != nil {
		a.cfg.Log.Error("support bundle: made without PID 1's status", "error", err)
		st = &control.Status{Hostname: "parley"}
	}
	err = bundle.Write(ctx, w, st.Hostname, a.cfg.Now(), a.bundleFiles(st))
	a.Note(who, "bundle", "", err)
	return err
}

func (a *Admin) bundleFiles(st *control.Status) []bundle.File {
	files := []bundle.File{
		jsonFile("status.json", "services, storage and versions, as PID 1 sees them", func(ctx context.Context) (any, error) { return a.cfg.Appliance.Status(ctx) }),
		jsonFile("network.json", "network configuration and state", func(ctx context.Context) (any, error) { return a.Network(ctx) }),
		jsonFile("connector.json", "meeting connector", func(ctx context.Context) (any, error) { return a.Connector(ctx) }),
		jsonFile("certificate.json", "certificate in use", func(ctx context.Context) (any, error) { return a.Certificate(ctx) }),
		jsonFile("authorities.json", "authorities that were added", func(ctx context.Context) (any, error) { return a.Authorities(ctx) }),
		jsonFile("addresses.json", "network interfaces", func(context.Context) (any, error) { return a.cfg.Interfaces() }),
		{Name: "audit.jsonl", About: "who changed what, newest first", Write: func(ctx context.Context, line func(string) error) error {
			list, err := a.Audit(ctx, bundle.MaxLines)
			for _, e := range list {
				b, err := json.Marshal(e)
				if err != nil {
					return err
				}
				if err := line(string(b)); err != nil {
					return err
				}
			}
			return err
		}},
		{Name: "versions.txt", About: "what this program is made of", Write: bundle.Lines(func() (string, error) {
			s := "go " + runtime.Version() + "\n"
			if i, ok := debug.ReadBuildInfo(); ok {
				for _, m := range i.Deps {
					s += m.Path + " " + m.Version + "\n"
				}
			}
			return s, nil
		})},
		{Name: "counters.txt", About: "the kernel's counters of protocols and sockets", Write: bundle.Lines(func() (string, error) {
			return strings.Join(diagnose.Kernel(os.DirFS("/proc")), "\n"), nil
		})},
	}
	for _, name := range []string{"meminfo", "loadavg", "interrupts", "uptime", "stat", "net/route", "net/ipv6_route", "net/dev", "net/arp"} {
		files = append(files, bundle.File{Name: "proc/" + name, About: "/proc/" + name, Write: bundle.Lines(func() (string, error) {
			b, err := readBounded("/proc/" + name)
			return string(b), err
		})})
	}
	names := []string{"init", "kernel"}
	for _, s := range st.Services {
		names = append(names, s.Name)
	}
	for _, name := range names {
		files = append(files, bundle.File{Name: "logs/" + name + ".log", About: "log of " + name, Write: func(ctx context.Context, line func(string) error) error {
			stamped := bundle.Stamped(line)
			return a.cfg.Appliance.Logs(ctx, control.Request{Service: name, Lines: bundle.MaxLines}, func(l control.Log) error {
				return stamped(l.At, l.Text)
			})
		}})
	}
	return files
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, bundle.MaxFile))
}

func jsonFile(name, about string, get func(context.Context) (any, error)) bundle.File {
	return bundle.File{Name: name, About: about, Write: func(ctx context.Context, line func(string) error) error {
		v, err := get(ctx)
		if err != nil {
			return err
		}
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		return bundle.Lines(func() (string, error) { return string(b), nil })(ctx, line)
	}}
}

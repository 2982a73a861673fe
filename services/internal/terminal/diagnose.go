package terminal

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/admin"
)

// diagnoseLimit is longer than any tool takes.
const diagnoseLimit = 3 * time.Minute

// recordTypes are the kinds of records that lookup takes.
var recordTypes = []string{"A", "AAAA", "CNAME", "MX", "NS", "PTR", "SRV", "TXT"}

// diagnose runs a tool and prints its lines as they come. Ctrl-C and q end it.
func (s *session) diagnose(ctx context.Context, in admin.DiagnoseInput) error {
	who := s.who
	in.Words = s.words()
	width, _ := s.size()
	limited, cancel := context.WithTimeout(ctx, diagnoseLimit)
	defer cancel()
	err := s.wait(limited, true, func(ctx context.Context, emit func(string)) error {
		return s.c.cfg.Admin.Diagnose(ctx, who, in, func(line string) error {
			emit(hang(clean(strings.TrimRight(line, "\r\n"), 1000), width-1, 4))
			return ctx.Err()
		})
	})
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return errInterrupt
	}
	return err
}

func (s *session) cmdPing(ctx context.Context, args []string) error {
	s.say("diagnose.ends")
	return s.diagnose(ctx, admin.DiagnoseInput{Tool: "ping", Host: args[0]})
}

func (s *session) cmdTraceroute(ctx context.Context, args []string) error {
	s.say("diagnose.ends")
	return s.diagnose(ctx, admin.DiagnoseInput{Tool: "traceroute", Host: args[0]})
}

func (s *session) cmdLookup(ctx context.Context, args []string) error {
	in := admin.DiagnoseInput{Tool: "lookup", Host: args[0]}
	for _, a := range args[1:] {
		server, is := strings.CutPrefix(a, "@")
		switch {
		case is && in.Server == "":
			in.Server = server
		case !is && in.Type == "":
			in.Type = strings.ToUpper(a)
		default:
			return find("lookup").wrong()
		}
	}
	return s.diagnose(ctx, in)
}

func (s *session) cmdTLS(ctx context.Context, args []string) error {
	in := admin.DiagnoseInput{Tool: "tls", Host: args[0], Port: "443"}
	rest := args[1:]
	if n := len(rest); n > 0 && strings.EqualFold(rest[n-1], "proxy") {
		in.Proxy, rest = true, rest[:n-1]
	}
	if len(rest) > 1 {
		return find("tls").wrong()
	}
	if len(rest) == 1 {
		in.Port = rest[0]
	}
	return s.diagnose(ctx, in)
}

func (s *session) cmdPort(ctx context.Context, args []string) error {
	in := admin.DiagnoseInput{Tool: "port", Host: args[0], Port: args[1]}
	if len(args) == 3 {
		if !strings.EqualFold(args[2], "proxy") {
			return find("port").wrong()
		}
		in.Proxy = true
	}
	return s.diagnose(ctx, in)
}

func (s *session) cmdCounters(ctx context.Context, _ []string) error {
	return s.diagnose(ctx, admin.DiagnoseInput{Tool: "counters"})
}

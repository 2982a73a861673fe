package webconsole

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
)

// Bounds of operations.
const (
	maxOps = 4 // under way; more are refused
	// opLimit is longer than any service's deadline to become ready or to stop.
	opLimit = 45 * time.Second
	// cutDelay lets the answer reach the browser before the console is cut off.
	cutDelay = 500 * time.Millisecond
)

// Bounds of logs.
const (
	maxLogLines = 5000
	logLimit    = 10 * time.Second // for past lines
	maxSearch   = 200              // characters
)

// Operation is how an operation of a service went.
type Operation struct {
	Took time.Duration `json:"took"` // ns
	// Later: the answer came first, because the operation cuts this console off.
	Later bool `json:"later"`
}

// LogLines are lines of logs, oldest first.
type LogLines struct {
	Lines []control.Log `json:"lines"`
}

func (c *Console) serviceEndpoints() []endpoint {
	logQuery := func(e *endpoint) {
		e.Query = []api.Param{{Name: "lines", Summary: "how many, newest; 200 when not given, 5000 at most", Schema: "integer"}, {Name: "q", Summary: "only lines with this text, in either case", Schema: "string"},
			{Name: "format", Summary: "text: as plain text to be kept", Schema: "string"}, {Name: "follow", Summary: "true: server-sent events “line”, going on with new lines", Schema: "boolean"}}
		e.Type = "application/json, text/plain, text/event-stream"
	}
	return []endpoint{
		api.Get("/api/v1/services", "listServices", "The services and their state.", needView,
			func(k *call) ([]control.Service, error) {
				now := c.source.get(k.ctx(), fresh)
				if now.status == nil {
					return nil, errors.Join(admin.ErrAway, now.err)
				}
				return now.status.Services, nil
			}),
		api.Act("POST", "/api/v1/services/{name}/{op}", "operate", "Start, stop or restart a service (op).", needOperate, c.operate),
		api.Raw("GET", "/api/v1/services/{name}/logs", "serviceLogs", "A service's log.", needView, "application/json", func(k *call) error {
			return c.logs(k, k.r.PathValue("name"))
		}).With(logQuery),
		c.metricsEndpoint(),
		api.Raw("GET", "/api/v1/logs", "allLogs", "The logs of all services.", needView, "application/json", func(k *call) error {
			return c.logs(k, "")
		}).With(logQuery),
	}
}

// service returns the service of that name.
func (c *Console) service(k *call, name string) (control.Service, error) {
	now := c.source.get(k.ctx(), fresh)
	if now.status == nil {
		return control.Service{}, errors.Join(admin.ErrAway, now.err)
	}
	i := slices.IndexFunc(now.status.Services, func(v control.Service) bool { return v.Name == name })
	if i < 0 {
		return control.Service{}, errNotFound
	}
	return now.status.Services[i], nil
}

// operate starts, stops or restarts a service. What cuts the console off is
// answered before it is done.
func (c *Console) operate(k *call) (Operation, error) {
	name, verb := k.r.PathValue("name"), k.r.PathValue("op")
	op, known := verbs[verb]
	if !known {
		return Operation{}, errNotFound
	}
	sv, err := c.service(k, name)
	if err != nil {
		return Operation{}, err
	}
	title := k.words.Title(api.Cut(sv.Title, 60))
	do := func(ctx context.Context) error { return c.cfg.Admin.Operate(ctx, k.who, op, name) }
	if op != control.OpStart && slices.Contains(c.cfg.Cutting, name) {
		if err := c.afterwards(do); err != nil {
			return Operation{}, err
		}
		return Operation{Later: true}, nil
	}
	began := time.Now()
	if err := c.operation(k, do); err != nil {
		return Operation{}, err
	}
	took := time.Since(began)
	k.flash("done."+verb, title, k.words.Seconds(took))
	return Operation{Took: took}, nil
}

// operation does what takes longer than a request may. A browser that goes away
// does not undo what it asked for.
func (c *Console) operation(k *call, do func(context.Context) error) error {
	select {
	case c.ops <- struct{}{}:
	default:
		return errBusy
	}
	defer func() { <-c.ops }()
	k.patient(opLimit)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.ctx()), opLimit)
	defer cancel()
	return do(ctx)
}

// afterwards does an operation that ends this process or its network, after the
// answer. Its outcome is in the log alone.
func (c *Console) afterwards(do func(context.Context) error) error {
	select {
	case c.ops <- struct{}{}:
	default:
		return errBusy
	}
	c.later.Go(func() {
		defer func() { <-c.ops }()
		ctx, cancel := context.WithTimeout(context.Background(), opLimit)
		defer cancel()
		select {
		case <-time.After(cutDelay):
		case <-c.stopping:
		}
		go func() { // Serve waits for this operation, which may be the one that ends it
			select {
			case <-c.stopping:
				cancel()
			case <-ctx.Done():
			}
		}()
		if err := do(ctx); err != nil {
			c.cfg.Log.Warn("operation", "error", err)
		}
	})
	return nil
}

// logRequest reads the query.
func logRequest(k *call, name string) (req control.Request, search string, err error) {
	q := k.r.URL.Query()
	var l fault.List
	req = control.Request{Op: control.OpLogs, Service: name, Lines: 200}
	if s := q.Get("lines"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxLogLines {
			l.Add("lines", "number", api.Cut(s, 20), 1, maxLogLines)
		}
		req.Lines = n
	}
	search = strings.ToLower(q.Get("q"))
	if len([]rune(search)) > maxSearch {
		l.Add("q", "long", maxSearch)
	}
	req.Follow = q.Get("follow") == "true"
	return req, search, l.Err()
}

// logs answers with lines of logs, or goes on with them.
func (c *Console) logs(k *call, name string) error {
	req, search, err := logRequest(k, name)
	if err != nil {
		return err
	}
	if name != "" {
		if _, err := c.service(k, name); err != nil {
			return err
		}
	}
	if req.Follow {
		return c.followLogs(k, req, search)
	}
	k.patient(logLimit)
	release, err := c.reading(k)
	if err != nil {
		return err
	}
	defer release()
	lines, err := c.pastLogs(k.ctx(), req, search)
	if err != nil {
		return err
	}
	if k.r.URL.Query().Get("format") != "text" {
		api.WriteJSON(k.w, http.StatusOK, LogLines{lines})
		return nil
	}
	file := "parley.log"
	if name != "" {
		file = "parley-" + fileName(name) + ".log"
	}
	k.attach(file, "text/plain; charset=utf-8")
	for _, l := range lines {
		if _, err := fmt.Fprintf(k.w, "%s %s %s\n", l.At.UTC().Format(time.RFC3339Nano), l.Service, l.Text); err != nil {
			return http.ErrAbortHandler
		}
	}
	return nil
}

// pastLogs returns the last lines that match, of those that are kept.
func (c *Console) pastLogs(ctx context.Context, req control.Request, search string) ([]control.Log, error) {
	ctx, cancel := context.WithTimeout(ctx, logLimit)
	defer cancel()
	keep := req.Lines
	if search != "" {
		req.Lines = 0 // the last that match may be far back
	}
	lines := []control.Log{}
	err := c.cfg.Admin.Logs(ctx, req, func(l control.Log) error {
		if search != "" && !strings.Contains(strings.ToLower(l.Text), search) {
			return nil
		}
		if len(lines) >= keep {
			lines = append(lines[:0], lines[1:]...)
		}
		lines = append(lines, l)
		return nil
	})
	return lines, err
}

// followLogs sends lines as events until somebody goes. A browser that does not
// keep up loses its stream, not the appliance its memory.
func (c *Console) followLogs(k *call, req control.Request, search string) error {
	leave, err := c.take(k, "follow", c.follows, maxActorFollows, 0)
	if err != nil {
		return err
	}
	defer leave()
	release, err := c.stream(k)
	if err != nil {
		return err
	}
	defer release()
	out := &stream{w: k.w, rc: http.NewResponseController(k.w)}
	_ = out.rc.SetReadDeadline(time.Time{})
	k.w.Header().Set("Content-Type", "text/event-stream")
	if out.send("retry: 2000\n\n") != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(k.ctx())
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	lines := make(chan control.Log) // not buffered: PID 1 keeps what waits, within its bounds
	done := make(chan error, 1)
	go func() {
		done <- c.cfg.Admin.Logs(ctx, req, func(l control.Log) error {
			select {
			case lines <- l:
				return nil
			case <-stop:
				return context.Canceled
			}
		})
	}()
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case l := <-lines:
			if search != "" && !strings.Contains(strings.ToLower(l.Text), search) {
				continue
			}
			b, err := json.Marshal(l)
			if err != nil {
				panic(err) // a plain struct
			}
			if out.send("event: line\ndata: "+string(b)+"\n\n") != nil {
				return nil
			}
			last = time.Now()
			continue
		case <-done:
			_ = out.send("event: lost\ndata: {}\n\n")
			return nil
		case <-k.ctx().Done():
			return nil
		case <-c.stopping:
			return nil
		case <-tick.C:
		}
		if !k.still() {
			_ = out.send("event: end\ndata: {}\n\n")
			return nil
		}
		if time.Since(last) > streamHeart {
			if out.send(":\n\n") != nil {
				return nil
			}
			last = time.Now()
		}
	}
}

// attach makes the answer a file to be kept.
func (k *call) attach(name, kind string) {
	k.w.Header().Set("Content-Type", kind)
	k.w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
}

// fileName is a name of letters, digits, dots and dashes.
func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, api.Cut(s, 60))
}

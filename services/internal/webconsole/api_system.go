package webconsole

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
)

// Bounds of long answers.
const (
	diagnoseLimit = 2 * time.Minute
	bundleLimit   = 2 * time.Minute
	maxAudit      = 5000 // lines
)

// TimeInput is a time to set.
type TimeInput struct {
	Time string `json:"time"` // RFC 3339, or "2006-01-02 15:04:05" in UTC
}

// ResetInput confirms a factory reset.
type ResetInput struct {
	Typed string `json:"typed"` // the machine's host name
}

// RoleInput is the role from the next start on.
type RoleInput struct {
	Role string `json:"role"`
}

// IdentityInput says what this machine is.
type IdentityInput struct {
	Answer string `json:"answer"` // "same" or "copy"
}

// DiagnoseLine is a line of an answer that comes bit by bit.
type DiagnoseLine struct {
	Line  string       `json:"line,omitempty"`
	Error *api.Problem `json:"error,omitempty"` // the last line, when it failed
	Done  bool         `json:"done,omitempty"`  // the last line
}

func (c *Console) systemEndpoints() []endpoint {
	a := c.cfg.Admin
	later := func(do func(context.Context, *call) error) func(*call) (none, error) {
		return func(k *call) (none, error) {
			return none{}, c.afterwards(func(ctx context.Context) error { return do(ctx, k) })
		}
	}
	return []endpoint{
		api.Get("/api/v1/status", "getStatus", "The appliance at a glance.", needView, c.report),
		api.Get("/api/v1/system", "getSystem", "Time, versions and identity.", needView,
			func(k *call) (*admin.System, error) { return a.System(k.ctx()) }).With(c.held),
		api.Send("PUT", "/api/v1/system/time", "setTime", "Set the clock.", needOperate,
			func(k *call, in TimeInput) (none, error) { return none{}, a.SetTime(k.ctx(), k.who, in.Time) }),
		api.Act("POST", "/api/v1/system/reboot", "reboot", "Restart the machine.", needOperate,
			later(func(ctx context.Context, k *call) error { return a.Reboot(ctx, k.who) })),
		api.Act("POST", "/api/v1/system/poweroff", "powerOff", "Shut the machine down.", needOperate,
			later(func(ctx context.Context, k *call) error { return a.PowerOff(ctx, k.who) })),
		api.Send("POST", "/api/v1/system/factory-reset", "factoryReset", "Wipe everything that was set, and restart.", needOperate,
			func(k *call, in ResetInput) (none, error) {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(k.ctx()), opLimit)
				defer cancel()
				k.patient(opLimit)
				return none{}, a.FactoryReset(ctx, k.who, in.Typed)
			}),
		api.Send("PUT", "/api/v1/system/role", "setRole", "Set the role that counts from the next start on.", needOperate,
			func(k *call, in RoleInput) (none, error) { return none{}, a.SetRole(k.ctx(), k.who, in.Role) }),
		api.Send("POST", "/api/v1/system/identity", "answerClone", "Say whether this machine is a copy.", needOperate,
			func(k *call, in IdentityInput) (none, error) { return none{}, a.AnswerClone(k.ctx(), k.who, in.Answer) }),
		api.Get("/api/v1/audit", "getAudit", "Who changed what, newest first.", needView,
			func(k *call) ([]admin.Entry, error) {
				n := 200
				if s := k.r.URL.Query().Get("lines"); s != "" {
					var err error
					if n, err = strconv.Atoi(s); err != nil || n < 1 || n > maxAudit {
						return nil, fault.New("lines", "number", api.Cut(s, 20), 1, maxAudit)
					}
				}
				return a.Audit(k.ctx(), n)
			}).With(func(e *endpoint) {
			e.Query = []api.Param{{Name: "lines", Summary: "how many; 200 when not given", Schema: "integer"}}
		}).With(c.held),
		api.Get("/api/v1/notices", "getNotices", "What every operator must be told.", needView,
			func(k *call) ([]string, error) { return a.Notices(k.ctx()) }),
		api.Act("DELETE", "/api/v1/notices", "seeNotices", "They have been seen.", needOperate,
			func(k *call) (none, error) { return none{}, a.SeenNotices(k.ctx(), k.who) }),
		api.Raw("GET", "/api/v1/bundle", "getBundle", "The support bundle, .tar.gz without secrets.", needOperate, "application/gzip", c.bundle),
		api.Send("POST", "/api/v1/diagnose", "diagnose", "Run a tool; the answer comes line by line.", needOperate, c.diagnose).
			With(func(e *endpoint) { e.Response, e.Type = nil, "application/x-ndjson" }),
	}
}

// bundle sends the support bundle. What fails after its first bytes breaks the
// transfer off, so that a half is not taken for a whole.
func (c *Console) bundle(k *call) error {
	return c.long(k, bundleLimit, func(ctx context.Context) error {
		out := &late{k: k, begin: func() {
			k.attach("parley-support-"+time.Now().UTC().Format("20060102-150405")+".tar.gz", "application/gzip")
		}}
		err := c.cfg.Admin.Bundle(ctx, k.who, out)
		if err != nil && out.begun {
			c.cfg.Log.Warn("bundle", "error", err)
			panic(http.ErrAbortHandler)
		}
		return err
	})
}

// late sets the answer's headers at its first byte: before that an error can
// still be told.
type late struct {
	k     *call
	begin func()
	begun bool
}

func (l *late) Write(p []byte) (int, error) {
	if !l.begun {
		l.begun = true
		l.begin()
	}
	return l.k.w.Write(p)
}

// long does what holds one of the streams.
func (c *Console) long(k *call, limit time.Duration, do func(context.Context) error) error {
	release, err := c.stream(k)
	if err != nil {
		return err
	}
	defer release()
	k.patient(limit)
	ctx, cancel := context.WithTimeout(k.ctx(), limit)
	defer cancel()
	go func() {
		select {
		case <-c.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return do(ctx)
}

// diagnose runs a tool and sends its lines as they come.
func (c *Console) diagnose(k *call, in admin.DiagnoseInput) (api.Written, error) {
	return api.Written{}, c.long(k, diagnoseLimit, func(ctx context.Context) error {
		out := &stream{w: k.w, rc: http.NewResponseController(k.w)}
		begun := false
		line := func(l DiagnoseLine) error {
			if !begun {
				begun = true
				k.w.Header().Set("Content-Type", "application/x-ndjson")
			}
			b, err := json.Marshal(l)
			if err != nil {
				panic(err) // plain structs
			}
			return out.send(string(b) + "\n")
		}
		in.Words = k.words
		err := c.cfg.Admin.Diagnose(ctx, k.who, in, func(s string) error { return line(DiagnoseLine{Line: s}) })
		switch {
		case err != nil && !begun:
			return err
		case err != nil:
			p := k.failure(err)
			_ = line(DiagnoseLine{Error: &p})
			return nil
		}
		_ = line(DiagnoseLine{Done: true})
		return nil
	})
}

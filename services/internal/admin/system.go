package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netclient"
)

// System returns time, version and identity. Without the network service the
// clock says that it does not answer.
func (a *Admin) System(ctx context.Context) (*System, error) {
	st, err := a.cfg.Appliance.Status(ctx)
	if err != nil {
		return nil, a.explain(ctx, err)
	}
	s := &System{Status: st, Now: a.cfg.Now().UTC()}
	if n, err := a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpStatus}); err == nil {
		s.Clock = n.Clock
	} else {
		s.Clock.Problem = ErrAway.Error()
	}
	return s, nil
}

// do asks PID 1, and says whether it could not be asked.
func (a *Admin) do(ctx context.Context, req control.Request) error {
	return a.explain(ctx, a.cfg.Appliance.Do(ctx, req))
}

// Operate starts, stops or restarts a service.
func (a *Admin) Operate(ctx context.Context, who Actor, op control.Op, service string) error {
	what := "service.operate"
	switch op {
	case control.OpStart, control.OpStop, control.OpRestart:
		what = "service." + string(op)
	}
	return a.act(ctx, who, what, func() (string, error) {
		faults := choice("op", string(op), string(control.OpStart), string(control.OpStop), string(control.OpRestart))
		if service == "" {
			faults.Add("service", "required")
		} else if len(service) > 64 {
			faults.Add("service", "long", 64)
		}
		if err := faults.Err(); err != nil {
			return "", err
		}
		return service, a.do(ctx, control.Request{Op: op, Service: service})
	})
}

// Logs passes lines of the log on.
func (a *Admin) Logs(ctx context.Context, req control.Request, line func(control.Log) error) error {
	return a.cfg.Appliance.Logs(ctx, req, line)
}

// Reboot restarts the machine.
func (a *Admin) Reboot(ctx context.Context, who Actor) error {
	return a.act(ctx, who, "reboot", func() (string, error) {
		return "", a.do(ctx, control.Request{Op: control.OpReboot})
	})
}

// PowerOff shuts the machine down.
func (a *Admin) PowerOff(ctx context.Context, who Actor) error {
	return a.act(ctx, who, "poweroff", func() (string, error) {
		return "", a.do(ctx, control.Request{Op: control.OpPowerOff})
	})
}

// FactoryReset wipes what was set. Its line in the audit log goes with the rest;
// the process's log has it until the restart.
func (a *Admin) FactoryReset(ctx context.Context, who Actor, typed string) error {
	return a.act(ctx, who, "reset", func() (string, error) {
		st, err := a.cfg.Appliance.Status(ctx)
		if err != nil {
			return "", err
		}
		switch strings.TrimSpace(typed) {
		case "":
			return "", fault.New("typed", "required")
		case st.Hostname:
			return "", a.do(ctx, control.Request{Op: control.OpReset})
		}
		return "", fault.New("typed", "system-hostname", clean(st.Hostname, 253))
	})
}

// Roles of the appliance.
var roles = []string{"controller", "router"}

// SetRole sets the role from the next boot on.
func (a *Admin) SetRole(ctx context.Context, who Actor, role string) error {
	return a.act(ctx, who, "role.set", func() (string, error) {
		if err := choice("role", role, roles...).Err(); err != nil {
			return "", err
		}
		return role, a.do(ctx, control.Request{Op: control.OpRole, Role: role})
	})
}

// Bounds of the clock. PID 1 also refuses what is before the image.
var (
	earliest = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

// SetTime sets the machine's clock, and the one that runs without it.
func (a *Admin) SetTime(ctx context.Context, who Actor, t string) error {
	return a.act(ctx, who, "time.set", func() (string, error) {
		t = strings.TrimSpace(t)
		if t == "" {
			return "", fault.New("time", "required")
		}
		want, err := time.Parse(time.RFC3339, t)
		if err != nil {
			want, err = time.Parse(time.DateTime, t)
		}
		if err != nil {
			return "", fault.New("time", "system-time", clean(t, 40))
		}
		want = want.UTC()
		if want.Before(earliest) || !want.Before(latest) {
			return "", fault.New("time", "system-time-range", earliest.Format(time.DateOnly), latest.Format(time.DateOnly))
		}
		now := a.cfg.Now()
		err = a.do(ctx, control.Request{Op: control.OpClock, Clock: &control.Clock{Offset: want.Sub(now), Step: true, Save: true}})
		var refusal *control.Error
		if errors.As(err, &refusal) && refusal.Code == control.CodeInvalid {
			return "", fault.New("time", "system-time-refused", clean(refusal.Message, 200))
		}
		return fmt.Sprintf("%s → %s", now.UTC().Format(time.RFC3339), want.Format(time.RFC3339)), err
	})
}

// AnswerClone ends the question whether this machine is a copy. A copy forgets
// the connector's token, which belongs to the other one.
func (a *Admin) AnswerClone(ctx context.Context, who Actor, answer string) error {
	return a.act(ctx, who, "identity.answer", func() (string, error) {
		same, copied := string(control.IdentitySame), string(control.IdentityCopy)
		if err := choice("answer", answer, same, copied).Err(); err != nil {
			return "", err
		}
		if err := a.do(ctx, control.Request{Op: control.OpIdentity, Identity: control.Identity(answer)}); err != nil {
			return answer, err
		}
		if answer == same {
			return answer, nil
		}
		return answer, errors.Join(a.forgetToken(ctx), a.AddNotice(NoticeCopy))
	})
}

package admin

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/diagnose"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/trust"
)

// Diagnose runs a tool. Who may only look is refused: a tool sends packets into
// the site's network.
func (a *Admin) Diagnose(ctx context.Context, who Actor, in DiagnoseInput, line func(string) error) error {
	detail := strings.TrimSpace(clean(fmt.Sprintf("%s %s %s %s", in.Tool, in.Host, in.Port, in.Type), 200))
	if who.Authority != account.Operate {
		a.Note(who, "diagnose", detail, ErrDenied)
		return ErrDenied
	}
	cfg := diagnose.Config{
		Roots:      trust.New(a.cfg.ConnectorDir).Pool,
		Usual:      trust.Usual,
		Interfaces: a.cfg.Interfaces,
		Proc:       os.DirFS("/proc"),
		Now:        a.cfg.Now,
		Proxy: func(ctx context.Context) (diagnose.Proxy, error) {
			st, err := a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpStatus})
			if err != nil {
				return diagnose.Proxy{}, err
			}
			return diagnose.Proxy{Host: st.Config.Proxy.Host, Port: st.Config.Proxy.Port}, nil
		},
	}
	err := diagnose.Run(ctx, cfg, diagnose.Input{Tool: in.Tool, Host: in.Host, Port: in.Port, Server: in.Server, Type: in.Type, Proxy: in.Proxy}, in.Words, line)
	if fault.Of(err) != nil {
		return err
	}
	// That the person went away is no failure of the tool.
	if ctx.Err() != nil {
		a.Note(who, "diagnose", detail, nil)
		return err
	}
	a.Note(who, "diagnose", detail, err)
	return err
}

package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// by is who asks, for people.
func (w Actor) by() string { return clean(w.Name, 64) + " from " + clean(w.From, 64) }

// Network returns the network as its service sees it.
func (a *Admin) Network(ctx context.Context) (*netclient.Status, error) {
	st, err := a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpStatus})
	return st, a.explain(ctx, err)
}

// SetNetwork applies a configuration.
func (a *Admin) SetNetwork(ctx context.Context, who Actor, in netconfig.Input, hold bool) (*netclient.Status, error) {
	var st *netclient.Status
	err := a.act(ctx, who, "network.set", func() (string, error) {
		before, err := a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpStatus})
		if err != nil {
			return "", err
		}
		cfg, err := in.Config(before.Config)
		if err != nil {
			return "", err
		}
		if err := a.savable(ctx); err != nil {
			return "", err
		}
		detail := difference(before.Config, cfg)
		if hold {
			detail += " (to be confirmed)"
		}
		st, err = a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpSet, Config: &cfg, Hold: hold, By: who.by()})
		return detail, err
	})
	return st, err
}

// ConfirmNetwork confirms the pending change.
func (a *Admin) ConfirmNetwork(ctx context.Context, who Actor, id string, connected time.Time) error {
	// A browser tries over the connections that it has until one is new: those
	// tries are no news for the audit log.
	if who.Authority == account.Operate {
		if p, err := a.pending(ctx, id); err == nil && !connected.After(p.Since) {
			return ErrSameConnection
		}
	}
	return a.act(ctx, who, "network.confirm", func() (string, error) {
		p, err := a.pending(ctx, id)
		if err != nil {
			return "", err
		}
		if !connected.After(p.Since) {
			return "", ErrSameConnection
		}
		_, err = a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpConfirm, ID: id, By: who.by()})
		return "of " + p.By, err
	})
}

// RevertNetwork undoes the pending change.
func (a *Admin) RevertNetwork(ctx context.Context, who Actor, id string) error {
	return a.act(ctx, who, "network.revert", func() (string, error) {
		p, err := a.pending(ctx, id)
		if err != nil {
			return "", err
		}
		_, err = a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpRevert, ID: id, By: who.by()})
		return "of " + p.By, err
	})
}

// pending returns the pending change id.
func (a *Admin) pending(ctx context.Context, id string) (*netclient.Pending, error) {
	st, err := a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpStatus})
	if err != nil {
		return nil, err
	}
	if st.Pending == nil || st.Pending.ID != id {
		return nil, fmt.Errorf("%w: change %q is not pending", ErrUnknown, clean(id, 64))
	}
	return st.Pending, nil
}

// SyncTime asks the time servers now.
func (a *Admin) SyncTime(ctx context.Context, who Actor) (*netclient.Status, error) {
	var st *netclient.Status
	err := a.act(ctx, who, "time.sync", func() (detail string, err error) {
		st, err = a.cfg.Network.Do(ctx, netclient.Request{Op: netclient.OpSync, By: who.by()})
		if err == nil && st.Clock.Synced {
			detail = st.Clock.Server
		}
		return detail, err
	})
	return st, err
}

// difference tells what changes from one configuration to the other, "field: old
// → new" by the fields of the JSON. The proxy's password is told of and not told.
func difference(before, after netconfig.Config) string {
	changed := after.Proxy.Password != nil
	before.Proxy.Password, after.Proxy.Password = nil, nil
	before.Proxy.PasswordSet, after.Proxy.PasswordSet = false, false
	out := differ(before, after)
	if changed {
		out = append(out, "proxy.password")
	}
	return joinOr(out, "nothing")
}

// differ lists what is different in the JSON of two values of a type.
func differ(before, after any) []string {
	old, next := map[string]string{}, map[string]string{}
	flatten(old, "", asJSON(before))
	flatten(next, "", asJSON(after))
	keys := maps.Clone(old)
	maps.Copy(keys, next)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if was, is := old[k], next[k]; was != is {
			out = append(out, fmt.Sprintf("%s: %s → %s", k, orNone(was), orNone(is)))
		}
	}
	return out
}

func joinOr(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, "; ")
}

func orNone(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func asJSON(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		return err.Error()
	}
	return out
}

// flatten puts the values of v into m, by their way. Lists of words are one value.
func flatten(m map[string]string, way string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			flatten(m, strings.Trim(way+"."+k, "."), e)
		}
	case []any:
		var words []string
		for i, e := range v {
			if _, ok := e.(map[string]any); ok {
				flatten(m, way+"."+strconv.Itoa(i), e)
			} else {
				words = append(words, fmt.Sprint(e))
			}
		}
		m[way] = strings.Join(words, " ")
	case nil:
	default:
		m[way] = fmt.Sprint(v)
	}
}

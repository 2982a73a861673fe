package firewall

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/google/nftables"

	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Names in the kernel.
const (
	tableName   = "parley"
	counterName = "dropped"
	markPrefix  = "rules-" // of an empty chain: which rules these are
)

// Linux is the firewall of the kernel, in the network namespace of the thread
// that calls it. It needs CAP_NET_ADMIN. The rules stay when the process ends.
type Linux struct {
	// Role is the appliance's: what it has no use for stays closed. "": unknown, and
	// what any role needs is open.
	Role string
	Log  *slog.Logger

	mu      sync.Mutex
	active  bool
	problem string // of the last Apply
}

var kernelTable = &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}

// Apply brings the rules for cfg into force, all at once: no packet meets half of
// them. On an error those that were there before stay. Rules that are in force
// already are left alone, and so is their counter.
func (l *Linux) Apply(cfg netconfig.Config) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed, err := replace(compile(cfg.Firewall, l.Role))
	if err != nil {
		l.problem = err.Error()
		return err
	}
	l.active, l.problem = true, ""
	if changed {
		l.Log.Info("firewall rules are in force", "lists", len(cfg.Firewall.Allow))
	}
	return nil
}

// Status tells whether the rules are in force, and what they dropped.
func (l *Linux) Status() netclient.Firewall {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := netclient.Firewall{Active: l.active, Problem: l.problem}
	if !l.active {
		return s
	}
	n, err := dropped()
	if err != nil && s.Problem == "" {
		s.Problem = err.Error()
	}
	s.Dropped = n
	return s
}

// replace makes the kernel have the rules.
func replace(r ruleset) (changed bool, err error) {
	mark, err := r.fingerprint()
	if err != nil {
		return false, err
	}
	mark = markPrefix + mark
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("nftables: list chains: %w", err)
	}
	for _, ch := range chains {
		if ch.Table.Name == tableName && ch.Name == mark {
			return false, nil
		}
	}
	c.AddTable(kernelTable) // so that there is one to delete
	c.DelTable(kernelTable)
	c.AddTable(kernelTable)
	c.AddObj(&nftables.CounterObj{Table: kernelTable, Name: counterName})
	for i, s := range r.sets {
		// Without an ID of its own the library takes the next of a variable that
		// it does not guard.
		ns := &nftables.Set{Table: kernelTable, ID: uint32(i + 1), Name: s.name, Interval: true, KeyType: nftables.TypeIPAddr}
		if s.six {
			ns.KeyType = nftables.TypeIP6Addr
		}
		if err := c.AddSet(ns, s.elements()); err != nil {
			return false, fmt.Errorf("nftables: set %s: %w", s.name, err)
		}
	}
	drop, accept := nftables.ChainPolicyDrop, nftables.ChainPolicyAccept
	for _, ch := range []struct {
		name     string
		hook     *nftables.ChainHook
		priority *nftables.ChainPriority
		policy   *nftables.ChainPolicy
	}{
		{"prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityRaw, &accept},
		{"output", nftables.ChainHookOutput, nftables.ChainPriorityRaw, &accept},
		{"input", nftables.ChainHookInput, nftables.ChainPriorityFilter, &drop},
		{"forward", nftables.ChainHookForward, nftables.ChainPriorityFilter, &drop},
	} {
		nc := c.AddChain(&nftables.Chain{
			Name: ch.name, Table: kernelTable, Type: nftables.ChainTypeFilter, Hooknum: ch.hook, Priority: ch.priority, Policy: ch.policy,
		})
		for _, exprs := range r.chain(ch.name) {
			c.AddRule(&nftables.Rule{Table: kernelTable, Chain: nc, Exprs: exprs})
		}
	}
	c.AddChain(&nftables.Chain{Name: mark, Table: kernelTable})
	if err := c.Flush(); err != nil {
		return false, fmt.Errorf("nftables: %s", oneLine(err))
	}
	return true, nil
}

// oneLine makes a line of an error that has one for each rule.
func oneLine(err error) string {
	return strings.Join(strings.Split(err.Error(), "\n"), "; ")
}

// dropped returns the counter of packets.
func dropped() (int64, error) {
	c, err := nftables.New()
	if err != nil {
		return 0, fmt.Errorf("nftables: %w", err)
	}
	o, err := c.GetObject(&nftables.CounterObj{Table: kernelTable, Name: counterName})
	if err != nil {
		return 0, fmt.Errorf("nftables: counter: %w", err)
	}
	n, ok := o.(*nftables.CounterObj)
	if !ok {
		return 0, errors.New("nftables: the counter is gone")
	}
	return int64(n.Packets), nil
}

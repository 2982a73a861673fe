// Package admintest is an *admin.Admin for tests of the consoles' faces: a real
// one on temporary folders, in front of a fake PID 1 (controltest) and a network
// service in memory.
package admintest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/controltest"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
	"github.com/parley-meet/parley/services/internal/nic"
)

// Password is admin's in a Rig that New made.
const Password = "correct horse battery"

// Actors of tests.
var (
	Operator = admin.Actor{Name: credential.User, Authority: account.Operate, From: "192.0.2.99", Via: "web"}
	Viewer   = admin.Actor{Name: "vera", Authority: account.View, From: "192.0.2.98", Via: "web"}
)

// Rig is an Admin with what it works on.
type Rig struct {
	*admin.Admin
	PID1         *controltest.Server
	Network      *Network
	Store        *credential.Store
	Hasher       *credential.Hasher
	Keeper       *credential.Keeper // of the generated password
	Dir          string             // the consoles' shared folder
	ConnectorDir string             // what they share with the zone controller and the router
	Zone         *Zone
	Config       admin.Config // another Admin made of it is the other console's
	Logs         *Buffer      // what was logged
}

// New returns a rig whose admin has set Password.
func New(t testing.TB) *Rig {
	t.Helper()
	r := Fresh(t)
	r.SetPassword(t, Password)
	return r
}

// Fresh returns the rig of a new appliance: the generated password is in force
// once Keeper.Publish has been called.
func Fresh(t testing.TB) *Rig {
	t.Helper()
	r := &Rig{PID1: controltest.New(t), Network: NewNetwork(), Dir: t.TempDir(), ConnectorDir: t.TempDir(), Zone: NewZone(), Logs: &Buffer{}}
	r.Hasher = credential.NewHasher(8)
	r.Store = &credential.Store{Dir: r.Dir, RunDir: t.TempDir()}
	r.Keeper = &credential.Keeper{Store: r.Store, Dir: t.TempDir(), Hasher: r.Hasher, Random: rand.Reader}
	r.Config = admin.Config{
		Appliance: r.PID1.Client(), Network: r.Network, Store: r.Store, Hasher: r.Hasher, Interfaces: Interfaces, Zone: r.Zone.Ask,
		Dir: r.Dir, ConnectorDir: r.ConnectorDir, Log: slog.New(slog.NewTextHandler(r.Logs, nil)),
	}
	r.Admin = admin.New(r.Config)
	t.Cleanup(r.Close)
	return r
}

// SetPassword sets admin's password, unasked.
func (r *Rig) SetPassword(t testing.TB, password string) {
	t.Helper()
	h, err := r.Hasher.Hash(t.Context(), password)
	if err == nil {
		err = r.Store.Set(h, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Interfaces are those of the rig's machine.
func Interfaces() ([]nic.Interface, error) {
	return []nic.Interface{
		{Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, MTU: 1500, State: "up",
			Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("2001:db8::7/64")}},
		{Name: "lo", Loopback: true},
	}, nil
}

// Buffer collects what is written. It is safe for concurrent use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Network is a network service that applies nothing: it keeps the configuration
// and the pending change, and records what it was asked.
type Network struct {
	mu     sync.Mutex
	status netclient.Status
	asked  []netclient.Request
	refuse map[netclient.Op]error
	serial int
}

// NewNetwork returns one whose eth0 got 192.0.2.7/24 by DHCP.
func NewNetwork() *Network {
	return &Network{refuse: map[netclient.Op]error{}, status: netclient.Status{
		Config: netconfig.DefaultConfig(),
		State: netconfig.State{
			Interface: "eth0", HardwareAddress: "02:00:00:00:00:01", Link: netconfig.LinkUp, Mode: netconfig.ModeDHCP, MTU: 1500, LinkMTU: 1500,
			Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24")}, Gateway: netip.MustParseAddr("192.0.2.1"),
			DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")}, Search: []string{"example.net"},
		},
		Clock:    netclient.Clock{Synced: true, Server: "192.0.2.123", Offset: 3 * time.Millisecond, Last: time.Now(), Servers: []string{"192.0.2.123"}},
		Firewall: netclient.Firewall{Active: true, Dropped: 17},
	}}
}

// Change changes the status.
func (n *Network) Change(f func(*netclient.Status)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(&n.status)
}

// Refuse makes an operation fail; a nil err lets it pass again.
func (n *Network) Refuse(op netclient.Op, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse[op] = err
}

// Asked returns the requests other than status.
func (n *Network) Asked() []netclient.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

// Do answers like the network service. A hold does not end by itself: Expire
// ends it.
func (n *Network) Do(ctx context.Context, req netclient.Request) (*netclient.Status, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if req.Op != netclient.OpStatus {
		n.asked = append(n.asked, req)
	}
	if err := n.refuse[req.Op]; err != nil {
		return nil, err
	}
	st := &n.status
	if (req.Op == netclient.OpConfirm || req.Op == netclient.OpRevert) && (st.Pending == nil || st.Pending.ID != req.ID) {
		return nil, &netclient.Error{Op: req.Op, Code: netclient.CodeState, Message: "no such change is pending"}
	}
	switch req.Op {
	case netclient.OpSet:
		c, err := req.Config.Check()
		if err != nil {
			return nil, err
		}
		c = c.Public()
		if req.Hold {
			n.serial++
			now := time.Now()
			st.Pending = &netclient.Pending{ID: fmt.Sprintf("change-%d", n.serial), Config: c, By: req.By, Since: now, Deadline: now.Add(netclient.Hold)}
		} else {
			st.Config, st.Pending = c, nil
		}
	case netclient.OpConfirm:
		st.Config, st.Pending = st.Pending.Config, nil
	case netclient.OpRevert:
		n.revertLocked(netclient.RevertedOperator)
	}
	out := *st
	return &out, nil
}

// Expire undoes the pending change because nobody confirmed it.
func (n *Network) Expire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.status.Pending != nil {
		n.revertLocked(netclient.RevertedTimeout)
	}
}

func (n *Network) revertLocked(why string) {
	n.status.Reverted = &netclient.Reverted{At: time.Now(), Why: why, By: n.status.Pending.By}
	n.status.Pending = nil
}

// Input is the network's configuration as a person would give it.
func (r *Rig) Input() netconfig.Input {
	r.Network.mu.Lock()
	defer r.Network.mu.Unlock()
	return r.Network.status.Config.Input()
}

package certificate

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/parley-meet/parley/internal/durable"
)

const (
	// addressWait is how long Keep waits for an address to put into a new
	// certificate.
	addressWait = 10 * time.Second
	// poll is how often the files are looked at; it takes three system calls.
	poll = 2 * time.Second
	// retry is how long after a certificate could not be stored it is tried again.
	retry = time.Minute
)

// Keeper holds the certificate that the web console serves. Certificate and
// Fingerprint are safe for concurrent use; Load comes first, then Run has it.
type Keeper struct {
	Dir    string        // of the Store
	RAM    string        // of the Store
	Old    string        // folder in which an earlier version kept cert.pem and key.pem; "": none
	RunDir string        // of the fingerprint
	Public func() string // the name that people use; nil: none
	Log    *slog.Logger  // nil: none

	store     *Store
	current   atomic.Pointer[tls.Certificate]
	made      *tls.Certificate // self-signed, and not stored yet
	self      bool             // current is a self-signed one
	published string           // in the fingerprint file
	seen      [3]os.FileInfo   // of the files that current is of
	changes   time.Time        // at which current expires or is to be made anew
	again     time.Time        // storing is not tried before
	inRAM     bool             // current is kept in RAM, and the store could not be written to
	failed    string           // the last error of storing, which is told once
}

// Load takes the certificate from the store; when there is none that can be
// used, it makes one in memory, for Keep to store. The error says why, and is
// nil when there was none, as at the first start. There is a certificate in
// every case but when no key could be made.
func (k *Keeper) Load(now time.Time, hostname string, addrs []netip.Addr) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	k.store = NewStore(k.Dir, k.RAM)
	taken := k.store.takeOver(ctx, k.Old)
	k.seen = k.look()
	st := k.store.Read(now)
	k.take(st, now)
	if k.current.Load() == nil {
		c, err := selfSign(now, k.names(hostname, addrs))
		if err != nil {
			return err
		}
		k.made, k.self = c, true
		k.current.Store(c)
	}
	return errors.Join(taken, st.selfErr)
}

func (k *Keeper) names(hostname string, addrs []netip.Addr) Names {
	n := Names{Host: hostname, Addresses: addrs}
	if k.Public != nil {
		n.Public = k.Public()
	}
	return n
}

// take serves what the store says, when there is something.
func (k *Keeper) take(st State, now time.Time) {
	k.changes = later(now).Add(validity)
	if st.Current == nil {
		return
	}
	k.current.Store(st.Current)
	k.self, k.inRAM = st.Self, st.Self && st.inRAM
	k.changes = st.Current.Leaf.NotAfter
	if st.Self {
		k.changes = k.changes.Add(-renewal)
	}
}

// look returns what the files are, to see when they change.
func (k *Keeper) look() (out [3]os.FileInfo) {
	for i, path := range []string{k.store.path(uploadedName), k.store.path(selfName), filepath.Join(k.store.RAM, selfName)} {
		if fi, err := os.Lstat(path); err == nil {
			out[i] = fi
		}
	}
	return out
}

func same(a, b [3]os.FileInfo) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil {
			if a[i] != b[i] {
				return false
			}
			continue
		}
		x, y := a[i].Sys().(*syscall.Stat_t), b[i].Sys().(*syscall.Stat_t)
		if x.Ino != y.Ino || x.Size != y.Size || x.Mtim != y.Mtim || x.Ctim != y.Ctim {
			return false
		}
	}
	return true
}

// Keep stores a certificate that Load made, with the addresses that the machine
// has by then, and publishes the fingerprint. It returns at once when the
// certificate came from the store. An error means that it lasts until the
// process ends; where the storage alone failed, until the machine does.
func (k *Keeper) Keep(ctx context.Context, hostname string, addrs func() []netip.Addr) error {
	var kept error
	if k.made != nil {
		deadline := time.Now().Add(addressWait)
		found := addrs()
		// IPv6 is there at once where a router announces it; the address that
		// people type comes by DHCP, a moment later.
		for !slices.ContainsFunc(found, netip.Addr.Is4) && time.Now().Before(deadline) {
			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
			}
			if ctx.Err() != nil { // whichever the select took
				return nil
			}
			found = addrs()
		}
		if err := k.make(time.Now(), k.names(hostname, found)); err != nil {
			return err
		}
		kept = k.keep(ctx, time.Now())
	}
	return errors.Join(kept, k.publish())
}

// make makes a self-signed certificate, which is served unless an uploaded one is.
func (k *Keeper) make(now time.Time, n Names) error {
	c, err := selfSign(now, n)
	if err != nil {
		return err
	}
	k.made = c
	if k.self {
		k.current.Store(c)
	}
	return nil
}

// keep stores what was made: in the store, or in RAM where that cannot be
// written to.
func (k *Keeper) keep(ctx context.Context, now time.Time) error {
	k.again = now.Add(retry)
	unlock, err := k.store.lock(ctx)
	if err == nil {
		// Another process may have been faster.
		if st := k.store.Read(now); st.renew || st.inRAM {
			err = k.store.writeSelf(k.Dir, k.made)
		}
		unlock()
	}
	switch {
	case k.RAM == "":
	case err == nil:
		err = durable.Remove(filepath.Join(k.RAM, selfName))
	case !k.inRAM:
		err = errors.Join(err, k.store.writeSelf(k.RAM, k.made))
	}
	k.seen = k.look()
	if st := k.store.Read(now); st.Current != nil && !st.renew {
		k.made = nil
		k.take(st, now)
	}
	return err
}

// publish writes the fingerprint for the terminals, when it is another one.
func (k *Keeper) publish() error {
	sum := k.Fingerprint()
	if sum == k.published {
		return nil
	}
	err := durable.WriteFile(filepath.Join(k.RunDir, fingerprintName), []byte(sum+"\n"), 0o640)
	if err == nil {
		k.published = sum
	}
	return err
}

// Run is Keep, and then follows the store until ctx ends: what is uploaded or
// reset is served within seconds, connections that stand are not touched, and a
// self-signed certificate is made anew a month before its end.
func (k *Keeper) Run(ctx context.Context, hostname func() string, addrs func() []netip.Addr) error {
	if err := k.Keep(ctx, hostname(), addrs); err != nil {
		k.warn("certificate: not kept, and made anew at the next start", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(poll):
		}
		if ctx.Err() != nil {
			return nil
		}
		k.follow(ctx, time.Now(), hostname, addrs)
	}
}

// follow looks at the files once.
func (k *Keeper) follow(ctx context.Context, now time.Time, hostname func() string, addrs func() []netip.Addr) {
	seen := k.look()
	changed := !same(seen, k.seen)
	waits := k.made != nil || k.inRAM // to be stored
	if !changed && now.Before(k.again) || !changed && !waits && later(now).Before(k.changes) {
		return
	}
	k.seen = seen
	before, st := k.Fingerprint(), k.store.Read(now)
	needed := st.renew && (st.Current == nil || st.Self)
	switch {
	case !needed:
		k.made = nil
		k.take(st, now)
		if k.inRAM {
			k.made = st.Current
		}
	case k.made != nil:
		k.self = true
		k.current.Store(k.made)
	default:
		k.self = true
		if err := k.make(now, k.names(hostname(), addrs())); err != nil {
			k.warn("certificate: none can be made", err)
		}
	}
	if k.made != nil {
		if err := k.keep(ctx, now); err != nil && err.Error() != k.failed {
			k.failed = err.Error()
			k.warn("certificate: it cannot be stored", err)
		}
	}
	if err := k.publish(); err != nil {
		k.warn("certificate: fingerprint", err)
	}
	if k.Log != nil && k.Fingerprint() != before {
		k.Log.Info("certificate: another one is served", "sha256", k.Fingerprint(), "self-signed", k.self)
	}
	if k.Log != nil && st.Problem != nil && changed {
		k.Log.Warn("certificate: the uploaded one is not used", "why", st.Problem.Code)
	}
}

func (k *Keeper) warn(text string, err error) {
	if k.Log != nil {
		k.Log.Warn(text, "error", err)
	}
}

// Certificate is for tls.Config.GetCertificate.
func (k *Keeper) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return k.current.Load(), nil
}

// Fingerprint returns the SHA-256 fingerprint of the certificate in use, as
// browsers show it: "AB:CD:…".
func (k *Keeper) Fingerprint() string { return Sum(k.current.Load().Leaf) }

package dhcp

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Phase is a state of the Machine.
type Phase string

// The phases, drawn in the package comment.
const (
	Down       Phase = "down"
	Pausing    Phase = "pausing"
	Selecting  Phase = "selecting"
	Requesting Phase = "requesting"
	Rebooting  Phase = "rebooting"
	Probing    Phase = "probing"
	Bound      Phase = "bound"
	Renewing   Phase = "renewing"
	Rebinding  Phase = "rebinding"
)

// Times of RFC 2131.
const (
	firstRetry     = 4 * time.Second  // 4.1, doubled with each message
	lastRetry      = 64 * time.Second // 4.1
	retryJitter    = time.Second      // 4.1, to either side
	leaseRetry     = time.Minute      // 4.4.5, least time between renewals
	declinePause   = 10 * time.Second // 3.1, 5
	requestTries   = 4                // 3.1, 5 and 4.4.1
	rebootTries    = 3                // ours: 4 + 8 + 16 s
	unconfirmedTry = 5 * time.Minute  // ours: most time between asking for a lease that nobody has confirmed
	maxNAKPause    = 64 * time.Second // ours: between exchanges that end in NAK
)

// Message is a DHCP message to be sent.
type Message struct {
	*dhcpv4.DHCPv4
	// From is the own address; without one, the message goes to the link by a
	// packet socket, from 0.0.0.0.
	From netip.Addr
	To   netip.Addr // a server, or the broadcast address
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Output is what is to be done after a step, in this order.
type Output struct {
	Unbind bool       // the last lease, known or held, is void
	Bind   *Lease     // the address is ours: new, or as before with other times or options
	Send   *Message   // nil: nothing
	Probe  netip.Addr // valid: find out whether somebody has it, then call Probed
}

// Machine is the client's state. Its methods must be called with a time that
// does not go back, and what they return must be done.
type Machine struct {
	id   Identity
	rand *rand.Rand
	log  *slog.Logger

	phase Phase
	next  time.Time // when Tick is due; zero: never

	lease *Lease // to be confirmed, being probed, or held
	held  bool   // the host has lease's address

	trans transaction
	tries int // messages sent in this phase
	naks  int // since the last lease

	offer      *Lease     // Requesting
	discovered time.Time  // Requesting: when the last DISCOVER was sent
	wish       netip.Addr // Selecting: an earlier address
	then       Phase      // Probing: what follows when the address is free
	confirmed  bool       // a server has confirmed lease since the carrier came
	complaints int        // about messages in this phase
	told       string     // about the last ACK's options
}

// maxComplaints is how many messages that cannot be used are logged in one
// phase: anybody on the link can send them without end.
const maxComplaints = 8

// complain logs why a message of a server is not used.
func (m *Machine) complain(what string, msg *dhcpv4.DHCPv4, args ...any) {
	if m.complaints++; m.complaints <= maxComplaints {
		m.log.Warn(what, append(args, "address", msg.YourIPAddr, "server", msg.ServerIdentifier())...)
	}
}

// NewMachine returns a Machine without carrier. known is a lease of earlier, or
// nil; held says that the host has its address.
func NewMachine(id Identity, known *Lease, held bool, r *rand.Rand, log *slog.Logger) *Machine {
	return &Machine{id: id, rand: r, log: log, phase: Down, lease: known, held: held && known != nil}
}

// Phase returns the current state.
func (m *Machine) Phase() Phase { return m.phase }

// Lease returns the lease whose address the host has, or nil.
func (m *Machine) Lease() *Lease {
	if !m.held {
		return nil
	}
	return m.lease
}

// Listening reports whether answers of a server are awaited.
func (m *Machine) Listening() bool {
	switch m.phase {
	case Selecting, Requesting, Rebooting, Renewing, Rebinding:
		return true
	}
	return false
}

// Next returns when Tick is to be called; the zero Time is never.
func (m *Machine) Next() time.Time {
	if m.held {
		if end := m.lease.Expires(); !end.IsZero() && (m.next.IsZero() || end.Before(m.next)) {
			return end
		}
	}
	return m.next
}

// Carrier tells that the link has come or gone. Without it the address stays
// until the lease ends: a pulled cable comes back in most cases.
func (m *Machine) Carrier(now time.Time, up bool) Output {
	switch {
	case !up:
		if m.phase != Down {
			m.log.Info("no carrier")
		}
		m.enter(Down, time.Time{})
	case m.phase == Down:
		if m.lease != nil && !m.lease.Over(now) {
			return m.reboot(now)
		}
		if m.lease != nil {
			m.wish = m.lease.Address.Addr()
		}
		out := Output{Unbind: m.drop()}
		out.Send = m.discover(now)
		return out
	}
	return Output{}
}

// Tick does what is due at the time Next.
func (m *Machine) Tick(now time.Time) Output {
	if n := m.Next(); n.IsZero() || now.Before(n) {
		return Output{}
	}
	if m.held && m.lease.Over(now) {
		m.log.Warn("lease ended", "address", m.lease.Address, "server", m.lease.Server)
		m.wish = m.lease.Address.Addr()
		out := Output{Unbind: m.drop()}
		if m.phase != Down {
			out.Send = m.discover(now)
		}
		return out
	}
	switch m.phase {
	case Pausing:
		return Output{Send: m.discover(now)}
	case Selecting:
		return Output{Send: m.sendDiscover(now)}
	case Requesting:
		if m.tries < requestTries {
			return Output{Send: m.sendRequest(now)}
		}
		m.log.Warn("no answer to the request", "address", m.offer.Address, "server", m.offer.Server)
		return Output{Send: m.discover(now)}
	case Rebooting:
		if m.tries < rebootTries {
			return Output{Send: m.sendReboot(now)}
		}
		return m.unanswered(now)
	case Bound:
		return Output{Send: m.renew(now)}
	case Renewing:
		return Output{Send: m.renew(now)}
	case Rebinding:
		return Output{Send: m.rebind(now)}
	}
	m.next = time.Time{}
	return Output{}
}

// Probed tells the answer to Output.Probe: who else has the address, or nil.
func (m *Machine) Probed(now time.Time, a netip.Addr, owner net.HardwareAddr) Output {
	if m.phase != Probing || m.lease.Address.Addr() != a {
		return Output{}
	}
	if owner == nil && m.lease.Over(now) { // it was about to end
		m.wish = a
		out := Output{Unbind: m.drop()}
		out.Send = m.discover(now)
		return out
	}
	if owner == nil {
		return m.bind(now, m.lease, m.then)
	}
	m.log.Warn("address is in use by another machine", "address", a, "machine", owner.String(), "server", m.lease.Server)
	server := m.lease.Server
	out := Output{Unbind: m.drop()}
	m.wish = netip.Addr{}
	m.enter(Pausing, now.Add(declinePause))
	msg := m.id.message(begin(now, m.rand), now, dhcpv4.MessageTypeDecline, requested(a), serverID(server))
	out.Send = &Message{DHCPv4: msg, To: broadcast}
	return out
}

// Release gives the lease back (RFC 2131, 4.4.6), if the host has one, and goes
// Down: another Carrier starts from nothing. The message must leave before the
// address goes.
func (m *Machine) Release(now time.Time) Output {
	var out Output
	if m.held && m.phase != Down {
		m.log.Info("lease is given back", "address", m.lease.Address, "server", m.lease.Server)
		msg := m.id.message(begin(now, m.rand), now, dhcpv4.MessageTypeRelease, serverID(m.lease.Server))
		msg.ClientIPAddr = m.lease.Address.Addr().AsSlice()
		out.Send = &Message{DHCPv4: msg, From: m.lease.Address.Addr(), To: m.lease.Server}
	}
	out.Unbind = m.drop()
	m.wish = netip.Addr{}
	m.enter(Down, time.Time{})
	return out
}

// enter changes the phase.
func (m *Machine) enter(p Phase, next time.Time) {
	m.phase, m.next, m.tries, m.offer, m.complaints = p, next, 0, nil, 0
}

// drop forgets the lease and reports whether there was one.
func (m *Machine) drop() bool {
	had := m.lease != nil
	m.lease, m.held, m.confirmed = nil, false, false
	return had
}

// retry sets when the next message of the phase is due (RFC 2131, 4.1).
func (m *Machine) retry(now time.Time) {
	d := min(firstRetry<<min(m.tries, 8), lastRetry)
	m.tries++
	m.next = now.Add(d + time.Duration(m.rand.Int64N(int64(2*retryJitter)+1)) - retryJitter)
}

// discover starts from nothing. The random wait before the first message
// (4.4.1) is left out: appliances are not switched on by the hundred.
func (m *Machine) discover(now time.Time) *Message {
	m.enter(Selecting, time.Time{})
	m.trans = begin(now, m.rand)
	return m.sendDiscover(now)
}

func (m *Machine) sendDiscover(now time.Time) *Message {
	m.retry(now)
	m.discovered = now
	msg := m.id.message(m.trans, now, dhcpv4.MessageTypeDiscover)
	if m.wish.IsValid() {
		msg.UpdateOption(requested(m.wish))
	}
	return &Message{DHCPv4: msg, To: broadcast}
}

func (m *Machine) sendRequest(now time.Time) *Message {
	if m.tries == 0 {
		m.trans.sent = now
	}
	m.retry(now)
	msg := m.id.message(m.trans, m.discovered, dhcpv4.MessageTypeRequest,
		requested(m.offer.Address.Addr()), serverID(m.offer.Server))
	return &Message{DHCPv4: msg, To: broadcast}
}

// reboot asks whether the known lease still holds (RFC 2131, 3.2).
func (m *Machine) reboot(now time.Time) Output {
	m.enter(Rebooting, time.Time{})
	m.confirmed = false
	m.trans = begin(now, m.rand)
	return Output{Send: m.sendReboot(now)}
}

func (m *Machine) sendReboot(now time.Time) *Message {
	m.retry(now)
	msg := m.id.message(m.trans, now, dhcpv4.MessageTypeRequest, requested(m.lease.Address.Addr()))
	return &Message{DHCPv4: msg, To: broadcast}
}

// unanswered goes on with a known lease that nobody has confirmed or denied, as
// RFC 2131, 3.2, 4 allows, but goes on asking everybody.
func (m *Machine) unanswered(now time.Time) Output {
	if m.lease.Over(now) {
		m.wish = m.lease.Address.Addr()
		out := Output{Unbind: m.drop()}
		out.Send = m.discover(now)
		return out
	}
	m.log.Warn("no server answers: the known lease is used until it ends", "address", m.lease.Address, "server", m.lease.Server)
	if m.held {
		m.enter(Rebinding, time.Time{})
		return Output{Send: m.rebind(now)}
	}
	return m.probe(Rebinding)
}

// probe has the lease's address probed before it is used.
func (m *Machine) probe(then Phase) Output {
	m.enter(Probing, time.Time{})
	m.then = then
	return Output{Probe: m.lease.Address.Addr()}
}

// bind starts to use the lease.
func (m *Machine) bind(now time.Time, l *Lease, p Phase) Output {
	m.log.Info("lease", "address", l.Address, "server", l.Server, "for", l.Length)
	m.lease, m.held, m.naks, m.wish = l, true, 0, netip.Addr{}
	out := Output{Bind: l}
	m.enter(p, time.Time{})
	if p == Rebinding {
		out.Send = m.rebind(now)
		return out
	}
	if l.Length != Forever {
		// RFC 2131, 4.4.5: some randomness, so that machines started at
		// once do not ask at once for ever.
		early := time.Duration(m.rand.Int64N(int64(l.Renew/50) + 1))
		m.next = l.Acquired.Add(l.Renew - early)
	}
	return out
}

// renew asks the lease's server for more time, from T1 to T2.
func (m *Machine) renew(now time.Time) *Message {
	t2 := m.lease.Acquired.Add(m.lease.Rebind)
	if !now.Before(t2) {
		return m.rebind(now)
	}
	if m.phase != Renewing {
		m.enter(Renewing, time.Time{})
	}
	m.next = earlier(t2, now.Add(max(t2.Sub(now)/2, leaseRetry)))
	return m.extend(now, m.lease.Server)
}

// rebind asks every server for more time, from T2 to the lease's end.
func (m *Machine) rebind(now time.Time) *Message {
	if m.phase != Rebinding {
		m.enter(Rebinding, time.Time{})
	}
	wait := leaseRetry
	if end := m.lease.Expires(); !end.IsZero() {
		wait = max(end.Sub(now)/2, leaseRetry)
	}
	if !m.confirmed {
		wait = min(wait, unconfirmedTry)
	}
	m.next = now.Add(wait) // Next knows the lease's end
	return m.extend(now, broadcast)
}

func (m *Machine) extend(now time.Time, to netip.Addr) *Message {
	started := m.trans.started
	if m.tries == 0 {
		started = now
	}
	m.tries++
	m.trans = begin(now, m.rand)
	m.trans.started = started
	self := m.lease.Address.Addr()
	msg := m.id.message(m.trans, now, dhcpv4.MessageTypeRequest)
	msg.ClientIPAddr = self.AsSlice()
	return &Message{DHCPv4: msg, From: self, To: to}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Receive takes a message from the link. Whatever does not answer the message
// sent last is ignored.
func (m *Machine) Receive(now time.Time, msg *dhcpv4.DHCPv4) Output {
	if !m.Listening() || msg.OpCode != dhcpv4.OpcodeBootReply || msg.TransactionID != m.trans.xid ||
		!bytes.Equal(msg.ClientHWAddr, m.id.HardwareAddr) {
		return Output{}
	}
	switch msg.MessageType() {
	case dhcpv4.MessageTypeOffer:
		if m.phase == Selecting {
			return m.offered(now, msg)
		}
	case dhcpv4.MessageTypeAck:
		if m.phase != Selecting {
			return m.acked(now, msg)
		}
	case dhcpv4.MessageTypeNak:
		if m.phase != Selecting {
			return m.naked(now, msg)
		}
	}
	return Output{}
}

// offered takes the first offer that can be used.
func (m *Machine) offered(now time.Time, msg *dhcpv4.DHCPv4) Output {
	l, _, err := Parse(msg, now, nil)
	if err != nil {
		m.complain("offer refused", msg, "err", err)
		return Output{}
	}
	m.enter(Requesting, time.Time{})
	m.offer = l
	return Output{Send: m.sendRequest(now)}
}

func (m *Machine) acked(now time.Time, msg *dhcpv4.DHCPv4) Output {
	asked, prev := m.lease, m.lease
	if m.phase == Requesting {
		asked, prev = m.offer, nil
	}
	l, problems, err := Parse(msg, m.trans.sent, prev)
	switch {
	case err != nil:
		m.complain("lease refused", msg, "err", err)
		return Output{}
	case l.Address.Addr() != asked.Address.Addr():
		m.complain("lease refused: not the address that was asked for", msg, "want", asked.Address.Addr())
		return Output{}
	case m.phase == Requesting && l.Server != asked.Server:
		m.complain("lease refused: not the server that was asked", msg, "want", asked.Server)
		return Output{}
	case l.Over(now):
		m.complain("lease refused: it has ended already", msg, "for", l.Length)
		return Output{}
	}
	m.told = m.tell(problems, l.Server, m.told)
	m.confirmed = true
	if m.held {
		return m.bind(now, l, Bound)
	}
	m.lease = l
	return m.probe(Bound)
}

// tell logs which options are not used, unless the last ACK had the same ones,
// and returns them.
func (m *Machine) tell(problems []error, server netip.Addr, before string) string {
	text := fmt.Sprint(server, problems)
	if text == before {
		return text
	}
	for _, p := range problems[:min(len(problems), maxComplaints)] {
		m.log.Warn("option of the lease is not used", "server", server, "err", p)
	}
	return text
}

// naked starts again: at once the first time, then with growing pauses.
func (m *Machine) naked(now time.Time, msg *dhcpv4.DHCPv4) Output {
	if m.phase == Requesting {
		if s, ok := netip.AddrFromSlice(msg.ServerIdentifier().To4()); ok && s != m.offer.Server {
			return Output{}
		}
	}
	m.log.Warn("request refused by the server", "server", msg.ServerIdentifier(), "phase", string(m.phase), "message", cut(msg.Message()))
	out := Output{Unbind: m.drop()}
	m.wish = netip.Addr{}
	m.naks++
	if m.naks == 1 {
		out.Send = m.discover(now)
		return out
	}
	m.enter(Pausing, now.Add(min(time.Second<<min(m.naks-2, 10), maxNAKPause)))
	return out
}

// cut bounds a server's text in the log.
func cut(s string) string { return s[:min(len(s), 128)] }

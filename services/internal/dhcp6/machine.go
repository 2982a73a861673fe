package dhcp6

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// Mode is what is asked for.
type Mode string

// The modes.
const (
	Off       Mode = "off"
	Stateless Mode = "stateless" // settings alone
	Stateful  Mode = "stateful"  // an address, and settings
)

// Phase is a state of the Machine.
type Phase string

// The phases, drawn in the package comment.
const (
	Down       Phase = "down"
	Pausing    Phase = "pausing"
	Soliciting Phase = "soliciting"
	Requesting Phase = "requesting"
	Confirming Phase = "confirming"
	Bound      Phase = "bound"
	Renewing   Phase = "renewing"
	Rebinding  Phase = "rebinding"
	Asking     Phase = "asking"
	Informed   Phase = "informed"
)

// pace is how messages of a phase are repeated (RFC 8415, 15 and 7.6).
type pace struct {
	first, most time.Duration
	tries       int           // 0: without end
	limit       time.Duration // 0: none
}

var paces = map[Phase]pace{
	Soliciting: {first: time.Second, most: time.Hour},
	Requesting: {first: time.Second, most: 30 * time.Second, tries: 10},
	Confirming: {first: time.Second, most: 4 * time.Second, limit: 10 * time.Second},
	Renewing:   {first: 10 * time.Second, most: 10 * time.Minute},
	Rebinding:  {first: 10 * time.Second, most: 10 * time.Minute},
	Asking:     {first: time.Second, most: time.Hour},
}

const (
	declinePause = 10 * time.Second // ours: before asking again after a duplicate
	refresh      = 24 * time.Hour   // RFC 8415, 7.6: IRT_DEFAULT
	minRefresh   = 10 * time.Minute // IRT_MINIMUM
)

// Identity is how the client names itself: by DUID-LL (RFC 8415, 11.4), which
// survives a new installation as the address of the card does.
type Identity struct{ HardwareAddr net.HardwareAddr }

func (id Identity) duid() dhcpv6.DUID {
	return &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: id.HardwareAddr}
}

func (id Identity) iaid() (b [4]byte) {
	copy(b[:], id.HardwareAddr[max(len(id.HardwareAddr)-4, 0):])
	return b
}

// Output is what is to be done after a step, in this order.
type Output struct {
	Unbind bool   // nothing of the last lease holds any more
	Bind   *Lease // new, or as before with other times or settings
	Send   *dhcpv6.Message
}

// Machine is the client's state. Its methods must be called with a time that
// does not go back, and what they return must be done.
type Machine struct {
	id   Identity
	rand *rand.Rand
	log  *slog.Logger

	mode  Mode
	up    bool
	phase Phase
	next  time.Time // when Tick is due; zero: never

	lease      *Lease // bound, or informed of
	offer      *Lease // Requesting
	xid        dhcpv6.TransactionID
	started    time.Time     // of the exchange
	wait       time.Duration // before the next repetition
	tries      int
	complaints int
}

// maxComplaints is how many messages that cannot be used are logged in one
// phase: anybody on the link can send them without end.
const maxComplaints = 8

// NewMachine returns a Machine that asks for nothing.
func NewMachine(id Identity, r *rand.Rand, log *slog.Logger) *Machine {
	return &Machine{id: id, rand: r, log: log, mode: Off, phase: Down}
}

// Phase returns the current state.
func (m *Machine) Phase() Phase { return m.phase }

// Listening reports whether answers of a server are awaited.
func (m *Machine) Listening() bool { _, ok := paces[m.phase]; return ok }

// Next returns when Tick is to be called; the zero Time is never.
func (m *Machine) Next() time.Time {
	if m.lease != nil {
		if end := m.lease.Expires(); !end.IsZero() && (m.next.IsZero() || end.Before(m.next)) {
			return end
		}
	}
	return m.next
}

// Follow tells whether the link works and what is wanted. Without a carrier the
// address stays until it ends, and is confirmed when the link is back (RFC 8415,
// 18.2.3). An address that is not wanted any more is given back.
func (m *Machine) Follow(now time.Time, up bool, mode Mode) Output {
	came := up && !m.up
	changed := mode != m.mode
	m.up, m.mode = up, mode
	switch {
	case mode == Off || changed && m.lease != nil && m.lease.Address.IsValid():
		var out Output
		if changed && up && m.lease != nil && m.lease.Address.IsValid() {
			m.log.Info("address is given back", "address", m.lease.Address, "server", m.lease.Server)
			out.Send = m.message(now, dhcpv6.MessageTypeRelease, m.lease)
		}
		out.Unbind = m.drop()
		m.enter(now, Down)
		if mode != Off && up {
			m.next = now // begin with the next step: the release goes first
			m.phase = Pausing
		}
		return out
	case !up:
		m.enter(now, Down)
		return Output{}
	case !came && !changed:
		return Output{}
	case m.lease != nil && m.lease.Address.IsValid():
		m.enter(now, Confirming)
		return Output{Send: m.send(now)}
	}
	return Output{Send: m.begin(now)}
}

// begin starts from nothing.
func (m *Machine) begin(now time.Time) *dhcpv6.Message {
	if m.mode == Stateless {
		m.enter(now, Asking)
	} else {
		m.enter(now, Soliciting)
	}
	return m.send(now)
}

// enter changes the phase and begins an exchange where it has one.
func (m *Machine) enter(now time.Time, p Phase) {
	m.phase, m.next, m.tries, m.complaints, m.started = p, time.Time{}, 0, 0, now
	if p != Requesting {
		m.offer = nil
	}
	n := m.rand.Uint32()
	m.xid = dhcpv6.TransactionID{byte(n), byte(n >> 8), byte(n >> 16)}
}

// drop forgets the lease and reports whether there was one.
func (m *Machine) drop() bool {
	had := m.lease != nil
	m.lease = nil
	return had
}

// send returns the phase's message and sets when it is repeated.
func (m *Machine) send(now time.Time) *dhcpv6.Message {
	p := paces[m.phase]
	jitter := func(d time.Duration) time.Duration { return d/10 - time.Duration(m.rand.Int64N(int64(d/5)+1)) }
	switch {
	case m.tries == 0 && m.phase == Soliciting: // RFC 8415, 18.2.1: only later
		m.wait = p.first + time.Duration(m.rand.Int64N(int64(p.first/10)+1))
	case m.tries == 0:
		m.wait = p.first + jitter(p.first)
	default:
		m.wait = 2*m.wait + jitter(m.wait)
	}
	if m.wait > p.most {
		m.wait = p.most + jitter(p.most)
	}
	m.tries++
	m.next = now.Add(m.wait)
	switch m.phase {
	case Soliciting:
		return m.message(now, dhcpv6.MessageTypeSolicit, nil)
	case Requesting:
		return m.message(now, dhcpv6.MessageTypeRequest, m.offer)
	case Confirming:
		return m.message(now, dhcpv6.MessageTypeConfirm, m.lease)
	case Renewing:
		return m.message(now, dhcpv6.MessageTypeRenew, m.lease)
	case Rebinding:
		return m.message(now, dhcpv6.MessageTypeRebind, m.lease)
	}
	return m.message(now, dhcpv6.MessageTypeInformationRequest, nil)
}

// message returns a message about the lease, or nil's.
func (m *Machine) message(now time.Time, kind dhcpv6.MessageType, l *Lease) *dhcpv6.Message {
	msg := &dhcpv6.Message{MessageType: kind, TransactionID: m.xid}
	msg.AddOption(dhcpv6.OptClientID(m.id.duid()))
	elapsed := min(max(now.Sub(m.started), 0), 65535*10*time.Millisecond)
	msg.AddOption(dhcpv6.OptElapsedTime(elapsed))
	if kind != dhcpv6.MessageTypeConfirm && kind != dhcpv6.MessageTypeRelease && kind != dhcpv6.MessageTypeDecline {
		codes := []dhcpv6.OptionCode{dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList, dhcpv6.OptionNTPServer, dhcpv6.OptionSNTPServerList}
		if kind == dhcpv6.MessageTypeInformationRequest {
			codes = append(codes, dhcpv6.OptionInformationRefreshTime)
		}
		msg.AddOption(dhcpv6.OptRequestedOption(codes...))
	}
	if kind == dhcpv6.MessageTypeInformationRequest {
		return msg
	}
	ia := &dhcpv6.OptIANA{IaId: m.id.iaid()}
	if l != nil {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: l.Address.AsSlice()})
		if kind != dhcpv6.MessageTypeConfirm && kind != dhcpv6.MessageTypeRebind {
			if server, err := dhcpv6.DUIDFromBytes(l.server); err == nil {
				msg.AddOption(dhcpv6.OptServerID(server))
			}
		}
	}
	msg.AddOption(ia)
	return msg
}

// Tick does what is due at the time Next.
func (m *Machine) Tick(now time.Time) Output {
	if n := m.Next(); n.IsZero() || now.Before(n) {
		return Output{}
	}
	if m.lease != nil && m.lease.Over(now) {
		m.log.Warn("address ended", "address", m.lease.Address, "server", m.lease.Server)
		out := Output{Unbind: m.drop()}
		if m.up && m.mode != Off {
			out.Send = m.begin(now)
		} else {
			m.enter(now, Down)
		}
		return out
	}
	p := paces[m.phase]
	switch m.phase {
	case Pausing, Informed:
		return Output{Send: m.begin(now)}
	case Bound:
		m.enter(now, Renewing)
	case Renewing:
		if !now.Before(m.lease.Acquired.Add(m.lease.Rebind)) {
			m.enter(now, Rebinding)
		}
	case Requesting:
		if m.tries >= p.tries {
			m.log.Warn("no answer to the request", "address", m.offer.Address, "server", m.offer.Server)
			return Output{Send: m.begin(now)}
		}
	case Confirming:
		if now.Sub(m.started) >= p.limit { // nobody objects
			m.bound(now)
			return Output{}
		}
	case Down:
		m.next = time.Time{}
		return Output{}
	}
	out := Output{Send: m.send(now)}
	if m.phase == Renewing {
		if t2 := m.lease.Acquired.Add(m.lease.Rebind); m.lease.Rebind < Forever && t2.Before(m.next) {
			m.next = t2
		}
	}
	return out
}

// bound waits for T1 of the lease.
func (m *Machine) bound(now time.Time) {
	m.enter(now, Bound)
	if m.lease.Renew < Forever {
		m.next = m.lease.Acquired.Add(m.lease.Renew)
	}
}

// Duplicate tells that another machine has the address: it is declined (RFC
// 8415, 18.2.8), and another one asked for after a pause.
func (m *Machine) Duplicate(now time.Time, a netip.Addr) Output {
	if m.lease == nil || m.lease.Address != a {
		return Output{}
	}
	m.log.Warn("address is in use by another machine", "address", a, "server", m.lease.Server)
	m.enter(now, Pausing)
	m.next = now.Add(declinePause)
	out := Output{Send: m.message(now, dhcpv6.MessageTypeDecline, m.lease)}
	out.Unbind = m.drop()
	return out
}

// complain logs why a message of a server is not used.
func (m *Machine) complain(what string, from netip.Addr, err error) {
	if m.complaints++; m.complaints <= maxComplaints {
		m.log.Warn(what, "server", from, "phase", string(m.phase), "err", err)
	}
}

// Receive takes a message from the link. Whatever does not answer the message
// sent last is ignored.
func (m *Machine) Receive(now time.Time, from netip.Addr, msg *dhcpv6.Message) Output {
	client := msg.Options.ClientID()
	if !m.Listening() || msg.TransactionID != m.xid || client == nil || !bytes.Equal(client.ToBytes(), m.id.duid().ToBytes()) || msg.Options.ServerID() == nil {
		return Output{}
	}
	switch msg.MessageType {
	case dhcpv6.MessageTypeAdvertise:
		if m.phase == Soliciting {
			return m.advertised(now, from, msg)
		}
	case dhcpv6.MessageTypeReply:
		switch m.phase {
		case Soliciting:
		case Asking:
			return m.told(now, from, msg)
		case Confirming:
			return m.confirmed(now, from, msg)
		default:
			return m.replied(now, from, msg)
		}
	}
	return Output{}
}

// advertised takes the first offer that can be used.
func (m *Machine) advertised(now time.Time, from netip.Addr, msg *dhcpv6.Message) Output {
	l, err := m.id.parse(msg, from, now)
	if err != nil {
		m.complain("offer refused", from, err)
		return Output{}
	}
	m.enter(now, Requesting)
	m.offer = l
	return Output{Send: m.send(now)}
}

// told takes settings.
func (m *Machine) told(now time.Time, from netip.Addr, msg *dhcpv6.Message) Output {
	if err := status(msg.Options.Status()); err != nil {
		m.complain("settings refused", from, err)
		return Output{}
	}
	l := &Lease{Server: from.WithZone(""), Acquired: m.started}
	settings(msg, l)
	l.Renew = min(max(msg.Options.InformationRefreshTime(refresh), minRefresh), Forever)
	m.lease = l
	m.enter(now, Informed)
	if l.Renew < Forever {
		m.next = now.Add(l.Renew)
	}
	m.log.Info("settings", "server", from, "dns", l.DNS)
	return Output{Bind: l}
}

func (m *Machine) confirmed(now time.Time, from netip.Addr, msg *dhcpv6.Message) Output {
	if err := status(msg.Options.Status()); err != nil {
		m.log.Warn("address does not belong on this link", "address", m.lease.Address, "server", from, "err", err)
		out := Output{Unbind: m.drop()}
		out.Send = m.begin(now)
		return out
	}
	m.bound(now)
	return Output{}
}

// replied takes the answer to Request, Renew or Rebind.
func (m *Machine) replied(now time.Time, from netip.Addr, msg *dhcpv6.Message) Output {
	asked := m.lease
	if m.phase == Requesting {
		asked = m.offer
	}
	if m.phase != Rebinding && !asked.same(msg) {
		return Output{}
	}
	l, err := m.id.parse(msg, from, m.started)
	var st *statusError
	switch {
	case err == nil:
	case errors.As(err, &st) && st.code == iana.StatusNoBinding && m.phase != Requesting:
		// RFC 8415, 18.2.10.1: the server has forgotten us, ask for the same.
		m.log.Warn("server does not know the address", "address", asked.Address, "server", from)
		m.enter(now, Requesting)
		m.offer = asked
		if id := msg.Options.ServerID(); id != nil {
			again := *asked
			again.server = id.ToBytes()
			m.offer = &again
		}
		return Output{Send: m.send(now)}
	case errors.As(err, &st) && (st.code == iana.StatusNoAddrsAvail || st.code == iana.StatusNotOnLink), errors.Is(err, errNone) && m.phase == Requesting:
		m.complain("no address", from, err)
		out := Output{Unbind: m.drop()}
		m.enter(now, Pausing)
		m.next = now.Add(declinePause)
		return out
	default:
		m.complain("answer refused", from, err)
		return Output{}
	}
	if l.Over(now) {
		m.complain("answer refused", from, errors.New("the lease has ended already"))
		return Output{}
	}
	m.log.Info("lease", "address", l.Address, "server", from, "for", l.Length)
	m.lease = l
	m.bound(now)
	return Output{Bind: l}
}

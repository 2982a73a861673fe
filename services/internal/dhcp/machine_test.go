package dhcp

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// bench is a machine, its clock and its log.
type bench struct {
	*Machine
	now  time.Time
	logs bytes.Buffer
}

func newBench(known *Lease, held bool) *bench {
	b := &bench{now: noon}
	b.Machine = NewMachine(identity, known, held, generator(), slog.New(slog.NewTextHandler(&b.logs, nil)))
	return b
}

// due lets the time pass until Next.
func (b *bench) due(t *testing.T) Output {
	t.Helper()
	if b.Next().IsZero() {
		t.Fatalf("nothing is due in %s", b.Phase())
	}
	if b.Next().After(b.now) {
		b.now = b.Next()
	}
	return b.Tick(b.now)
}

// phases bring a fresh bench into each phase that hears servers, and return
// what was sent last.
var phases = map[Phase]func(t *testing.T) (*bench, *dhcpv4.DHCPv4){
	Selecting: func(t *testing.T) (*bench, *dhcpv4.DHCPv4) {
		b := newBench(nil, false)
		return b, b.Carrier(b.now, true).Send.DHCPv4
	},
	Requesting: func(t *testing.T) (*bench, *dhcpv4.DHCPv4) {
		b := newBench(nil, false)
		req := b.Carrier(b.now, true).Send
		return b, b.Receive(b.now, answer(req.DHCPv4, dhcpv4.MessageTypeOffer, first)).Send.DHCPv4
	},
	Rebooting: func(t *testing.T) (*bench, *dhcpv4.DHCPv4) {
		b := newBench(knownLease(noon), true)
		return b, b.Carrier(b.now, true).Send.DHCPv4
	},
	Renewing: func(t *testing.T) (*bench, *dhcpv4.DHCPv4) {
		b := hold(t)
		return b, b.due(t).Send.DHCPv4
	},
	Rebinding: func(t *testing.T) (*bench, *dhcpv4.DHCPv4) {
		b := hold(t)
		for {
			if out := b.due(t); b.Phase() == Rebinding {
				return b, out.Send.DHCPv4
			}
		}
	},
}

// hold returns a bench in Bound.
func hold(t *testing.T, options ...dhcpv4.Option) *bench {
	t.Helper()
	b := newBench(nil, false)
	req := b.Carrier(b.now, true).Send
	req = b.Receive(b.now, answer(req.DHCPv4, dhcpv4.MessageTypeOffer, first, options...)).Send
	out := b.Receive(b.now, answer(req.DHCPv4, dhcpv4.MessageTypeAck, first, options...))
	if out.Probe != first {
		t.Fatalf("not probed: %+v\n%s", out, &b.logs)
	}
	if out = b.Probed(b.now, first, nil); out.Bind == nil || b.Phase() != Bound {
		t.Fatalf("not bound: %+v", out)
	}
	return b
}

// Each message as RFC 2131, table 5 wants it.
func TestMessages(t *testing.T) {
	for phase, start := range phases {
		b, req := start(t)
		if b.Phase() != phase {
			t.Fatalf("in %s, want %s", b.Phase(), phase)
		}
		req, err := dhcpv4.FromBytes(req.ToBytes()) // as it goes over the wire
		if err != nil {
			t.Fatal(err)
		}
		kind := dhcpv4.MessageTypeRequest
		if phase == Selecting {
			kind = dhcpv4.MessageTypeDiscover
		}
		if req.MessageType() != kind || req.OpCode != dhcpv4.OpcodeBootRequest || req.ClientHWAddr.String() != mac.String() {
			t.Errorf("%s: %v", phase, req)
		}
		if got, want := req.ServerIdentifier() != nil, phase == Requesting; got != want {
			t.Errorf("%s: server identifier %v, want %v", phase, got, want)
		}
		if got, want := req.RequestedIPAddress() != nil, phase == Requesting || phase == Rebooting; got != want {
			t.Errorf("%s: requested address %v, want %v", phase, got, want)
		}
		if got, want := !req.ClientIPAddr.IsUnspecified(), phase == Renewing || phase == Rebinding; got != want {
			t.Errorf("%s: client address %v, want %v", phase, got, want)
		}
		if id := req.Options.Get(dhcpv4.OptionClientIdentifier); !bytes.Equal(id, append([]byte{1}, mac...)) {
			t.Errorf("%s: client identifier %x", phase, id)
		}
		if req.HostName() != "parley" || req.IsBroadcast() {
			t.Errorf("%s: host name %q, broadcast %v", phase, req.HostName(), req.IsBroadcast())
		}
		if size, err := req.MaxMessageSize(); size != 1500 || err != nil {
			t.Errorf("%s: size %d, %v", phase, size, err)
		}
	}
	b, req := phases[Requesting](t)
	b.Receive(b.now, answer(req, dhcpv4.MessageTypeAck, first))
	decline := b.Probed(b.now, first, net.HardwareAddr{2, 2, 2, 2, 2, 2}).Send
	if decline.MessageType() != dhcpv4.MessageTypeDecline || decline.HostName() != "" || decline.ParameterRequestList() != nil ||
		!decline.ServerIdentifier().Equal(server.AsSlice()) || decline.To != broadcast || decline.From.IsValid() {
		t.Errorf("DECLINE: %v", decline)
	}
	b.id.Hostname = ""
	b.now = b.Next()
	if req := b.Tick(b.now).Send; req.Options.Has(dhcpv4.OptionHostName) {
		t.Error("a host name is sent although there is none")
	}
}

// Answers that are not to this client's last message change nothing.
func TestForeignAnswers(t *testing.T) {
	for phase, start := range phases {
		for name, spoil := range map[string]func(*dhcpv4.DHCPv4){
			"a request":         func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootRequest },
			"of another time":   func(m *dhcpv4.DHCPv4) { m.TransactionID[3]++ },
			"to another":        func(m *dhcpv4.DHCPv4) { m.ClientHWAddr[5]++ },
			"to nobody":         func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = nil },
			"to a longer one":   func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = append(m.ClientHWAddr, 0) },
			"without a type":    func(m *dhcpv4.DHCPv4) { m.Options.Del(dhcpv4.OptionDHCPMessageType) },
			"of a strange type": func(m *dhcpv4.DHCPv4) { m.UpdateOption(option(53, 99)) },
			"of a long type":    func(m *dhcpv4.DHCPv4) { m.UpdateOption(option(53, 5, 5)) },
			"an INFORM":         func(m *dhcpv4.DHCPv4) { m.UpdateOption(option(53, 8)) },
		} {
			b, req := start(t)
			next := b.Next()
			for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak} {
				m := answer(req, kind, first)
				spoil(m)
				if out := b.Receive(b.now, m); out != (Output{}) || b.Phase() != phase || b.Next() != next {
					t.Errorf("%s: %v %s: %+v, now in %s", phase, kind, name, out, b.Phase())
				}
			}
		}
		// Right answers to other questions.
		b, req := start(t)
		kinds := []dhcpv4.MessageType{dhcpv4.MessageTypeOffer}
		if phase == Selecting {
			kinds = []dhcpv4.MessageType{dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak}
		}
		for _, kind := range kinds {
			if out := b.Receive(b.now, answer(req, kind, first)); out != (Output{}) || b.Phase() != phase {
				t.Errorf("%s: %v is taken: %+v", phase, kind, out)
			}
		}
	}
	for _, p := range []Phase{Down, Pausing, Probing, Bound} {
		b := hold(t)
		b.phase = p
		req := &dhcpv4.DHCPv4{TransactionID: b.trans.xid, ClientHWAddr: mac}
		for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak} {
			if out := b.Receive(b.now, answer(req, kind, first)); out != (Output{}) || b.Phase() != p {
				t.Errorf("%s: %v is taken: %+v", p, kind, out)
			}
		}
	}
}

// ACKs that cannot be used are told a few times, and the exchange goes on.
func TestRefusedAnswers(t *testing.T) {
	other := option(54, 192, 0, 2, 99)
	for _, test := range []struct {
		phase   Phase
		a       netip.Addr
		options []dhcpv4.Option
		want    string
	}{
		{Requesting, second, nil, "not the address that was asked for"},
		{Renewing, second, nil, "not the address that was asked for"},
		{Rebinding, second, nil, "not the address that was asked for"},
		{Rebooting, second, nil, "not the address that was asked for"},
		{Requesting, first, []dhcpv4.Option{other}, "not the server that was asked"},
		{Requesting, first, []dhcpv4.Option{option(54)}, "no server identifier"},
		{Requesting, first, []dhcpv4.Option{option(54, 1)}, "server identifier of 1 bytes"},
		{Requesting, first, []dhcpv4.Option{option(51)}, "no lease time"},
		{Requesting, first, []dhcpv4.Option{option(51, 0, 0, 0, 3)}, "lease of 3s"},
		{Renewing, first, []dhcpv4.Option{option(51, 0, 0, 0, 0)}, "lease of 0s"},
		{Requesting, first, []dhcpv4.Option{option(1, 255, 0, 255, 0)}, "no row of ones"},
		{Requesting, netip.IPv4Unspecified(), nil, "0.0.0.0/8"},
		{Renewing, first, []dhcpv4.Option{option(54, 224, 0, 0, 1)}, "multicast"},
		{Selecting, netip.MustParseAddr("127.0.0.1"), nil, "loopback"},
		{Selecting, netip.MustParseAddr("255.255.255.255"), nil, "multicast or reserved"},
		{Selecting, netip.MustParseAddr("192.0.2.255"), nil, "broadcast address"},
	} {
		b, req := phases[test.phase](t)
		next := b.Next()
		kind := dhcpv4.MessageTypeAck
		if test.phase == Selecting {
			kind = dhcpv4.MessageTypeOffer
		}
		for range 100 {
			if out := b.Receive(b.now, answer(req, kind, test.a, test.options...)); out != (Output{}) || b.Phase() != test.phase || b.Next() != next {
				t.Fatalf("%s, %v %v: %+v", test.phase, test.a, test.options, out)
			}
		}
		if n := strings.Count(b.logs.String(), "refused"); n != maxComplaints || !strings.Contains(b.logs.String(), test.want) {
			t.Errorf("%s, %v %v: %d lines, want %d with %q:\n%.300s", test.phase, test.a, test.options, n, maxComplaints, test.want, &b.logs)
		}
		// The good answer behind them counts.
		good := first
		if out := b.Receive(b.now, answer(req, kind, good)); out == (Output{}) {
			t.Errorf("%s: the good answer is not taken", test.phase)
		}
	}
}

// A NAK that another server sends does not end an exchange with this one.
func TestNAKOfAnotherServer(t *testing.T) {
	b, req := phases[Requesting](t)
	if out := b.Receive(b.now, answer(req, dhcpv4.MessageTypeNak, netip.Addr{}, option(54, 192, 0, 2, 99))); out != (Output{}) {
		t.Errorf("taken: %+v", out)
	}
	if out := b.Receive(b.now, answer(req, dhcpv4.MessageTypeNak, netip.Addr{}, option(54))); b.Phase() != Selecting || out.Send == nil {
		t.Errorf("without a name it is not taken: %+v", out)
	}
}

// A server that gives and takes back is not asked without end.
func TestNAKPauses(t *testing.T) {
	b := newBench(nil, false)
	out := b.Carrier(b.now, true)
	var pauses []time.Duration
	for range 10 {
		out = b.Receive(b.now, answer(out.Send.DHCPv4, dhcpv4.MessageTypeOffer, first))
		out = b.Receive(b.now, answer(out.Send.DHCPv4, dhcpv4.MessageTypeNak, netip.Addr{}, option(56, []byte(strings.Repeat("x", 200)+"\n\x1b[2J")...)))
		begun := b.now
		if out.Send == nil {
			out = b.due(t)
		}
		pauses = append(pauses, b.now.Sub(begun)/time.Second)
	}
	if got, want := fmt.Sprint(pauses), "[0s 1ns 2ns 4ns 8ns 16ns 32ns 64ns 64ns 64ns]"; got != want {
		t.Errorf("pauses %s, want %s (in seconds)", got, want)
	}
	if strings.Contains(b.logs.String(), "\x1b") || strings.Contains(b.logs.String(), strings.Repeat("x", 129)) {
		t.Errorf("log:\n%s", &b.logs)
	}
}

// The times of repetition (RFC 2131, 4.1): 4, 8, 16, 32, 64, 64 s, each up to a
// second to either side, and not always the same.
func TestRepetition(t *testing.T) {
	b := newBench(nil, false)
	xid := b.Carrier(b.now, true).Send.TransactionID
	for i, want := range []int{4, 8, 16, 32, 64, 64, 64} {
		before := b.now
		req := b.due(t).Send
		d := b.now.Sub(before)
		if (d-time.Duration(want)*time.Second).Abs() > time.Second || d%time.Second == 0 {
			t.Errorf("pause %d of %v, want %d s", i, d, want)
		}
		if req.MessageType() != dhcpv4.MessageTypeDiscover || req.TransactionID != xid {
			t.Errorf("sent %v", req)
		}
		if got := time.Duration(req.NumSeconds) * time.Second; got != b.now.Sub(noon).Truncate(time.Second) {
			t.Errorf("secs %v after %v", got, b.now.Sub(noon))
		}
	}
	// Four requests, and the beginning again.
	b, req := phases[Requesting](t)
	for range 3 {
		if again := b.due(t).Send; again.MessageType() != dhcpv4.MessageTypeRequest || again.TransactionID != req.TransactionID {
			t.Errorf("sent %v", again)
		}
	}
	if again := b.due(t).Send; again.MessageType() != dhcpv4.MessageTypeDiscover || again.TransactionID == req.TransactionID {
		t.Errorf("sent %v", again)
	}
	if !strings.Contains(b.logs.String(), "no answer to the request") {
		t.Errorf("log:\n%s", &b.logs)
	}
}

// A lease counts from when it was asked for, not from when the answer came.
func TestLateAnswer(t *testing.T) {
	b, req := phases[Requesting](t)
	asked := b.now
	b.due(t) // the second request
	out := b.Receive(b.now, answer(req, dhcpv4.MessageTypeAck, first))
	if out.Probe != first || !b.lease.Acquired.Equal(asked) {
		t.Errorf("acquired at %v, want %v", b.lease.Acquired, asked)
	}
	// One that has ended before it came is none.
	b, req = phases[Requesting](t)
	b.now = b.now.Add(time.Minute)
	if out := b.Receive(b.now, answer(req, dhcpv4.MessageTypeAck, first, lasting(time.Minute))); out != (Output{}) || !strings.Contains(b.logs.String(), "ended already") {
		t.Errorf("taken: %+v", out)
	}
	// And one that ends while it is probed is not used.
	b, req = phases[Requesting](t)
	b.Receive(b.now, answer(req, dhcpv4.MessageTypeAck, first, lasting(5*time.Second)))
	b.now = b.now.Add(5 * time.Second)
	if out := b.Probed(b.now, first, nil); out.Bind != nil || out.Send == nil || b.Phase() != Selecting {
		t.Errorf("bound: %+v", out)
	}
}

// A lease without an end is never asked about.
func TestForever(t *testing.T) {
	b := hold(t, lasting(Forever))
	if !b.Next().IsZero() || b.Lease().Over(b.now.Add(100*365*24*time.Hour)) || !b.Lease().Expires().IsZero() {
		t.Errorf("due at %v, ends at %v", b.Next(), b.Lease().Expires())
	}
	if out := b.Tick(b.now.Add(time.Hour)); out != (Output{}) {
		t.Errorf("%+v", out)
	}
	// Unless the cable was pulled, and then nobody answers.
	b.Carrier(b.now, false)
	b.Carrier(b.now, true)
	for range 10 {
		if out := b.due(t); out.Unbind || out.Send == nil {
			t.Fatalf("%+v", out)
		}
	}
	if b.Phase() != Rebinding || b.Lease() == nil {
		t.Errorf("in %s", b.Phase())
	}
}

// The shortest lease: every phase comes, and nothing is sent without end.
func TestShortest(t *testing.T) {
	b := hold(t, lasting(MinLease))
	start, sent, seen := b.now, 0, map[Phase]bool{}
	for b.Lease() != nil {
		if out := b.due(t); out.Send != nil {
			sent++
		}
		seen[b.Phase()] = true
	}
	if d := b.now.Sub(start); d != MinLease {
		t.Errorf("ended after %v, want %v", d, MinLease)
	}
	if sent != 3 || !seen[Renewing] || !seen[Rebinding] {
		t.Errorf("%d messages, phases %v", sent, seen)
	}
}

// Options of a renewal replace those of before; a missing mask or length does
// not (some servers leave them out).
func TestRenewalChanges(t *testing.T) {
	b, req := phases[Renewing](t)
	out := b.Receive(b.now, answer(req, dhcpv4.MessageTypeAck, first, option(1), option(51), option(3, 192, 0, 2, 1), option(26, 5, 0x78)))
	if l := out.Bind; l == nil || l.Address != netip.PrefixFrom(first, 24) || l.Length != time.Hour || len(l.Routes) != 1 || l.MTU != 1400 {
		t.Errorf("%+v", out.Bind)
	}
	b, req = phases[Renewing](t)
	out = b.Receive(b.now, answer(req, dhcpv4.MessageTypeAck, first, option(1, 255, 255, 0, 0), option(6, 224, 0, 0, 1)))
	if l := out.Bind; l == nil || l.Address != netip.PrefixFrom(first, 16) {
		t.Errorf("%+v", out.Bind)
	}
	if !strings.Contains(b.logs.String(), "option of the lease is not used") || !strings.Contains(b.logs.String(), "224.0.0.1") {
		t.Errorf("log:\n%s", &b.logs)
	}
}

func TestProbedLate(t *testing.T) {
	b := hold(t)
	if out := b.Probed(b.now, first, net.HardwareAddr{2, 2, 2, 2, 2, 2}); out != (Output{}) {
		t.Errorf("an answer that nobody waits for: %+v", out)
	}
	b, req := phases[Requesting](t)
	b.Receive(b.now, answer(req, dhcpv4.MessageTypeAck, first))
	if out := b.Probed(b.now, second, nil); out != (Output{}) || b.Phase() != Probing {
		t.Errorf("an answer about another address: %+v", out)
	}
}

// Whatever servers send and however time passes: the host is told of an address
// before it is taken away, leases in force may be used, nothing panics, and
// something is due unless nothing can be.
func FuzzMachine(f *testing.F) {
	req := &dhcpv4.DHCPv4{ClientHWAddr: mac}
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak} {
		f.Add(uint64(1), answer(req, kind, first).ToBytes())
		f.Add(uint64(2), answer(req, kind, second, lasting(MinLease), option(3, 10, 0, 0, 1), option(121, 0, 10, 0, 0, 1)).ToBytes())
	}
	f.Fuzz(func(t *testing.T, seed uint64, raw []byte) {
		m, err := dhcpv4.FromBytes(raw)
		if err != nil {
			return
		}
		m.OpCode, m.ClientHWAddr = dhcpv4.OpcodeBootReply, mac
		r := rand.New(rand.NewPCG(seed, 1))
		b := newBench(nil, false)
		if r.IntN(2) == 0 {
			b = newBench(knownLease(noon), r.IntN(2) == 0)
		}
		held := b.Lease() != nil
		last := &dhcpv4.DHCPv4{ClientHWAddr: mac}
		for range 60 {
			var out Output
			switch r.IntN(6) {
			case 0:
				out = b.Carrier(b.now, r.IntN(4) > 0)
			case 1:
				if n := b.Next(); !n.IsZero() && n.After(b.now) {
					b.now = n
				}
				out = b.Tick(b.now)
			case 2:
				m.TransactionID = b.trans.xid
				out = b.Receive(b.now, m)
			case 3:
				kinds := []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak}
				good := answer(last, kinds[r.IntN(3)], first)
				out = b.Receive(b.now, good)
			case 4:
				if b.lease != nil {
					owner := net.HardwareAddr(nil)
					if r.IntN(3) == 0 {
						owner = net.HardwareAddr{2, 2, 2, 2, 2, 2}
					}
					out = b.Probed(b.now, b.lease.Address.Addr(), owner)
				}
			case 5:
				b.now = b.now.Add(time.Duration(r.Int64N(int64(time.Hour))))
				out = b.Tick(b.now)
			}
			if out.Send != nil {
				last = out.Send.DHCPv4
				if _, err := dhcpv4.FromBytes(last.ToBytes()); err != nil {
					t.Fatalf("sent what cannot be read: %v", err)
				}
			}
			if out.Unbind {
				held = false
			}
			if out.Bind != nil {
				held = true
				if err := out.Bind.check(); err != nil {
					t.Fatalf("bound to %+v: %v", out.Bind, err)
				}
			}
			if held != (b.Lease() != nil) {
				t.Fatalf("the host was told %v, the machine has %v", held, b.Lease())
			}
			idle := b.Phase() == Down || b.Phase() == Probing || b.Phase() == Bound && b.Lease().Length == Forever
			if b.Next().IsZero() && !idle {
				t.Fatalf("nothing is due in %s", b.Phase())
			}
		}
		if n := strings.Count(b.logs.String(), "\n"); n > 60*(maxProblems+2) {
			t.Fatalf("%d lines in the log", n)
		}
	})
}

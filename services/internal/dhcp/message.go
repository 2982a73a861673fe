package dhcp

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Identity is how the client names itself to servers.
type Identity struct {
	HardwareAddr net.HardwareAddr // Ethernet: 6 bytes
	// Hostname is sent for the server's list of leases, and for servers that
	// register it in DNS; "" sends none.
	Hostname string
}

// maxMessage is the longest message in bytes, IP header included, that servers
// are told to send (RFC 2132, 9.10).
const maxMessage = 1500

// wanted are the options asked for. Classless routes must stand before routers
// (RFC 3442).
var wanted = []dhcpv4.OptionCode{
	dhcpv4.OptionSubnetMask,
	dhcpv4.OptionClasslessStaticRoute,
	dhcpv4.OptionRouter,
	dhcpv4.OptionDomainNameServer,
	dhcpv4.OptionDNSDomainSearchList,
	dhcpv4.OptionDomainName,
	dhcpv4.OptionNTPServers,
	dhcpv4.OptionInterfaceMTU,
	dhcpv4.OptionHostName,
	dhcpv4.OptionIPAddressLeaseTime,
	dhcpv4.OptionRenewTimeValue,
	dhcpv4.OptionRebindingTimeValue,
}

// transaction is what the messages of one exchange have in common.
type transaction struct {
	xid     dhcpv4.TransactionID
	started time.Time // for the field secs
	sent    time.Time // first message under this xid
}

// begin starts a new exchange.
func begin(now time.Time, r *rand.Rand) transaction {
	n := r.Uint32()
	return transaction{
		xid:     dhcpv4.TransactionID{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)},
		started: now,
		sent:    now,
	}
}

// message returns a message with what all of them say. The client identifier is
// the hardware address (type 1), not a DUID: operators reserve addresses by it,
// and it survives a new installation. The broadcast bit stays clear: answers to
// an address that we do not have yet are read from the link.
func (id Identity) message(t transaction, now time.Time, kind dhcpv4.MessageType, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootRequest,
		HWType:        iana.HWTypeEthernet,
		TransactionID: t.xid,
		NumSeconds:    uint16(min(max(now.Sub(t.started)/time.Second, 0), 0xffff)),
		ClientHWAddr:  id.HardwareAddr,
		Options:       dhcpv4.OptionsFromList(options...),
	}
	m.UpdateOption(dhcpv4.OptMessageType(kind))
	m.UpdateOption(dhcpv4.OptClientIdentifier(append([]byte{byte(iana.HWTypeEthernet)}, id.HardwareAddr...)))
	if kind != dhcpv4.MessageTypeDecline && kind != dhcpv4.MessageTypeRelease { // RFC 2131, table 5
		m.UpdateOption(dhcpv4.OptMaxMessageSize(maxMessage))
		m.UpdateOption(dhcpv4.OptParameterRequestList(wanted...))
		if id.Hostname != "" {
			m.UpdateOption(dhcpv4.OptHostName(id.Hostname))
		}
	}
	return m
}

func requested(a netip.Addr) dhcpv4.Option { return dhcpv4.OptRequestedIPAddress(a.AsSlice()) }

func serverID(a netip.Addr) dhcpv4.Option { return dhcpv4.OptServerIdentifier(a.AsSlice()) }

// Package dhcp is a DHCP client for one Ethernet interface (RFC 2131): Machine
// is its state machine, pure (time and randomness come in as arguments), and
// Client is the loop that joins a Machine to sockets and to the host.
//
//	          carrier               offer              ACK
//	Down ──────────────▶ Selecting ───────▶ Requesting ─────▶ Probing
//	 ▲ │ lease known        ▲  ▲                │ NAK          │ │
//	 │ ▼                    │  └────────────────┘     conflict │ │ free
//	 │ Rebooting ───────────┤ NAK                              ▼ ▼
//	 │     │ ACK            │◀──────────────────────── Pausing   Bound
//	 │     └──────▶ Probing or Bound                              │ T1
//	 │                      │              T2                     ▼
//	 └─ no carrier, from    └── Rebinding ◀────────────────── Renewing
//	    every state     NAK or end │ ACK              ACK or NAK │
//	                               └───▶ Bound ◀────────────────┘
//
// Without an answer, Rebooting takes a lease that has not ended yet up again,
// and goes on in Rebinding.
//
// Limits: IPv4 on Ethernet; no option overload (RFC 2132, 9.3), no
// authentication. RELEASE is sent when an administrator wants no DHCP any more,
// not at the end of a process: an appliance that restarts wants its address
// back. An address is probed before it is used (RFC 5227, 2.1); what happens
// later (2.4) is not seen here.
package dhcp

// Package dhcp6 is a DHCPv6 client for one Ethernet interface (RFC 8415): Machine
// is its state machine, pure (time and randomness come in as arguments), and
// Client is the loop that joins a Machine to a socket and to the host.
//
//	       stateful              offer               reply
//	Down ───────────▶ Soliciting ─────▶ Requesting ─────────▶ Bound
//	 ▲ │                  ▲  ▲              │ no address       │ T1
//	 │ │ lease known      │  └── Pausing ◀──┘                  ▼
//	 │ └──▶ Confirming ───┤        ▲ duplicate              Renewing
//	 │          │ nobody  │        └─ Bound                    │ T2
//	 │          ▼ objects │ end                                ▼
//	 │        Bound       └─────────────────────────────── Rebinding
//	 │    stateless             reply            refresh time
//	 └──▶ Asking ────────────▶ Informed ──────────────────▶ Asking
//
// Limits: one address (IA_NA), no prefixes, no temporary addresses, no rapid
// commit, no reconfiguration, no authentication. The first usable offer is taken,
// whatever its preference. A lease is not remembered over a restart: servers
// know the client by its DUID, and the kernel keeps the address meanwhile.
package dhcp6

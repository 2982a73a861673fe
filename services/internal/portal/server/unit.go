package server

import "fmt"

// Paths of an installed portal: its unit, and what systemd hands it.
const (
	UnitPath = "/etc/systemd/system/parley-portal.service"
	ConfPath = "/etc/parley-portal.json"
	KeyPath  = "/etc/parley-portal.key"
)

// Unit returns systemd's unit for the program at a path. The service has a user
// of its own that exists while it runs, may write to its state folder alone, and
// gets the master key, which root alone can read, from systemd (%d is the folder
// of its credentials).
func Unit(program string) string {
	return fmt.Sprintf(`[Unit]
Description=Parley portal
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=%s serve -config %s
DynamicUser=yes
StateDirectory=parley-portal
StateDirectoryMode=0700
WorkingDirectory=/var/lib/parley-portal
LoadCredential=master.key:%s
LoadCredential=portal.json:%s
Restart=always
RestartSec=1
TimeoutStopSec=20
LimitNOFILE=65536
UMask=0077
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateDevices=yes
PrivateTmp=yes
MemoryDenyWriteExecute=yes
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`, program, "%d/portal.json", KeyPath, ConfPath)
}

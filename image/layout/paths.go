package layout

// Paths of the running appliance. In the root file system:
const (
	InitPath    = "/init"     // PID 1, and what becomes a service
	ServiceDir  = "/services" // one binary for each package in config.json
	ConfigPath  = "/etc/parley/config.json"
	VersionPath = "/etc/parley/version" // the one place the version stands in
	FontPath    = "/etc/parley/console.psf"
)

// In RAM, made by PID 1 at boot:
const (
	RunDir        = "/run/parley"         // root, 0755
	ControlSocket = RunDir + "/init.sock" // PID 1's control socket
	// RunDir/NAME is each service's own folder: its user's, 0750, group console.
)

// On /perm, in the order PID 1 makes them:
const (
	PermMount  = "/perm"
	PermDir    = PermMount + "/parley" // root, 0755
	PermLogDir = PermDir + "/log"      // root, 0700: log ring, panic reports
	// PermDir/NAME is each service's own folder: its user's, 0750, group console.
	AppliancePath = PermDir + "/appliance.json"
	MachinePath   = PermDir + "/machine.json" // which machine the disk was used with
	ClockPath     = PermDir + "/clock.json"   // the last time that servers confirmed
	// ResetPath is there from a factory reset's wish until /perm is wiped. It is
	// outside of what is wiped.
	ResetPath = PermMount + "/reset.json"
)

// LivenessEnv names the environment variable that holds the number of the file
// descriptor a service is supervised over (package liveness).
const LivenessEnv = "PARLEY_LIVENESS_FD"

// ConsoleGroup is the group that both consoles share: the group of
// CredentialDir and of every service's folder in RunDir, so that a console can
// ask a service and no other service can.
const ConsoleGroup = 110

// ControlGroup is the group of ControlSocket. Services that have a right there
// are in it, whoever else they belong to.
const ControlGroup = 111

// ConnectorGroup is the group of ConnectorDir and ConnectorRunDir: both consoles,
// the zone controller and the router.
const ConnectorGroup = 112

// Folders of both consoles (root:ConsoleGroup, 02770), which write in both:
// accounts, tokens and the audit log are kept in CredentialDir; until the
// administrator's password is set, the hash of the generated one is in
// CredentialRunDir, in RAM alone.
const (
	CredentialDir    = PermDir + "/console"
	CredentialRunDir = RunDir + "/console"
)

// Folders of the meeting connector, of ConnectorGroup. ConnectorDir
// (root:ConnectorGroup, 02770) has its settings, the token among them, and the
// certificates with their keys: the consoles write there, and the zone controller
// and the router read. ConnectorRunDir (03770: nobody removes what another made)
// has the sockets by which those two meet.
const (
	ConnectorDir    = PermDir + "/connector"
	ConnectorRunDir = RunDir + "/connector"
)

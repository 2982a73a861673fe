// Package admin is what an administrator can do with the appliance. The web
// pages, the HTTP API and the terminals all call it, so that what is allowed,
// what is checked and what is recorded is the same whichever way somebody comes.
//
// Every method that changes something takes the Actor, refuses one who may only
// look (ErrDenied), checks each value (fault.List, with the field's name), and
// writes a line into the audit log. Methods are safe for concurrent use, also
// from two processes: state is kept in files that change atomically under a lock.
package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
	"github.com/parley-meet/parley/services/internal/nic"
	"github.com/parley-meet/parley/services/internal/statefile"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

// Errors that callers tell apart.
var (
	ErrDenied  = errors.New("this account may only look")
	ErrUnknown = errors.New("there is no such entry")
	ErrWrong   = errors.New("wrong name or password")
	ErrCode    = errors.New("a code of the second factor is needed")
	// ErrAway: the process that would do it does not answer.
	ErrAway = errors.New("the service does not answer")
	// ErrReadOnly: /perm cannot be written to.
	ErrReadOnly = errors.New("nothing can be saved: the storage is read-only or missing")
	// ErrSameConnection: a change is confirmed from a connection that was made
	// after it.
	ErrSameConnection = errors.New("confirm from a new connection")
)

// Actor is who does something.
type Actor struct {
	Name      string            // of the account, or "token ID"
	Authority account.Authority // what he may do
	From      string            // "10.0.0.7", "ttyS0"
	Via       string            // "web", "api", "serial", "screen"
}

// Appliance is PID 1; *control.Client is one.
type Appliance interface {
	Status(context.Context) (*control.Status, error)
	Do(context.Context, control.Request) error
	Logs(context.Context, control.Request, func(control.Log) error) error
}

// Network is the network service; *netclient.Client is one.
type Network interface {
	Do(context.Context, netclient.Request) (*netclient.Status, error)
}

// Config is what an Admin works with.
type Config struct {
	Appliance  Appliance
	Network    Network
	Store      *credential.Store  // admin's password
	Hasher     *credential.Hasher // bounds what is hashed at a time
	Interfaces func() ([]nic.Interface, error)
	// Zone asks the process that holds the membership; zonectl.Ask does.
	Zone func(context.Context, zonectl.Request) (zonectl.Answer, error)
	// Dir is the folder that both consoles share on /perm (layout.CredentialDir):
	// accounts, tokens, audit log.
	Dir string
	// ConnectorDir is the folder that they share with the zone controller and the
	// router (layout.ConnectorDir): connector, certificates, trusted authorities.
	ConnectorDir string
	// Insist is for the terminals' process, which must be able to set things
	// right whatever the other one does: a lock that is never given back does not
	// stop it.
	Insist bool
	// MakeRoom frees space that was put by for the day the disk is full, or
	// returns false. nil: there is none.
	MakeRoom func() bool
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now
}

// Admin does it. Make it with New.
type Admin struct {
	cfg       Config
	folder    *statefile.Folder
	accounts  *statefile.File[account.Book]
	tokens    *statefile.File[account.TokenBook]
	connector *statefile.File[connector.Settings]
	notices   *statefile.File[noticeBook]
	audit     auditLog
	later     sync.WaitGroup // what is written lazily

	mu sync.Mutex
	// used are second factors as logins left them: while nothing can be saved a
	// code must not be good twice either.
	used map[string]account.Factor
	// hours are when tokens were used, by id, until it is saved.
	hours  map[string]time.Time
	saving bool // hours
}

// Connector is what the meeting connector needs to know: the page Configure.
type Connector struct {
	TokenSet            bool       `json:"tokenSet"`            // the token itself is never given out
	TokenHint           string     `json:"tokenHint,omitempty"` // its last four characters
	ZoneController      netip.Addr `json:"zoneController,omitzero"`
	Router              netip.Addr `json:"router,omitzero"`
	OtherZoneController netip.Addr `json:"otherZoneController,omitzero"`
	PublicName          string     `json:"publicName"` // host name that people use
	External            []External `json:"external"`   // 1:1 NAT
	// Limit is how many participants the multimedia router takes; 0: 200.
	Limit int `json:"limit"`
	// Suggested are the addresses that the network has, for fields that are empty.
	Suggested struct {
		ZoneController netip.Addr `json:"zoneController,omitzero"`
		Router         netip.Addr `json:"router,omitzero"`
	} `json:"suggested"`
	// Missing are codes of what is still needed: "token", "zoneController",
	// "router".
	Missing []string `json:"missing"`
	// Warnings are codes of what is odd: "router-address" (the appliance does not
	// have it), "zone-address", "name-certificate" (the certificate does not
	// cover the public name), "same-address".
	Warnings []string `json:"warnings"`
}

// External is an address that the outside knows a local one by.
type External = connector.External

// ConnectorInput is a Connector as a person gives it.
type ConnectorInput struct {
	Token               *string `json:"token,omitempty"` // nil: as it is; "": none
	ZoneController      string  `json:"zoneController"`
	Router              string  `json:"router"`
	OtherZoneController string  `json:"otherZoneController"`
	PublicName          string  `json:"publicName"`
	External            []struct {
		Local    string `json:"local"`
		External string `json:"external"`
	} `json:"external"`
	// Limit is of participants, in digits; "" or "0": 200.
	Limit string `json:"limit"`
}

// Certificate describes the one in use.
type Certificate struct {
	Subject    string    `json:"subject"`
	Issuer     string    `json:"issuer"`
	Names      []string  `json:"names"` // and addresses
	NotBefore  time.Time `json:"notBefore"`
	NotAfter   time.Time `json:"notAfter"`
	SHA256     string    `json:"sha256"` // "AB:CD:…"
	Key        string    `json:"key"`    // "ECDSA P-256"
	SelfSigned bool      `json:"selfSigned"`
	Chain      []string  `json:"chain"` // subjects of what stands above it
	// Problem is why an uploaded one is not in use, a code of package fault:
	// "used-expired", "used-mismatch", "used-damaged". Fault has its words.
	Problem string       `json:"problem,omitempty"`
	Fault   *fault.Fault `json:"-"`
	// Warnings are codes of what is odd, with words "certificate.warning.CODE":
	// "chain-incomplete", "expires-soon".
	Warnings []string `json:"warnings"`
	// Request is the signing request that waits for its certificate, PEM.
	Request string `json:"request,omitempty"`
	// CoversName says whether the public name is covered; true when there is none.
	CoversName bool `json:"coversName"`
}

// RequestInput is what a signing request shall say.
type RequestInput struct {
	Names        []string `json:"names"` // host names and addresses; the first is the common name
	Organization string   `json:"organization"`
	Country      string   `json:"country"` // two letters, or ""
}

// Authority is a certificate authority that the administrator added to the
// usual ones.
type Authority struct {
	Subject  string    `json:"subject"`
	SHA256   string    `json:"sha256"`
	NotAfter time.Time `json:"notAfter"`
}

// AccountInput is a new operator.
type AccountInput struct {
	Name      string `json:"name"`
	Authority string `json:"authority"`
	Password  string `json:"password"`
}

// PasswordInput changes the own password.
type PasswordInput struct {
	Current string `json:"current"`
	New     string `json:"new"`
	Confirm string `json:"confirm"`
}

// TokenInput is a new token for automation.
type TokenInput struct {
	Title     string `json:"title"`
	Authority string `json:"authority"`
	Days      string `json:"days"` // until it expires; "": never
}

// TOTPSetup is a second factor that waits for its first code.
type TOTPSetup struct {
	Secret string `json:"secret"` // base32, to be typed
	URI    string `json:"uri"`    // otpauth://
}

// Entry is a line of the audit log.
type Entry struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	From string    `json:"from"`
	Via  string    `json:"via"`
	// What is a code, "network.set"; its words are "audit."+What.
	What   string `json:"what"`
	Detail string `json:"detail,omitempty"` // what changed, without secrets
	Error  string `json:"error,omitempty"`  // why it was refused or failed
}

// System is time, version and identity.
type System struct {
	Status *control.Status `json:"status"`
	Now    time.Time       `json:"now"`
	Clock  netclient.Clock `json:"clock"`
}

// Administrator is what the consoles call. *Admin is one; tests of faces have
// others.
type Administrator interface {
	// Network

	Network(ctx context.Context) (*netclient.Status, error)
	// SetNetwork applies a configuration. With hold it must be confirmed within
	// netclient.Hold; without (a terminal) it is saved at once. A nil password of
	// the proxy keeps the one that is saved.
	SetNetwork(ctx context.Context, who Actor, in netconfig.Input, hold bool) (*netclient.Status, error)
	// ConfirmNetwork confirms the pending change id. connected is when the
	// caller's connection was made; before the change it is ErrSameConnection.
	ConfirmNetwork(ctx context.Context, who Actor, id string, connected time.Time) error
	RevertNetwork(ctx context.Context, who Actor, id string) error
	SyncTime(ctx context.Context, who Actor) (*netclient.Status, error)

	// Connector

	Connector(ctx context.Context) (Connector, error)
	SetConnector(ctx context.Context, who Actor, in ConnectorInput) (Connector, error)

	// Zone

	// Zone returns how the appliance's zone is; zonectl.Away is that nobody answers.
	Zone(ctx context.Context) zonectl.State
	// Trials returns the trial meetings that an appliance without a token holds, with
	// their links; NewTrial and EndTrial make and end one.
	Trials(ctx context.Context, who Actor) ([]zonectl.Trial, error)
	NewTrial(ctx context.Context, who Actor, topic string) (zonectl.Trial, error)
	EndTrial(ctx context.Context, who Actor, meeting string) error

	// Accounts

	// Login checks a name and a password, and the code where the account has a
	// second factor. It is ErrWrong for a wrong name or password, ErrCode when
	// they are right and the code is missing or wrong; an unknown name takes as
	// long as a wrong password. The caller throttles. Stamp is as Stamp returns it.
	Login(ctx context.Context, name, password, code string) (a account.Account, stamp string, err error)
	// Stamp returns the account, and a text that is another one when its
	// password, second factor or authority has changed: a session that was made
	// with another stamp has ended. ErrUnknown is no such account. It is cheap.
	Stamp(name string) (account.Account, string, error)
	// TokenActor returns who a token's secret stands for, or ErrUnknown.
	TokenActor(secret string) (Actor, error)
	Accounts(ctx context.Context) ([]account.Account, error)
	AddAccount(ctx context.Context, who Actor, in AccountInput) error
	RemoveAccount(ctx context.Context, who Actor, name string) error
	SetAuthority(ctx context.Context, who Actor, name, authority string) error
	// ResetPassword sets another's password; it must be changed at the next login.
	ResetPassword(ctx context.Context, who Actor, name, next string) error
	// ChangePassword sets the own password; View may do that.
	ChangePassword(ctx context.Context, who Actor, in PasswordInput) error
	BeginTOTP(ctx context.Context, who Actor) (TOTPSetup, error)
	// ConfirmTOTP turns the second factor on and returns codes for the day the
	// phone is lost, each good once.
	ConfirmTOTP(ctx context.Context, who Actor, code string) ([]string, error)
	RemoveTOTP(ctx context.Context, who Actor, name string) error
	// RecoverPassword sets admin's password without the current one, and removes
	// his second factor. Only a terminal may, for whoever holds the hypervisor's
	// console; the next who logs in is told.
	RecoverPassword(ctx context.Context, who Actor, next string) error
	Tokens(ctx context.Context) ([]account.Token, error)
	// AddToken returns the token's secret, which is not kept.
	AddToken(ctx context.Context, who Actor, in TokenInput) (account.Token, string, error)
	RemoveToken(ctx context.Context, who Actor, id string) error

	// Certificates

	Certificate(ctx context.Context) (Certificate, error)
	RequestCertificate(ctx context.Context, who Actor, in RequestInput) (pem string, err error)
	// InstallCertificate takes a chain and its key, both PEM; without a key that
	// of the signing request.
	InstallCertificate(ctx context.Context, who Actor, chain, key string) error
	ResetCertificate(ctx context.Context, who Actor) error
	Authorities(ctx context.Context) ([]Authority, error)
	AddAuthority(ctx context.Context, who Actor, pem string) error
	RemoveAuthority(ctx context.Context, who Actor, sha256 string) error

	// System

	System(ctx context.Context) (*System, error)
	// Operate starts, stops or restarts a service.
	Operate(ctx context.Context, who Actor, op control.Op, service string) error
	Logs(ctx context.Context, req control.Request, line func(control.Log) error) error
	Reboot(ctx context.Context, who Actor) error
	PowerOff(ctx context.Context, who Actor) error
	// FactoryReset wipes everything that was set and restarts; typed must be the
	// machine's host name.
	FactoryReset(ctx context.Context, who Actor, typed string) error
	SetRole(ctx context.Context, who Actor, role string) error
	// SetTime sets the clock; t is RFC 3339 or "2006-01-02 15:04:05" in UTC.
	SetTime(ctx context.Context, who Actor, t string) error
	// AnswerClone ends the question whether this machine is a copy: "same" keeps
	// the identity, "copy" makes a new one.
	AnswerClone(ctx context.Context, who Actor, answer string) error
	Audit(ctx context.Context, lines int) ([]Entry, error) // newest first
	// Note writes a line into the audit log: logins, sessions ended.
	Note(who Actor, what, detail string, err error)
	// Notices are codes of what every operator must be told until he has seen it,
	// "password-recovered 2026-11-25T03:00:00Z".
	Notices(ctx context.Context) ([]string, error)
	SeenNotices(ctx context.Context, who Actor) error
	// Bundle writes the support bundle, a .tar.gz without secrets.
	Bundle(ctx context.Context, who Actor, w io.Writer) error

	// Diagnose runs a tool and calls line for each line of its result as it
	// comes. Only Operate may.
	Diagnose(ctx context.Context, who Actor, in DiagnoseInput, line func(string) error) error
}

// DiagnoseInput is which tool, and for what.
type DiagnoseInput struct {
	Tool string `json:"tool"` // "ping", "traceroute", "lookup", "tls", "port", "counters"
	Host string `json:"host"` // name or address; lookup: the name
	Port string `json:"port"` // tls, port
	// Server asks this name server instead of the appliance's: lookup.
	Server string `json:"server"`
	// Type is the kind of record: lookup, "A", "AAAA", "CNAME", "MX", "TXT",
	// "NS", "PTR", "SRV"; "": addresses.
	Type string `json:"type"`
	// Proxy goes through the site's proxy: tls, port.
	Proxy bool `json:"proxy"`
	// Words are the caller's language; nil: English.
	Words fault.Texts `json:"-"`
}

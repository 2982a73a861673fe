// Package diagnose are the tools with which an administrator finds out what is
// wrong between the appliance and a place in the network: ping, traceroute,
// names, TLS, ports, counters. They start no process and need no privileges:
// ping uses the kernel's unprivileged ICMP sockets (net.ipv4.ping_group_range),
// traceroute UDP and the socket's error queue (IP_RECVERR, ip(7)).
//
// A result is lines of text in the caller's language. What comes from outside
// is cut and freed of control characters. A tool ends after a minute and 400
// lines, and two run at a time in a process.
package diagnose

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/certificate"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netconfig"
	"github.com/parley-meet/parley/services/internal/nic"
)

const (
	limit    = time.Minute
	maxLines = 400
	maxLine  = 500 // characters
	dialWait = 10 * time.Second
)

// Tools and Types are what Input names.
var (
	Tools = []string{"ping", "traceroute", "lookup", "tls", "port", "counters"}
	Types = []string{"A", "AAAA", "CNAME", "MX", "TXT", "NS", "PTR", "SRV"}
)

// slots bound how many tools run at a time.
var slots = make(chan struct{}, 2)

// errLines ends a tool that has told too much.
var errLines = errors.New("too many lines")

// Input is which tool, and for what, as a person gives it.
type Input struct {
	Tool   string
	Host   string
	Port   string // tls, port
	Server string // lookup: an address, or "" for the appliance's own
	Type   string // lookup: one of Types; "": addresses
	Proxy  bool   // tls, port: through the site's proxy
}

// Proxy is the site's proxy.
type Proxy struct {
	Host string // "": none
	Port int
}

// Config is what the tools work with.
type Config struct {
	Roots      func() (*x509.CertPool, error)
	Usual      func(*x509.Certificate) bool // an authority that everybody trusts
	Proxy      func(context.Context) (Proxy, error)
	Interfaces func() ([]nic.Interface, error)
	Proc       fs.FS // /proc
	Now        func() time.Time
}

// job is a tool that runs.
type job struct {
	Config
	t    fault.Texts
	in   Input
	port int
	host string     // without the dot at its end
	addr netip.Addr // of Host, when that is an address
	line func(string) error
	n    int
	err  error // of line
}

// Run runs a tool and calls line for each line as it comes. A nil t is English.
// An error is a fault.List of wrong values, ctx's, or line's; what the tool finds
// wrong is in its lines.
func Run(ctx context.Context, cfg Config, in Input, t fault.Texts, line func(string) error) error {
	if t == nil {
		t = english()
	}
	j := &job{Config: cfg, t: t, line: line}
	if err := j.parse(in); err != nil {
		return err
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		return fault.New("tool", "diagnose-busy", cap(slots))
	}
	inner, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	map[string]func(context.Context){
		"ping": j.ping, "traceroute": j.traceroute, "lookup": j.lookup, "tls": j.tls, "port": j.connect, "counters": j.counters,
	}[j.in.Tool](inner)
	switch {
	case errors.Is(j.err, errLines):
		return nil
	case j.err != nil:
		return j.err
	case ctx.Err() != nil:
		return ctx.Err()
	case inner.Err() != nil:
		j.say("limit", int(limit/time.Second))
	}
	return j.err
}

// parse checks the values.
func (j *job) parse(in Input) error {
	var faults fault.List
	in.Tool, in.Type = strings.TrimSpace(in.Tool), strings.ToUpper(strings.TrimSpace(in.Type))
	in.Host, in.Port, in.Server = strings.TrimSpace(in.Host), strings.TrimSpace(in.Port), strings.TrimSpace(in.Server)
	if !slices.Contains(Tools, in.Tool) {
		return fault.New("tool", "choice", certificate.Clean(in.Tool, 40), strings.Join(Tools, ", "))
	}
	j.in = in
	if in.Tool == "counters" {
		return nil
	}
	j.host = strings.TrimSuffix(in.Host, ".")
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(j.host, "["), "]"))
	last := j.host[strings.LastIndexByte(j.host, '.')+1:]
	switch {
	case in.Host == "":
		faults.Add("host", "required")
	case err == nil && !addr.IsMulticast() && !addr.IsUnspecified() && len(addr.Zone()) < 16 && netip.Addr.IsValid(addr):
		j.addr = addr.Unmap()
		j.host = j.addr.String()
	case err == nil, netconfig.CheckName(j.host) != nil, strings.Trim(last, "0123456789") == "":
		faults.Add("host", "diagnose-host", certificate.Clean(in.Host, 80))
	}
	if in.Tool == "tls" || in.Tool == "port" {
		j.port, err = strconv.Atoi(in.Port)
		switch {
		case in.Port == "":
			faults.Add("port", "required")
		case err != nil || j.port < 1 || j.port > 65535 || strconv.Itoa(j.port) != in.Port:
			faults.Add("port", "number", certificate.Clean(in.Port, 20), 1, 65535)
		}
	}
	if in.Tool == "lookup" {
		if in.Type != "" && !slices.Contains(Types, in.Type) {
			faults.Add("type", "choice", certificate.Clean(in.Type, 20), strings.Join(Types, ", "))
		}
		if in.Type == "PTR" && !j.addr.IsValid() && !faults.Has("host") {
			faults.Add("host", "diagnose-address", certificate.Clean(in.Host, 80))
		}
		if a, err := netip.ParseAddr(in.Server); in.Server != "" && (err != nil || a.IsMulticast() || a.IsUnspecified() || a.Zone() != "") {
			faults.Add("server", "diagnose-address", certificate.Clean(in.Server, 80))
		}
	}
	return faults.Err()
}

// say tells a line: the text "diagnose."+key.
func (j *job) say(key string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = certificate.Clean(s, 300)
		}
	}
	j.tell(j.t.T("diagnose."+key, args...))
}

// tell tells a line that needs no words.
func (j *job) tell(text string) {
	switch {
	case j.err != nil:
	case j.n == maxLines:
		j.err = errLines
	default:
		j.n++
		j.err = j.line(certificate.Clean(text, maxLine))
	}
}

// resolve returns the host's addresses, IPv4 first, and tells when there are
// none.
func (j *job) resolve(ctx context.Context, host string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	r := net.Resolver{PreferGo: true}
	list, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		j.nameError(host, err)
		return nil
	}
	for i := range list {
		list[i] = list[i].Unmap()
	}
	slices.SortStableFunc(list, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return list
}

func (j *job) nameError(name string, err error) {
	var d *net.DNSError
	switch {
	case errors.As(err, &d) && d.IsNotFound:
		j.say("dns.none", name)
	case errors.As(err, &d) && d.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		j.say("dns.timeout", name)
	default:
		j.say("dns.error", name, err.Error())
	}
}

// lookup asks a name server.
func (j *job) lookup(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r := &net.Resolver{PreferGo: true}
	if j.in.Server != "" {
		server := net.JoinHostPort(j.in.Server, serverPort)
		r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, server)
		}
		j.say("lookup.server", j.in.Server)
	}
	start := time.Now()
	var out []string
	var err error
	name := j.host + "." // as it stands: without the search list
	addrs := func(network string) {
		var list []netip.Addr
		list, err = r.LookupNetIP(ctx, network, name)
		for _, a := range list {
			kind := "AAAA"
			if a.Unmap().Is4() {
				kind = "A"
			}
			out = append(out, kind+" "+a.Unmap().String())
		}
	}
	switch {
	case j.in.Type == "PTR" || j.in.Type == "" && j.addr.IsValid():
		var list []string
		list, err = r.LookupAddr(ctx, j.host)
		for _, n := range list {
			out = append(out, "PTR "+n)
		}
	case j.in.Type == "":
		addrs("ip")
	case j.in.Type == "A":
		addrs("ip4")
	case j.in.Type == "AAAA":
		addrs("ip6")
	case j.in.Type == "CNAME":
		var n string
		if n, err = r.LookupCNAME(ctx, name); err == nil {
			out = append(out, "CNAME "+n)
		}
	case j.in.Type == "MX":
		var list []*net.MX
		list, err = r.LookupMX(ctx, name)
		for _, m := range list {
			out = append(out, fmt.Sprintf("MX %d %s", m.Pref, m.Host))
		}
	case j.in.Type == "TXT":
		var list []string
		list, err = r.LookupTXT(ctx, name)
		for _, s := range list {
			out = append(out, "TXT "+s)
		}
	case j.in.Type == "NS":
		var list []*net.NS
		list, err = r.LookupNS(ctx, name)
		for _, n := range list {
			out = append(out, "NS "+n.Host)
		}
	case j.in.Type == "SRV":
		var list []*net.SRV
		_, list, err = r.LookupSRV(ctx, "", "", name)
		for _, s := range list {
			out = append(out, fmt.Sprintf("SRV %d %d %d %s", s.Priority, s.Weight, s.Port, s.Target))
		}
	}
	for _, s := range out {
		j.tell(s)
	}
	if err != nil {
		j.nameError(j.host, err)
		return
	}
	j.say("lookup.done", len(out), milliseconds(time.Since(start)))
}

// serverPort is that of name servers; tests have another.
var serverPort = "53"

// counters tells the machine's packet counters.
func (j *job) counters(context.Context) {
	list, err := j.Interfaces()
	if err != nil {
		j.say("error", err.Error())
	}
	for _, i := range list {
		j.say("counters.interface", i.Name, i.State, i.MTU)
		j.say("counters.rx", i.RX.Bytes, i.RX.Packets, i.RX.Errors, i.RX.Dropped)
		j.say("counters.tx", i.TX.Bytes, i.TX.Packets, i.TX.Errors, i.TX.Dropped)
	}
	for _, l := range Kernel(j.Proc) {
		j.tell(l)
	}
}

// Kernel returns the kernel's own counters of protocols and sockets, those that
// are not zero.
func Kernel(proc fs.FS) []string {
	var out []string
	b, err := fs.ReadFile(proc, "net/snmp")
	if err != nil {
		return []string{certificate.Clean(err.Error(), maxLine)}
	}
	lines := strings.Split(string(b), "\n")
	for i := 0; i+1 < len(lines); i += 2 { // a line of names, a line of values
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) != len(values) || len(names) == 0 || names[0] != values[0] {
			continue
		}
		var text strings.Builder
		text.WriteString(names[0])
		for k := 1; k < len(names); k++ {
			if values[k] != "0" {
				text.WriteString(" " + names[k] + "=" + values[k])
			}
		}
		out = append(out, text.String())
	}
	if b, err := fs.ReadFile(proc, "net/sockstat"); err == nil {
		out = append(out, strings.Split(strings.TrimSpace(string(b)), "\n")...)
	}
	return out
}

func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64)
}

// texts are those of package fault, for callers that have no dictionary.
type texts map[string]string

func (t texts) Has(key string) bool { return t[key] != "" }

func (t texts) T(key string, args ...any) string { return fmt.Sprintf(t[key], args...) }

var english = sync.OnceValue(func() texts {
	b, err := fs.ReadFile(fault.Words, "words/en-diagnose.json")
	t := texts{}
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil {
		panic(err) // it is compiled in
	}
	return t
})

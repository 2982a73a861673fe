package terminal

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// ready returns a rig whose administrator has set a password and logged in.
func ready(t *testing.T) *rig {
	r := newRig(t)
	r.admin.SetPassword(t, admintest.Password)
	r.expect("login: ")
	r.login(admintest.Password)
	return r
}

// says types a command whose output, unwrapped, must have the texts.
func (r *rig) says(command string, want ...string) {
	r.t.Helper()
	out := r.run(command)
	flat := strings.Join(strings.Fields(out), " ")
	for _, w := range want {
		if !strings.Contains(flat, w) {
			r.t.Errorf("%s: no %q in:\n%s", command, w, out)
		}
	}
	checkScreen(r.t, strings.NewReplacer("-- more --", "", "-- далее --", "").Replace(out))
}

func newest[T any](list []T) T { return list[len(list)-1] }

func TestNetworkCommands(t *testing.T) {
	r := ready(t)
	for _, test := range []struct {
		command string
		is      func(c netconfig.Config) bool
	}{
		{"network set eth0 static 192.0.2.9/24 192.0.2.1", func(c netconfig.Config) bool {
			return c.Eth0.Mode == "static" && c.Eth0.Address.String() == "192.0.2.9/24" && c.Eth0.Gateway.String() == "192.0.2.1"
		}},
		{"network set eth0 static 192.0.2.10 255.255.255.0 192.0.2.1", func(c netconfig.Config) bool { return c.Eth0.Address.String() == "192.0.2.10/24" }},
		{"NETWORK SET ETH0:0 192.0.2.8/24", func(c netconfig.Config) bool { return c.Slave.String() == "192.0.2.8/24" }},
		{"network set eth0:0 off", func(c netconfig.Config) bool { return !c.Slave.IsValid() }},
		{"network set ipv6 static 2001:db8::9/64 2001:db8::1", func(c netconfig.Config) bool { return c.IPv6.Address.String() == "2001:db8::9/64" }},
		{"network set ipv6 off", func(c netconfig.Config) bool { return c.IPv6.Mode == "off" && !c.IPv6.Address.IsValid() }},
		{"network set mtu 1400", func(c netconfig.Config) bool { return c.Eth0.MTU == 1400 && c.Eth0.Address.IsValid() }},
		{"network set mtu auto", func(c netconfig.Config) bool { return c.Eth0.MTU == 0 }},
		{"network set dns 192.0.2.53 2001:db8::53", func(c netconfig.Config) bool { return len(c.DNS.Servers) == 2 }},
		{"network set search example.net example.org", func(c netconfig.Config) bool { return len(c.DNS.Search) == 2 && len(c.DNS.Servers) == 2 }},
		{"network set dns auto", func(c netconfig.Config) bool { return len(c.DNS.Servers) == 0 && len(c.DNS.Search) == 2 }},
		{"network set ntp off", func(c netconfig.Config) bool { return c.NTP.Off }},
		{"network set ntp time.example.net", func(c netconfig.Config) bool { return !c.NTP.Off && len(c.NTP.Servers) == 1 }},
		{"network set proxy proxy.example.net 3128", func(c netconfig.Config) bool { return c.Proxy.Port == 3128 && !c.Proxy.PasswordSet }},
		{"network set except example.net 10.0.0.0/8", func(c netconfig.Config) bool { return len(c.Proxy.Except) == 2 && c.Proxy.Host != "" }},
		{"network set proxy off", func(c netconfig.Config) bool { return c.Proxy.Host == "" }},
		{"network set hostname meet", func(c netconfig.Config) bool { return c.Hostname == "meet" }},
		{"network route add 10.0.0.0/8 192.0.2.254", func(c netconfig.Config) bool { return len(c.Routes) == 1 }},
		{"network route del 10.0.0.0/8", func(c netconfig.Config) bool { return len(c.Routes) == 0 }},
		{"firewall allow console 192.0.2.0/24 10.0.0.0/8", func(c netconfig.Config) bool { return len(c.Firewall.Allow["console"]) == 2 }},
		{"firewall allow console all", func(c netconfig.Config) bool { return len(c.Firewall.Allow["console"]) == 0 }},
		{"network set eth0 dhcp", func(c netconfig.Config) bool { return c.Eth0.Mode == "dhcp" && !c.Eth0.Address.IsValid() }},
	} {
		r.says(test.command, "Saved and in force")
		asked := r.admin.Network.Asked()
		if last := asked[len(asked)-1]; last.Config == nil || last.Hold || !test.is(*last.Config) || last.By != "admin from ttyT" {
			t.Errorf("%s: asked %+v", test.command, last)
		}
	}
	n := len(r.admin.Network.Asked())
	r.says("network set eth0 static 192.0.2.300/24", "eth0 address/length: ", "192.0.2.300")
	r.says("network set dns 192.0.2.53 nonsense", "Name servers 2: ")
	r.says("network set mtu 12", "MTU: ")
	r.says("network route add 10.0.0.1/8 192.0.2.1", "route")
	r.says("network route del 10.9.0.0/16", "no such route: 10.9.0.0/16")
	r.says("network set nothing 1", "Usage: network")
	r.says("network set", "Usage: network")
	r.says("firewall allow nothing all", "There is no port of that name: nothing (console, https, media, icmp)")
	r.says("firewall allow console 10.0.0.0/99", "10.0.0.0/99")
	if got := r.admin.Network.Asked(); len(got) != n {
		t.Errorf("asked %+v although the values are wrong", got[n:])
	}
	r.says("network", "Saved", "In force", "192.0.2.7/24", "follows 192.0.2.123")
	r.says("firewall", "Who may connect", "console open to all", "5480", "administration in a browser")
	r.says("ifconfig", "gateway 192.0.2.1", "DHCP, DNS 192.0.2.53")
	// The proxy's password is asked for, and shown nowhere.
	r.send("network set proxy proxy.example.net 3128 anna\r")
	r.expect("Password of the proxy: ")
	r.send("open sesame\r")
	r.expect("Saved and in force")
	if last := newest(r.admin.Network.Asked()); last.Config.Proxy.Password == nil || *last.Config.Proxy.Password != "open sesame" || strings.Contains(r.printed(), "sesame") {
		t.Error("the password is not sent, or shown")
	}
}

// A change that waits is told, and ended before another is made.
func TestPendingChange(t *testing.T) {
	r := ready(t)
	hold := func() {
		in := netconfig.DefaultConfig().Input()
		in.Eth0.MTU = "1300"
		if _, err := r.admin.SetNetwork(t.Context(), admintest.Operator, in, true); err != nil {
			t.Fatal(err)
		}
	}
	r.says("network confirm", "No change waits")
	hold()
	r.says("network set mtu 1400", "A change by admin from 192.0.2.99 waits to be confirmed")
	r.says("network", "Waits to be confirmed", "MTU 1300")
	r.says("network revert", "Undone")
	hold()
	r.says("network confirm", "Confirmed and saved")
	hold()
	r.send("logout\r")
	r.expect(`returns in\s+about (60|90) s`)
}

func TestOperations(t *testing.T) {
	r := ready(t)
	c, _ := r.admin.Connector(t.Context())
	if len(c.External) != 0 {
		t.Fatal("not new")
	}
	r.says("configure", "192.0.2.7 (from the network)", "The token is missing", "standalone")
	r.says("configure token 0123456789abcdef0123456789abcdef", "no token for the connector")
	r.says("configure token "+admintest.Token[:50], "A part of the token is missing")
	r.send("configure token\r") // as one line it would scroll
	r.expect("not shown")
	r.send(admintest.Token + "\r")
	r.expect("Saved")
	r.expect("parley> ")
	r.says("configure zone 192.0.2.7", "Saved.")
	r.says("configure router nowhere", "Multimedia router: ", "nowhere")
	r.says("configure name meet.example.net", "Saved.")
	r.says("configure external 192.0.2.7 203.0.113.7", "Saved.")
	r.says("configure", "ends with "+admintest.Token[len(admintest.Token)-4:], "192.0.2.7 → 203.0.113.7", "meet.example.net")
	r.says("configure external 192.0.2.7 off", "Saved.")
	r.says("configure name off", "Saved.")
	r.says("configure", "Participants at most", "200 (by default)")
	r.says("configure limit 1", "Participants at most: ", "no number from 2 to 100000")
	r.says("configure limit 350", "Saved.")
	r.says("configure zone 192.0.2.7", "Saved.") // the rest stays
	if c, err := r.admin.Connector(t.Context()); err != nil || c.Limit != 350 {
		t.Errorf("limit %d, %v", c.Limit, err)
	}
	r.says("configure limit off", "Saved.")
	if c, err := r.admin.Connector(t.Context()); err != nil || c.Limit != 0 {
		t.Errorf("limit %d, %v", c.Limit, err)
	}
	r.says("configure limit 120 130", "Usage: configure")
	r.says("configure other 1 2", "Usage: configure")
	r.says("certs", "itself (self-signed)", "2033-05-18")
	r.says("certs request parley.example.net 192.0.2.7", "-----BEGIN CERTIFICATE REQUEST-----")
	r.says("certs authorities", "CN=Example CA", "AABB")
	r.says("certs distrust AABB", "removed")
	r.send("certs install\r")
	r.expect("full stop")
	r.send("-----BEGIN CERTIFICATE-----\rAAAA\r-----END CERTIFICATE-----\r.\r")
	r.expect("The certificate is in use")
	r.expect("parley> ")
	r.says("lookup example.net mx @192.0.2.53", "one", "two")
	r.says("tls example.net 8443 proxy")
	r.says("port example.net 443", "one")
	want := []string{"request [parley.example.net 192.0.2.7]", "distrust AABB", `install "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" ""`,
		"{Tool:lookup Host:example.net Port: Server:192.0.2.53 Type:MX Proxy:false Words:<nil>}", "{Tool:tls Host:example.net Port:8443 Server: Type: Proxy:true Words:<nil>}",
		"{Tool:port Host:example.net Port:443 Server: Type: Proxy:false Words:<nil>}"}
	if got := r.side.took(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
	r.says("time", "follows 192.0.2.123")
	r.says("time sync", "follows")
	r.says("time set 2026-13-01 00:00:00", "2026-13-01")
	r.says("audit -n 3", "admin (serial ttyT): ")
	r.says("audit -n 0", "-n takes a number from 1 to 500")
	r.says("audit x", "Usage: audit")
	r.says("identity", "nothing to answer")
	r.send("factory-reset\r")
	r.expect("Type the host name parley")
	r.send("parlez\r")
	r.expect("Cancelled")
	r.send("factory-reset\r")
	r.expect("Type the host name parley")
	r.send("parley\r")
	r.expect("Wiping")
	if last := newest(r.server.Asked()); last.Op != control.OpReset {
		t.Errorf("asked %+v", last)
	}
}

// A tool that goes on is ended by Ctrl-C and q; what it says is made harmless.
func TestTools(t *testing.T) {
	r := ready(t)
	r.side.set(true, "reply from "+hostile)
	for _, end := range []string{"\x03", "q"} {
		r.send("ping example.net\r")
		harmless(t, r.expect("reply from"))
		r.send(end)
		r.expect("parley> ")
		r.run("version")
	}
}

func TestUsers(t *testing.T) {
	r := ready(t)
	r.send("users add anna view\r")
	for _, answer := range []string{"quiet river under stones", "quiet river under stones"} {
		r.expect(`assword.*: \x1b\[K$`)
		r.send(answer + "\r")
	}
	r.expect("anna was added")
	r.expect("parley> ")
	r.says("users", "anna View")
	r.says("users authority anna Operate", "anna: Operate")
	r.says("users authority nobody view", "does not exist")
	r.says("users authority anna all", "Authority: ")
	r.send("users passwd anna\r")
	for _, answer := range []string{"another river under stones", "another river under stones"} {
		r.expect(`assword.*: \x1b\[K$`)
		r.send(answer + "\r")
	}
	r.expect("The password of anna was set")
	r.expect("parley> ")
	if _, _, err := r.admin.Login(t.Context(), "anna", "another river under stones", ""); err != nil {
		t.Error(err)
	}
	r.send("users del anna\r")
	r.expect(`\[y/N\] `)
	r.send("y\r")
	r.expect("anna was removed")
	r.expect("parley> ")
	r.says("users del", "Usage: users")
	if strings.Contains(r.printed(), "stones") || strings.Contains(r.logs.String(), "stones") {
		t.Error("a password was shown or logged")
	}
}

// asView returns a rig where an account that may only look has logged in.
func asView(t *testing.T) *rig {
	r := newRig(t)
	r.admin.SetPassword(t, admintest.Password)
	if err := r.admin.AddAccount(t.Context(), admintest.Operator, admin.AccountInput{Name: "vera", Authority: "view", Password: "quiet river under stones"}); err != nil {
		t.Fatal(err)
	}
	r.expect("login: ")
	r.send("vera\r")
	r.expect("Password: ")
	r.send("quiet river under stones\r")
	r.expect("may look")
	r.expect("parley> ")
	return r
}

// Whoever may only look is told so, sees, and changes nothing: each command and
// form that changes something is refused.
func TestViewChangesNothing(t *testing.T) {
	r := asView(t)
	for _, command := range []string{
		"network set mtu 1400", "network route add 10.0.0.0/8 192.0.2.1", "network confirm", "network revert", "firewall allow console all",
		"configure token abc", "configure zone 192.0.2.7", "start mmr", "stop mmr", "restart mmr", "users add a view", "users passwd admin",
		"users authority admin view", "users del admin", "certs reset", "certs request a", "certs install", "certs trust", "certs distrust AA",
		"ping a", "traceroute a", "lookup a", "tls a", "port a 1", "counters", "time set 2026-03-01 12:00:00", "time sync", "role router",
		"portal", "identity same", "repair retry", "repair format", "reboot", "poweroff", "factory-reset",
	} {
		r.says(command, "may only look")
	}
	r.send("users totp off admin\r") // his own would be allowed
	r.expect(`\[y/N\] `)
	r.send("y\r")
	r.expect("may only look")
	r.expect("parley> ")
	r.send("1\r")
	r.expect("back\\): ")
	r.send("3\r")
	r.expect("may only look")
	r.send("\x03")
	r.expect("parley> ")
	for _, command := range []string{"status", "network", "firewall", "configure", "services", "users", "certs", "time", "ifconfig", "role"} {
		if out := r.run(command); strings.Contains(out, "may only look") {
			t.Errorf("%s is refused", command)
		}
	}
	if got := r.server.Asked(); len(got) != 0 {
		t.Errorf("asked PID 1 %+v", got)
	}
	if got := r.admin.Network.Asked(); len(got) != 0 {
		t.Errorf("asked the network service %+v", got)
	}
	if got := r.side.took(); len(got) != 0 {
		t.Errorf("asked %q", got)
	}
	// Removed or given another password, he is out at the next command.
	if err := r.admin.RemoveAccount(t.Context(), admintest.Operator, "vera"); err != nil {
		t.Fatal(err)
	}
	r.send("version\r")
	r.expect("Logged out: the account was changed")
	r.expect("login: ")
}

func TestSecondFactor(t *testing.T) {
	r := newRig(t)
	r.admin.SetPassword(t, admintest.Password)
	setup, err := r.admin.BeginTOTP(t.Context(), admintest.Operator)
	if err != nil {
		t.Fatal(err)
	}
	code := func(at time.Time) string {
		c, err := account.Code(setup.Secret, at)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	now := time.Now()
	if _, err := r.admin.ConfirmTOTP(t.Context(), admintest.Operator, code(now.Add(-30*time.Second))); err != nil {
		t.Fatal(err)
	}
	for _, try := range []struct{ password, code, want string }{
		{"open sesame", "", "Wrong name or password"}, {admintest.Password, "000000", "Wrong code"}, {admintest.Password, code(now), "parley> "},
	} {
		r.expect("login: ")
		r.send("admin\r")
		r.expect("Password: ")
		r.send(try.password + "\r")
		if try.code != "" {
			r.expect("Code of the second factor: ")
			r.send(try.code + "\r")
		}
		r.expect(try.want)
	}
}

func TestCompletionOfWords(t *testing.T) {
	r := ready(t)
	s := &session{c: r.c, who: admin.Actor{Name: "admin"}}
	for head, want := range map[string]string{
		"net": "network", "network s": "set", "network set e": "eth0 eth0:0 except", "network set eth0 ": "dhcp static", "NETWORK set ipv6 a": "auto",
		"users authority ": "admin", "users authority admin ": "operate view", "users add x o": "operate", "configure z": "zone", "configure zone ": "off", "configure limit ": "off",
		"firewall allow m": "media", "lookup a M": "MX", "tls a 443 ": "proxy", "time ": "set sync", "certs re": "reset request", "restart zc": "zctrl",
		"identity ": "same copy", "help fac": "factory-reset", "network set eth0 dhcp ": "", "nothing ": "",
	} {
		if got := strings.Join(s.complete(head), " "); got != want {
			t.Errorf("%q: %q, want %q", head, got, want)
		}
	}
}

// Whatever arguments are typed, they change what is to be set, or are refused;
// what was there is not touched.
func FuzzEdit(f *testing.F) {
	for _, s := range networkForms {
		f.Add(s)
	}
	for _, s := range configureForms {
		f.Add(s)
	}
	f.Add("network set eth0 static 192.0.2.1 255.0.0.0 192.0.2.2")
	f.Add("network route del 10.0.0.0/8")
	f.Add("network set proxy \xff \x00 \x1b[2J")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		if len(args) < 2 {
			return
		}
		c := netconfig.DefaultConfig()
		c.Routes = []netconfig.Route{{Destination: netip.MustParsePrefix("10.0.0.0/8"), Gateway: netip.MustParseAddr("192.0.2.2")}}
		c.DNS.Search = []string{"example.net"}
		before := fmt.Sprint(c)
		in := c.Input()
		if _, err := edit(&in, args[1:]); err == nil {
			in.Config(c)
		}
		if after := fmt.Sprint(c); after != before {
			t.Fatalf("%q changed %s to %s", line, before, after)
		}
		ci := admin.ConnectorInput{External: []pair{{"a", "b"}}}
		external := ci.External
		configure(&ci, args[1:])
		if external[0] != (pair{"a", "b"}) {
			t.Fatalf("%q changed what is saved", line)
		}
	})
}

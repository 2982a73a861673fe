package judge

import (
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// Output is what a process has written so far.
type Output struct {
	mu sync.Mutex
	b  strings.Builder
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Dnsmasq returns a command that serves DHCP on br0, not started yet, and what
// it will write, which is shown when the test fails. It is the package
// dnsmasq-base.
func Dnsmasq(t *testing.T, leases string, args ...string) (*exec.Cmd, *Output) {
	t.Helper()
	Need(t, "dnsmasq")
	log := &Output{}
	cmd := exec.Command("dnsmasq", append([]string{"--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--pid-file=", "--user=root",
		"--port=0", "--interface=br0", "--bind-interfaces", "--no-ping", "--dhcp-sequential-ip", "--dhcp-authoritative",
		"--dhcp-leasefile=" + leases}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("dnsmasq's log:\n%s", log)
		}
	})
	return cmd, log
}

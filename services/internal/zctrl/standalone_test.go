package zctrl

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/mmr"
)

// A controller VM without a portal: both processes at one address, with the
// machine's real membership between them, hold a trial meeting whose links let
// people in.
func TestStandalone(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr("127.0.0.44")
	free := func(network string) uint16 {
		if network == "udp" {
			c, err := net.ListenPacket("udp", netip.AddrPortFrom(address, 0).String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			return uint16(c.LocalAddr().(*net.UDPAddr).Port)
		}
		l, err := net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return uint16(l.Addr().(*net.TCPAddr).Port)
	}
	at := netip.AddrPortFrom(address, free("tcp"))
	m, err := member.New(member.Config{
		Role: link.Controller, Host: "trial", Version: "1.2.3", Dir: t.TempDir(), Settings: t.TempDir(),
		Status: func() link.Status { return link.Status{Addresses: []netip.Addr{address}} }, Log: logger(t, "member"),
	})
	if err != nil {
		t.Fatal(err)
	}
	bustest.Running(t, m.Run)
	bustest.Eventually(t, "the appliance is a zone of its own", func() bool { return m.State().Standalone && m.State().Credentials != nil })
	zone := socket(t, "zone.sock")
	bustest.Running(t, func(ctx context.Context) error { return m.Serve(ctx, zone) })
	remote := member.Dial(zone, logger(t, "remote"))
	bustest.Running(t, remote.Run)

	cert, err := tls.X509KeyPair([]byte(m.State().Credentials.Certificate), []byte(m.State().Credentials.Key))
	if err != nil {
		t.Fatal(err)
	}
	certificate := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
	handed := socket(t, "handover.sock")
	router, err := mmr.NewAppliance(mmr.ApplianceConfig{
		Zone: remote, Version: "1.2.3", Host: "trial", Certificate: certificate, Handover: handed, Log: logger(t, "mmr"),
		Addresses: func() ([]netip.Addr, error) { return []netip.Addr{address}, nil }, Media: []uint16{free("udp")}, HTTPS: at.Port(), Bus: at.Port(),
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{
		Zone: m, Trials: m, Listen: func() []netip.AddrPort { return []netip.AddrPort{at} }, Port: at.Port(), Certificate: certificate,
		Handover: handed, Log: logger(t, "zctrl"),
	})
	if err != nil {
		t.Fatal(err)
	}
	bustest.Running(t, s.Run)
	bustest.Running(t, router.Run)
	k := &tested{Server: s, at: at}

	trial, err := m.NewTrial("First try", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(code, name string) string {
		t.Helper()
		var got *http.Response
		var body string
		bustest.Eventually(t, "the controller answers", func() bool {
			c, err := net.Dial("tcp", at.String())
			if err == nil {
				c.Close()
				got, body = k.do(t, "POST", "/trial", fmt.Sprintf(`{"code":%q,"name":%q}`, code, name))
			}
			return err == nil
		})
		var a TrialAnswer
		if err := json.Unmarshal([]byte(body), &a); err != nil || got.StatusCode != 200 {
			t.Fatalf("%d %s", got.StatusCode, body)
		}
		return a.Ticket
	}
	host := comes(t, "host", ask(trial.Host, "Host"), at)
	guest := comes(t, "guest", ask(trial.Guest, "Guest"), at)
	host.say("a0")
	guest.hears("a", 1)
	guest.say("b0")
	host.hears("b", 1)

	// WHIP is there, by the controller's port.
	res, _ := k.do(t, "OPTIONS", "/whip", "")
	if !strings.Contains(res.Header.Get("Accept-Post"), "application/sdp") {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	// So is what is no TLS: a stream of ICE-TCP that says nothing for somebody in a
	// meeting is ended by the router, and a length that makes no sense at once.
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("\x00\x00")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(bustest.Patience))
	if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}

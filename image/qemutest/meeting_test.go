package qemutest_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/qemutest"
	"github.com/parley-meet/parley/internal/judge"
)

// The outside of the appliance in the tests of meetings: this machine has the
// addresses by which a firewall would translate to 10.0.2.15 and 10.0.2.16.
const (
	outsideOne = "203.0.113.7"
	outsideTwo = "203.0.113.8"
)

// Environment of the process that a test of a meeting starts in a network of its
// own, where it may take port 443 and addresses.
const (
	insideEnv = "PARLEY_MEETING_ADDRESSES"
	diskEnv   = "PARLEY_MEETING_DISK"
	loadEnv   = "PARLEY_MEETING_LOAD" // the program that certifies a machine
)

// Two browsers outside meet through the booted appliance and its own firewall: on
// a trial meeting that was made over the serial line, by one address and by two.
// Each decodes the other's picture and hears sound. The load test, which goes by the
// same link, comes to a verdict about the machine.
func TestMeeting(t *testing.T) {
	if addresses := os.Getenv(insideEnv); addresses != "" {
		meet(t, addresses)
		return
	}
	needOutside(t)
	disk := realDisk(t)
	judge.Need(t, "go")
	load := filepath.Join(t.TempDir(), "load")
	judge.Run(t, "go", "-C", root, "build", "-o", load, "./services/router/load")
	for _, addresses := range []string{"1", "2"} {
		t.Run(addresses+" addresses", func(t *testing.T) {
			ownNetwork(t, "^TestMeeting$", insideEnv+"="+addresses, diskEnv+"="+disk, loadEnv+"="+load)
		})
	}
}

// needOutside asks for what a test with an outside of its own wants.
func needOutside(t *testing.T) {
	t.Helper()
	judge.Need(t, "qemu-system-x86_64", "chromium")
	if os.Getuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("a network of its own needs root")
	}
}

// ownNetwork runs a test of this program in a network of its own.
func ownNetwork(t *testing.T, test string, env ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run="+test, "-test.v")
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		t.Log(s.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("inside: %v", err)
	}
}

// meet is TestMeeting in a network of its own.
func meet(t *testing.T, addresses string) {
	outside(t)
	forwards := []string{
		"tcp:" + outsideOne + ":443-10.0.2.15:443",
		"udp:" + outsideOne + ":8801-10.0.2.15:8801",
		"tcp:" + consoleHost + ":443-10.0.2.15:443",
	}
	if addresses == "2" {
		forwards = []string{
			"tcp:" + outsideOne + ":443-10.0.2.15:443",
			"tcp:" + outsideTwo + ":443-10.0.2.16:443",
			"udp:" + outsideTwo + ":8801-10.0.2.16:8801",
		}
	}
	v := boot(t, qemutest.Options{Disk: os.Getenv(diskEnv), Snapshot: true, MemoryMiB: 1024, Forwards: forwards})
	v.up()
	v.login()
	v.address()
	v.want("configure external 10.0.2.15 "+outsideOne, `Saved`)
	if addresses == "2" {
		v.want("network set eth0:0 10.0.2.16/24", `Saved and in force`)
		v.want("configure external 10.0.2.16 "+outsideTwo, `Saved`)
		v.until("configure", `10\.0\.2\.16 \(from the network\)`)
	}
	v.until("services", `zctrl .*ready: .* 1 routers.*mmr .*ready`)
	made := regexp.MustCompile(`https://`+regexp.QuoteMeta(outsideOne)+`/#trial=[A-Za-z0-9_-]+`).FindAllString(v.command("trial new Probe"), -1)
	if len(made) != 2 {
		t.Fatalf("the links are %q", made)
	}
	began := time.Now()
	anna, boris := newGuest(t, "en"), newGuest(t, "ru")
	anna.comeIn(made[0], "Anna")
	boris.comeIn(made[1], "Boris")
	anna.sees("Boris")
	boris.sees("Anna")
	anna.hears()
	boris.hears()
	anna.shot("meeting")
	t.Logf("two people see and hear each other %v after the first browser was started", time.Since(began).Round(time.Second))
	where := map[string]string{"1": outsideOne, "2": outsideTwo}[addresses]
	t.Logf("frames decoded: Anna %d, Boris %d; media at %s", anna.frames(), boris.frames(), where)
	v.wantLog("services", `zctrl .*ready.*mmr .*ready`)
	boris.do(chromedp.Click(`.controls [data-do="leave"]`))
	anna.until(`document.querySelectorAll(".tile").length === 1`)
	if addresses == "1" {
		// The appliance's own certificate names its own address.
		certify(t, strings.Replace(made[0], outsideOne, consoleHost, 1))
	}
	v.off()
}

// certify measures how many participants the appliance carries, as its administrator
// does; in emulation it is not many.
func certify(t *testing.T, link string) {
	t.Helper()
	c, err := tls.Dial("tcp", consoleHost+":443", &tls.Config{InsecureSkipVerify: true}) // it is what is asked for
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ConnectionState().PeerCertificates[0].Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := judge.Try(t, os.Getenv(loadEnv), "-url", "https://"+consoleHost, "-ca", ca, "-trial", link, "-local", "203.0.113.1",
		"-most", "3", "-warm", "3s", "-measure", "3s", "-lang", "en")
	t.Logf("the load test: %s", out)
	if err != nil || !regexp.MustCompile(`carr(y even|ies) \d+ participants? at 720p`).MatchString(out) {
		t.Errorf("the load test comes to no verdict: %v", err)
	}
}

// outside makes this process's network: an interface with the outside addresses.
func outside(t *testing.T) {
	t.Helper()
	up := func(name string) netlink.Link {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "out0"}, PeerName: "out1"}); err != nil {
		t.Fatal(err)
	}
	up("lo")
	up("out1")
	l := up("out0")
	for _, a := range []string{"203.0.113.1/24", outsideOne + "/24", outsideTwo + "/24", consoleHost + "/32"} {
		addr, err := netlink.ParseAddr(a)
		if err == nil {
			err = netlink.AddrAdd(l, addr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// The virtual machine takes nothing from its own address.
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
		Dst: netlink.NewIPNet(net.ParseIP(consoleHost)), Src: net.ParseIP("203.0.113.1")}); err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP("203.0.113.254")}); err != nil {
		t.Fatal(err)
	}
}

// newGuest starts a browser with a camera and a microphone that are made up.
func newGuest(t *testing.T, language string, more ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(more,
		chromedp.ExecPath("chromium"), chromedp.UserDataDir(t.TempDir()), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Headless, chromedp.DisableGPU, chromedp.NoSandbox, chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"), chromedp.Flag("accept-lang", language))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
	})
	b := &browser{t: t, ctx: ctx, prefix: language}
	b.size(1280)
	return b
}

// comeIn opens a trial meeting's link, gives a name and joins.
func (b *browser) comeIn(link, name string) {
	b.t.Helper()
	b.do(chromedp.Navigate(link))
	b.prepared()
	b.do(chromedp.SendKeys("#name", name))
	b.join()
}

// prepared waits until one sees oneself.
func (b *browser) prepared() {
	b.t.Helper()
	b.within(2*time.Minute, `document.querySelector(".ready video")?.videoWidth > 0`)
}

// join goes from there into the meeting.
func (b *browser) join() {
	b.t.Helper()
	b.do(chromedp.Click("[data-join]"))
	b.ready()
}

// ready waits until one is in.
func (b *browser) ready() {
	b.t.Helper()
	b.within(2*time.Minute, `document.querySelector("[data-link]")?.dataset.state === "ready"`)
}

// frames counts those of the others' pictures that were decoded.
func (b *browser) frames() int {
	b.t.Helper()
	n, err := strconv.Atoi(b.value(`[...document.querySelectorAll(".tile:not(.self) video")].reduce((n, v) => n + v.getVideoPlaybackQuality().totalVideoFrames, 0)`))
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// sees waits until the other's picture plays and goes on.
func (b *browser) sees(name string) {
	b.t.Helper()
	b.within(3*time.Minute, fmt.Sprintf(`[...document.querySelectorAll('.tile[data-source="camera"]:not(.self)')].some((e) => {
		const v = e.querySelector("video");
		return e.querySelector("[data-name]").textContent.startsWith(%q) && !v.hidden && v.videoWidth > 0 && v.getVideoPlaybackQuality().totalVideoFrames > 20;
	})`, name))
}

// hears waits until sound is played that is not silence.
func (b *browser) hears() {
	b.t.Helper()
	b.within(3*time.Minute, `(() => {
		window.probe ??= (() => {
			const c = new AudioContext(), a = c.createAnalyser();
			for (const e of document.querySelectorAll("audio")) if (e.srcObject) c.createMediaStreamSource(e.srcObject).connect(a);
			void c.resume();
			return a;
		})();
		const s = new Float32Array(window.probe.fftSize);
		window.probe.getFloatTimeDomainData(s);
		return s.some((v) => Math.abs(v) > 0.01);
	})()`)
}

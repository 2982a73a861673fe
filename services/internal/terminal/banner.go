package terminal

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/nic"
)

// bannerEvery is the shortest time between two banners that nobody asked for.
const bannerEvery = 2 * time.Second

// Emphasis, where the terminal knows it (ECMA-48 8.3.117).
const (
	bold  = "\x1b[1m"
	alarm = "\x1b[1;31m"
	plain = "\x1b[m"
	// wipe clears a screen and what can be scrolled back to.
	wipe = "\x1b[H\x1b[2J\x1b[3J"
)

// labelWidth is the column where the banner's values begin.
const labelWidth = 18

// showBanner prints the banner.
func (s *session) showBanner() {
	s.shown = s.banner()
	s.shownAt = time.Now()
	if s.dev.Screen() {
		s.printf("%s", wipe)
	}
	s.printf("\n%s\n", s.shown)
}

// bannerNews prints the banner again when what it says has changed for good:
// while services start, it changes more than once a second.
func (s *session) bannerNews() bool {
	b := s.banner()
	last := s.candidate
	s.candidate = b
	if b == s.shown || b != last || time.Since(s.shownAt) < bannerEvery {
		return false
	}
	s.ed.Hide()
	s.showBanner()
	return true
}

func (s *session) banner() string {
	width, _ := s.size()
	return banner(s.words(), s.c.snapshot(), s.host(), s.c.cfg.WebPort, width-1)
}

// banner is what stands above the login prompt. It holds nothing that changes
// with the time alone.
func banner(w *look.Words, now snapshot, host string, port, width int) string {
	var b strings.Builder
	line := func(key, value string) {
		fmt.Fprintf(&b, "%s%s\n", pad(w.T(key), labelWidth), hang(value, width, labelWidth))
	}
	st := now.status
	version := ""
	if st != nil {
		version = " " + clean(st.Version, 40)
	}
	fmt.Fprintf(&b, "%sParley%s%s · %s\n", bold, version, plain, host)
	addrs := nic.Reachable(now.interfaces)
	if len(addrs) == 0 {
		line("banner.address", w.T("banner.no-address"))
	} else {
		line("banner.address", addresses(addrs[:min(len(addrs), 4)], now))
		line("banner.console", consoleURL(addrs[0], port))
	}
	if f := strings.Split(now.fingerprint, ":"); len(f) == 32 {
		line("banner.certificate", clean(strings.Join(f[:16], ":"), 60))
		line("", clean(strings.Join(f[16:], ":"), 60))
	}
	if st != nil {
		for _, v := range st.Services {
			if v.Name == "zctrl" || v.Name == "mmr" || v.Name == "portal" {
				line(v.Name, w.T("banner.service", w.Title(clean(v.Title, 40)), serviceState(w, v)))
			}
		}
		if st.BootTime > 0 {
			line("banner.boot", w.Seconds(st.BootTime))
		} else {
			line("banner.state", w.T("banner.starting"))
		}
	}
	for _, text := range warnings(w, now) {
		fmt.Fprintf(&b, "%s%s%s\n", alarm, hang("! "+text, width, 2), plain)
	}
	if now.password != "" {
		fmt.Fprintf(&b, "\n%s %s\n", w.T("banner.password"), now.password)
	}
	return b.String()
}

// addresses names them, with the second one's as operators know it.
func addresses(addrs []netip.Addr, now snapshot) string {
	var out []string
	for _, a := range addrs {
		text := a.String()
		if now.network != nil && now.network.Config.Slave.Addr() == a {
			text += " (eth0:0)"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// countdownStep is how often the countdown in the banner goes on: each time, the
// banner is printed anew.
const countdownStep = 30 * time.Second

func consoleURL(a netip.Addr, port int) string {
	return "https://" + netip.AddrPortFrom(a.WithZone(""), uint16(port)).String()
}

// serviceState is a service's state with its own words.
func serviceState(w *look.Words, v control.Service) string {
	text := clean(w.State(v.State), 40)
	if v.CrashLoop {
		text += ", " + w.T("crash-loop")
	}
	if v.Detail != "" && v.State != control.StateStopped {
		text += " (" + clean(w.Detail(v.Detail), 160) + ")"
	}
	return text
}

// warnings are what an operator must know before anything else.
func warnings(w *look.Words, now snapshot) []string {
	var out []string
	if now.status == nil && now.err != nil {
		return []string{w.T("warn.init", clean(now.err.Error(), 120))}
	}
	st := now.status
	if st == nil {
		return nil
	}
	if st.Degraded() {
		switch st.Perm.State {
		case control.PermReadOnly:
			out = append(out, w.T("warn.read-only"))
		default:
			out = append(out, w.T("warn.missing"))
		}
		if st.Perm.Message != "" {
			out = append(out, clean(st.Perm.Message, 240))
		}
	}
	if st.LastBoot != "" {
		out = append(out, w.T("warn.last-boot", clean(w.Detail(st.LastBoot), 160)))
	}
	if m := st.Machine; m.Changed {
		out = append(out, cloneText(w, m))
	}
	if n := now.network; n != nil && n.Pending != nil {
		left := max(time.Until(n.Pending.Deadline), 0).Truncate(countdownStep) + countdownStep
		out = append(out, w.T("warn.pending", clean(n.Pending.By, 80), int(left.Seconds())))
	}
	for _, n := range now.notices {
		out = append(out, notice(w, n))
	}
	if now.recovery {
		out = append(out, w.T("warn.recover", recoverName))
	}
	if now.damaged != nil {
		out = append(out, w.T("warn.damaged", clean(now.damaged.Error(), 160)))
	}
	return out
}

// notice puts a notice into words: a code, and when it arose.
func notice(w *look.Words, text string) string {
	code, at, _ := strings.Cut(text, " ")
	out := clean(w.Or("notice.", code), 200)
	if t, err := time.Parse(time.RFC3339, at); err == nil {
		out += " (" + t.UTC().Format("2006-01-02 15:04 UTC") + ")"
	}
	return out
}

// since is how long ago t was, or a dash for never.
func since(w *look.Words, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return w.Duration(time.Since(t))
}

func number(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

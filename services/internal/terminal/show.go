package terminal

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-meet/parley/services/internal/netconfig"
	"github.com/parley-meet/parley/services/internal/nic"
)

func (s *session) cmdStatus(ctx context.Context, _ []string) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	w, now := s.words(), s.c.snapshot()
	now.status, now.password = st, ""
	width, _ := s.size()
	s.printf("%s", banner(w, now, s.host(), s.c.cfg.WebPort, width-1))
	s.row("status.role", roles(w, st))
	s.row("status.up", w.Duration(time.Since(st.Booted)))
	perm := clean(w.Or("perm.", string(st.Perm.State)), 60)
	if st.Perm.Size > 0 {
		perm += ", " + w.T("status.free", w.Bytes(st.Perm.Free), w.Bytes(st.Perm.Size))
	}
	s.row("status.perm", perm)
	s.row("status.watchdog", clean(st.Watchdog, 60))
	s.row("status.time", time.Now().UTC().Format("2006-01-02 15:04:05 UTC"))
	return nil
}

func (s *session) cmdVersion(ctx context.Context, _ []string) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	s.printf("Parley %s\n", clean(st.Version, 60))
	s.say("version.more", clean(st.Kernel, 60), clean(st.Slot, 10), clean(st.Firmware, 10))
	return nil
}

func (s *session) cmdServices(ctx context.Context, _ []string) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	w := s.words()
	width, _ := s.size()
	row := func(name, title, state, since, restarts, pid string) {
		s.printf("%s %s %s %s %s %s\n", pad(name, 15), pad(title, 22), pad(state, 12), pad(since, 12), pad(restarts, 9), pid)
	}
	s.printf("%s", bold)
	row(w.T("services.name"), w.T("services.title"), w.T("services.state"), w.T("services.since"), w.T("services.restarts"), "PID")
	s.printf("%s", plain)
	for _, v := range st.Services {
		row(clean(v.Name, 40), w.Title(clean(v.Title, 40)), clean(w.State(v.State), 40), since(w, v.Since), number(v.Restarts), number(v.PID))
		indent := func(text string) {
			if text != "" {
				s.printf("%16s%s\n", "", hang(text, width-17, 16))
			}
		}
		indent(clean(w.Detail(v.Detail), 200))
		if v.CrashLoop {
			indent(w.T("crash-loop"))
		}
		if e := v.LastExit; e != nil {
			indent(w.T("services.exit", since(w, e.At), clean(e.Reason, 160)))
		}
	}
	return nil
}

func (s *session) cmdIfconfig(_ context.Context, args []string) error {
	list, err := s.c.cfg.Interfaces()
	if err != nil {
		return err
	}
	w := s.words()
	found := false
	for _, i := range list {
		if len(args) > 0 && args[0] != i.Name {
			continue
		}
		found = true
		mac := ""
		if len(i.MAC) > 0 {
			mac = ", " + i.MAC.String()
		}
		s.printf("%s %s, mtu %d%s\n", pad(clean(i.Name, 15)+":", 8), clean(w.Or("link.", i.State), 40), i.MTU, mac)
		n := s.c.snapshot().network
		for _, p := range i.Addresses {
			mark := ""
			if n != nil && n.Config.Slave == p {
				mark = " " + w.T("ifconfig.slave")
			}
			s.printf("%9s%s%s\n", "", p, mark)
		}
		if len(i.Addresses) == 0 {
			s.printf("%9s%s\n", "", w.T("banner.no-address"))
		}
		if n != nil && n.State.Interface == i.Name {
			s.showInForce(n.State)
		}
		for _, d := range []struct {
			key string
			c   nic.Counters
		}{{"ifconfig.rx", i.RX}, {"ifconfig.tx", i.TX}} {
			s.printf("%9s%s\n", "", w.T(d.key, fmt.Sprint(d.c.Packets), w.Bytes(d.c.Bytes), fmt.Sprint(d.c.Errors), fmt.Sprint(d.c.Dropped)))
		}
	}
	if !found {
		if len(args) > 0 {
			return usageError{"ifconfig.none", clean(args[0], 15)}
		}
		s.say("ifconfig.empty")
	}
	return nil
}

// showInForce prints what ifconfig tells beside the addresses.
func (s *session) showInForce(st netconfig.State) {
	w := s.words()
	width, _ := s.size()
	if st.Gateway.IsValid() {
		s.printf("%9s%s\n", "", w.T("ifconfig.gateway", st.Gateway))
	}
	s.printf("%9s%s\n", "", hang(w.T("ifconfig.mode", clean(w.Or("mode.", st.Mode), 40), orNone(w, list(st.DNS))), width-10, 9))
	if st.Problem != "" { // somebody else has the address
		s.printf("%9s%s\n", "", hang("! "+clean(w.Detail(st.Problem), 300), width-10, 11))
	}
}

package mmr

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/internal/judge"
	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/labtest"
)

// on starts a browser on a host of a lab.
func on(t *testing.T, h *labtest.Host, more ...chromedp.ExecAllocatorOption) *browsertest.Tab {
	t.Helper()
	judge.Need(t, "nsenter")
	ns := h.Path()
	return browsertest.New(t, "en", append(more, chromedp.ModifyCmdFunc(func(c *exec.Cmd) {
		c.Args = append([]string{"nsenter", "--net=" + ns, c.Path}, c.Args[1:]...)
		c.Path = "/usr/bin/nsenter"
	}))...)
}

// The network loses one packet of twenty each way, delays all by 100 ms and has
// some overtake others: two browsers meet all the same, the picture goes on and
// the sound is heard.
func TestWeather(t *testing.T) {
	judge.Need(t, "chromium")
	server, client := labtest.NewHost(t, "router"), labtest.NewHost(t, "client")
	at := netip.MustParseAddr("10.9.0.1")
	cable := labtest.NewCable(server, client, netip.PrefixFrom(at, 24), netip.MustParsePrefix("10.9.0.2/24"),
		labtest.Weather{Delay: 100 * time.Millisecond, Loss: 0.05, Reorder: 0.02, Seed: 1})
	target, _ := startAt(t, netip.AddrPortFrom(at, 8801), netip.AddrPortFrom(at, 443), server.Do)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><title>test</title><link rel=icon href=data:,><body><script>%s</script>", script)
	}))
	web.Listener.Close()
	client.Must(func() (err error) {
		web.Listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	web.Start()
	defer web.Close()
	out, in := on(t, client, fakes...), on(t, client, fakes...)
	for n, b := range []*browsertest.Tab{out, in} {
		b.Run(chromedp.Navigate(web.URL))
		text, err := target.Ticket(n)
		if err != nil {
			t.Fatal(err)
		}
		call := fmt.Sprintf(`publish(%q, %q, "VP8")`, target.Base+"/whip", text)
		if n == 1 {
			call = fmt.Sprintf(`play(%q, %q)`, target.Base+"/whep", text)
		}
		b.Value(fmt.Sprintf("act(() => %s) || 1", call))
		b.Until(`window.done !== ""`)
		if got := b.Value("window.done"); got != "ok" {
			t.Fatal(got)
		}
	}
	type seen struct {
		Frames, Freezes, Lost, Concealed, Samples int
		Energy, Frozen                            float64 // Frozen in seconds
	}
	look := func() (s seen) {
		t.Helper()
		if err := json.Unmarshal([]byte(in.Value("JSON.stringify(window.seen)")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	// While the jitter buffer learns the network, pictures stop now and then.
	in.Until(`window.seen && window.seen.frames > 60 && window.seen.energy > 0`)
	before := look()
	const watched = 20 * time.Second
	after := before
	for end := time.Now().Add(watched); time.Now().Before(end); {
		time.Sleep(2 * time.Second)
		next := look()
		if next.Frames == after.Frames {
			t.Errorf("the picture stood still for two seconds: %+v", next)
		}
		after = next
	}
	t.Logf("in %v: %+v, %+v before", watched, after, before)
	carried, lost, overtook := cable.Counts()
	t.Logf("packets: %d, %d lost, %d overtook", carried, lost, overtook)
	frames := after.Frames - before.Frames
	if most := int(20 * watched.Seconds()); frames < most*8/10 {
		t.Errorf("%d frames were decoded of some %d", frames, most)
	}
	// What is lost comes again 200 ms later at the earliest, which the browser counts:
	// one packet of ten, with about one a picture.
	if n := after.Freezes - before.Freezes; n > 60 {
		t.Errorf("the picture froze %d times", n)
	}
	if after.Energy <= before.Energy {
		t.Error("nothing was heard")
	}
	if n, of := after.Concealed-before.Concealed, after.Samples-before.Samples; n*5 > of {
		t.Errorf("%d of %d samples of sound are made up", n, of)
	}
}

package placement

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/link"
)

// wire is a bus that hands announcements to a view.
type wire struct {
	joined chan struct{}
	view   *View

	mu   sync.Mutex
	sent []time.Time
	last Announcement
	err  error
}

func (w *wire) Joined() <-chan struct{} { return w.joined }

func (w *wire) Publish(to bus.Peer, topic string, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.sent = append(w.sent, time.Now())
	w.view.Hear(bus.Message{From: bus.Peer{Role: link.Router, ID: "r1"}, Topic: topic, Data: data})
	a, err := Decode(data)
	w.last = a
	return err
}

// take returns when announcements were sent since start, and forgets them.
func (w *wire) take(start time.Time) (out []time.Duration) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.sent {
		out = append(out, t.Sub(start))
	}
	w.sent = nil
	return out
}

// fail makes it fail, or work again.
func (w *wire) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

func TestAnnouncer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{joined: make(chan struct{}, 1), view: NewView(nil)}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ended := make(chan error, 2)
		go func() { ended <- w.view.Run(ctx) }()
		state := Announcement{Version: "1", Limit: 200, Meetings: []Meeting{{"m1", 1, 1}}}
		a := NewAnnouncer(w, func() Announcement { return state }, nil)
		actx, astop := context.WithCancel(t.Context())
		go func() { ended <- a.Run(actx) }()

		start := time.Now()
		time.Sleep(3*Every + time.Millisecond)
		if got := w.take(start); len(got) != 4 || got[0] != 0 || got[3] != 3*Every {
			t.Errorf("announced at %v", got)
		}
		// Many changes are one announcement, soon.
		start = time.Now()
		for range 10 {
			a.Changed()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(settle + 10*time.Millisecond)
		if got := w.take(start); len(got) == 0 || len(got) > 2 || got[0] != settle {
			t.Errorf("changes are announced at %v", got)
		}
		start = time.Now()
		w.joined <- struct{}{}
		time.Sleep(settle)
		if got := w.take(start); len(got) == 0 {
			t.Error("a new controller hears nothing")
		}
		if p, ok := w.view.Find("m1"); !ok || p != (Place{"r1", 1, true}) {
			t.Errorf("%+v, %v", p, ok)
		}

		// Without a bus it is silent, and the view says so by itself.
		for len(w.view.Changed()) > 0 {
			<-w.view.Changed()
		}
		w.fail(errors.New("no bus"))
		time.Sleep(Expiry + Every)
		synctest.Wait()
		if len(w.view.Changed()) == 0 {
			t.Error("nobody is told that a router fell silent")
		}
		if list := w.view.Routers(); len(list) != 1 || list[0].State(time.Now()) != Silent {
			t.Errorf("%+v", list)
		}
		if _, ok := w.view.Find("m1"); ok {
			t.Error("a meeting runs on a silent router")
		}

		// The last word gives the meetings up.
		w.fail(nil)
		astop()
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.last.Draining || len(w.last.Meetings) != 0 {
			t.Errorf("the last word is %+v", w.last)
		}
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestViewIgnores(t *testing.T) {
	v := NewView(nil)
	for _, m := range []bus.Message{
		{From: bus.Peer{Role: link.Controller, ID: "c1"}, Data: []byte(`{"limit":200}`)},
		{From: bus.Peer{Role: link.Router, ID: "r1"}, Data: []byte(`{"limit":-1}`)},
		{From: bus.Peer{Role: link.Router, ID: "r1"}, Data: []byte(`no`)},
	} {
		v.Hear(m)
	}
	if list := v.Routers(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestViewZone(t *testing.T) {
	v := NewView(nil)
	for _, id := range []string{"r1", "r2", "c1"} {
		v.Hear(bus.Message{From: bus.Peer{Role: link.Router, ID: id}, Data: []byte(`{"limit":200}`)})
	}
	if list := v.Routers(); len(list) != 3 {
		t.Fatalf("%+v", list)
	}
	z, err := bus.NewZone(link.Credentials{Zone: "z", Appliance: "c1", Authority: authority(t)},
		&link.Config{Appliances: []link.Peer{{ID: "r1", Role: link.Router}, {ID: "c1", Role: link.Controller}}})
	if err != nil {
		t.Fatal(err)
	}
	v.SetZone(z)
	if list := v.Routers(); len(list) != 2 || list[0].ID != "c1" || list[1].ID != "r1" {
		t.Errorf("%+v", list)
	}
}

// authority returns some certificate in PEM.
func authority(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(nil, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

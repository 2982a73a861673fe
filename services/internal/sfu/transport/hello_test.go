package transport

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/pion/dtls/v2/pkg/crypto/selfsign"
)

// greet is what a client sends first, in datagrams of at most mtu bytes.
func greet(t testing.TB, mtu int, profiles ...dtls.SRTPProtectionProfile) [][]byte {
	t.Helper()
	cert, err := selfsign.GenerateSelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		c, err := dtls.Client(theirs, &dtls.Config{InsecureSkipVerify: true, SRTPProtectionProfiles: profiles, MTU: mtu, FlightInterval: time.Minute, Certificates: []tls.Certificate{cert}})
		if err == nil {
			c.Close()
		}
	}()
	var list [][]byte
	var h hello
	for {
		b := make([]byte, 4096)
		ours.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := ours.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b[:n])
		if body, bad := h.add(b[:n]); bad {
			t.Fatalf("%x", b[:n])
		} else if body != nil {
			return list
		}
	}
}

// GCM is found wherever it stands in a client's list, whole or in fragments, in
// whatever order they come and however often.
func TestHello(t *testing.T) {
	for name, test := range map[string]struct {
		mtu      int
		profiles []dtls.SRTPProtectionProfile
		want     bool
	}{
		"as Chromium": {1200, []dtls.SRTPProtectionProfile{dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AEAD_AES_128_GCM}, true},
		"fragments":   {60, []dtls.SRTPProtectionProfile{dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_128_GCM}, true},
		"without":     {1200, []dtls.SRTPProtectionProfile{dtls.SRTP_AES128_CM_HMAC_SHA1_80}, false},
		"256 alone":   {60, []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_256_GCM}, false},
	} {
		t.Run(name, func(t *testing.T) {
			list := greet(t, test.mtu, test.profiles...)
			if fragments := len(list) > 1; fragments != (test.mtu == 60) {
				t.Fatalf("%d datagrams", len(list))
			}
			g := newGate()
			for i := len(list) - 1; i >= 0; i-- {
				for range 2 {
					if !g.hold(list[i], nil) {
						t.Fatal("passed")
					}
				}
			}
			select {
			case <-g.seen:
			default:
				t.Fatal("not seen")
			}
			if g.gcm != test.want {
				t.Errorf("GCM: %v", g.gcm)
			}
			if held := g.pass(); len(held) != min(2*len(list), maxHeld) {
				t.Errorf("%d packets were held of %d", len(held), 2*len(list))
			}
			if g.hold(list[0], nil) {
				t.Error("held after the gate was opened")
			}
		})
	}
}

func FuzzHello(f *testing.F) {
	for _, b := range greet(f, 1200, dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_128_GCM) {
		f.Add(b)
		f.Add(b[25:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		offersGCM(b)
		g := newGate()
		g.hold(b, nil)
		g.hold(b, nil)
	})
}

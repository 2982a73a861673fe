package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v2"
	"pgregory.net/rapid"
)

func keying(p Profile) []byte {
	b := make([]byte, p.KeyingLen())
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// What we seal another implementation opens, over several rollovers and out of
// order; and the other way about.
func TestSealOpen(t *testing.T) {
	for _, p := range []Profile{AES128CM, AES128GCM} {
		k := keying(p)
		ours, err := NewCrypt(p, k, true)
		if err != nil {
			t.Fatal(err)
		}
		client, err := NewCrypt(p, k, false)
		if err != nil {
			t.Fatal(err)
		}
		profile := srtp.ProtectionProfileAes128CmHmacSha1_80
		if p == AES128GCM {
			profile = srtp.ProtectionProfileAeadAes128Gcm
		}
		// The server's half, as the library itself would open it.
		theirs, err := srtp.CreateContext(k[keyLen:2*keyLen], k[2*keyLen+p.saltLen():], profile)
		if err != nil {
			t.Fatal(err)
		}
		s := &Stream{SSRC: 0x01020304}
		r := rand.New(rand.NewPCG(3, 4))
		for base := uint64(65000); base < 65000+3*65536; base += 9 {
			for _, i := range []uint64{base + 2, base, base + 1} {
				payload := make([]byte, r.IntN(1200))
				for j := range payload {
					payload[j] = byte(i)
				}
				h := rtp.Header{Version: 2, PayloadType: 96, Timestamp: uint32(i), Marker: i%2 == 0}
				if err := h.SetExtension(3, []byte{1, 2}); err != nil {
					h.Extension, h.ExtensionProfile = true, 0xBEDE
					if err := h.SetExtension(3, []byte{1, 2}); err != nil {
						t.Fatal(err)
					}
				}
				b := make([]byte, h.MarshalSize()+len(payload), 1500)
				n, err := h.MarshalTo(b)
				if err != nil {
					t.Fatal(err)
				}
				copy(b[n:], payload)
				sealed, err := ours.SealRTP(s, i, b, n)
				if err != nil {
					t.Fatalf("%d: %v", i, err)
				}
				clear, err := theirs.DecryptRTP(nil, sealed, nil)
				if err != nil {
					t.Fatalf("profile %d, number %d: %v", p, i, err)
				}
				var got rtp.Packet
				if err := got.Unmarshal(clear); err != nil {
					t.Fatal(err)
				}
				if got.SequenceNumber != uint16(i) || got.SSRC != s.SSRC || !bytes.Equal(got.Payload, payload) {
					t.Fatalf("number %d came as %v", i, got)
				}
				if _, err := client.OpenRTP(nil, sealed); err != nil {
					t.Fatal(err)
				}
				if _, err := client.OpenRTP(nil, sealed); err == nil {
					t.Fatal("a packet was opened twice")
				}
			}
		}
		b := []byte{0x80, 201, 0, 1, 1, 2, 3, 4}
		sealed, err := ours.SealRTCP(b)
		if err != nil {
			t.Fatal(err)
		}
		if clear, err := client.OpenRTCP(sealed); err != nil || !bytes.Equal(clear, b) {
			t.Fatalf("%x, %v", clear, err)
		}
	}
}

// No number is sealed twice, in whatever order they are asked for.
func TestClaimOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &Stream{}
		taken := map[uint64]bool{}
		at := rapid.Uint64Range(0, 1<<40).Draw(t, "start")
		for range rapid.IntRange(1, 300).Draw(t, "count") {
			i := at + uint64(rapid.Int64Range(-1500, 1500).Draw(t, "step"))
			if i > 1<<48 {
				i = 0
			}
			ok := s.Claim(i)
			if ok && taken[i] {
				t.Fatalf("%d was given twice", i)
			}
			if !ok && !taken[i] && i < 1<<48 && (len(taken) == 0 || i+window > s.Newest()) {
				t.Fatalf("%d was refused, newest %d", i, s.Newest())
			}
			taken[i] = taken[i] || ok
			if ok && i > at {
				at = i
			}
		}
	})
}

func TestReuse(t *testing.T) {
	c, err := NewCrypt(AES128GCM, keying(AES128GCM), true)
	if err != nil {
		t.Fatal(err)
	}
	s := &Stream{SSRC: 1}
	b := make([]byte, 20, 64)
	b[0] = 0x80
	if _, err := c.SealRTP(s, 7, b, 12); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SealRTP(s, 7, b[:20], 12); !errors.Is(err, ErrReuse) {
		t.Fatal(err)
	}
}

// A peer that sends ever new SSRCs makes us remember only so many.
func TestSources(t *testing.T) {
	c, err := NewCrypt(AES128GCM, keying(AES128GCM), true)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	b[0] = 0x80
	for i := range uint32(10 * maxHeard) {
		binary.BigEndian.PutUint32(b[8:], i)
		if _, err := c.OpenRTP(nil, b); err == nil {
			t.Fatal("opened")
		} else if i >= maxHeard && !errors.Is(err, ErrSources) {
			t.Fatalf("%d: %v", i, err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, p := range []Profile{AES128GCM, AES128CM} {
		b.Run(map[Profile]string{AES128GCM: "gcm", AES128CM: "cm"}[p], func(b *testing.B) {
			c, err := NewCrypt(p, keying(p), true)
			if err != nil {
				b.Fatal(err)
			}
			s := &Stream{SSRC: 1}
			buf := make([]byte, 1500)
			b.ReportAllocs()
			b.SetBytes(1200)
			i := uint64(0)
			for b.Loop() {
				buf[0] = 0x80
				if _, err := c.SealRTP(s, i, buf[:1200], 20); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

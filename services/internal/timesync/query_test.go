package timesync

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// packet makes a server's answer to a request that came at a time.
func packet(request []byte, at time.Time, change func(b []byte)) []byte {
	b := make([]byte, 48)
	b[0], b[1], b[2], b[3] = 4<<3|4, 2, 6, 0xec // no leap, version 4, server; stratum 2
	copy(b[24:], request[40:48])                // origin
	for _, field := range []int{16, 32, 40} {   // reference, received, sent
		put(b[field:], at)
	}
	if change != nil {
		change(b)
	}
	return b
}

// put writes a timestamp (RFC 5905, 6).
func put(b []byte, t time.Time) {
	binary.BigEndian.PutUint32(b, uint32(t.Unix()+2208988800))
	binary.BigEndian.PutUint32(b[4:], uint32(uint64(t.Nanosecond())<<32/1e9))
}

// server answers on loopback with a clock that is ahead.
func server(t *testing.T, ahead time.Duration, change func([]byte)) (address string) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 100)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n == 48 {
				c.WriteTo(packet(b[:n], time.Now().Add(ahead), change), from)
			}
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return c.LocalAddr().String()
}

func TestQuery(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Hour, -3 * time.Hour} {
		s, err := query(t.Context(), server(t, ahead, nil), "name")
		if err != nil || s.Server != "name" || (s.Offset-ahead).Abs() > s.Error+time.Second || s.Error < 0 {
			t.Errorf("%v ahead: %+v, %v", ahead, s, err)
		}
	}
	for want, change := range map[string]func([]byte){
		`"RATE": not to be asked`:  func(b []byte) { b[1] = 0; copy(b[12:], "RATE") },
		`"D?NY": not to be asked`:  func(b []byte) { b[1] = 0; copy(b[12:], "D\x1bNY") },
		"own clock is not sync":    func(b []byte) { b[0] |= 3 << 6 },
		"clock is not synchronize": func(b []byte) { b[1] = 16 },
		"may be wrong by":          func(b []byte) { b[8] = 1 },
		"make no sense":            func(b []byte) { copy(b[40:], make([]byte, 8)) },
		"no sense":                 func(b []byte) { b[35]++ }, // arrived after it left
	} {
		if _, err := query(t.Context(), server(t, 0, change), "name"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	// What is no answer to the question is passed over.
	for _, change := range []func([]byte){func(b []byte) { b[24]++ }, func(b []byte) { b[0] = 4<<3 | 3 }} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if s, err := query(ctx, server(t, 0, change), "name"); err == nil {
			t.Errorf("a stranger's answer is taken: %+v", s)
		}
		cancel()
	}
	var ks *kiss
	if _, err := query(t.Context(), server(t, 0, func(b []byte) { b[1] = 0; copy(b[12:], "DENY") }), "name"); !errors.As(err, &ks) || !ks.forGood() {
		t.Errorf("DENY: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := query(ctx, "127.0.0.1:9", "name"); err == nil {
		t.Error("given up, but no error")
	}
}

func TestParse(t *testing.T) {
	nonce := [8]byte{1, 2, 3}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{now, now.AddDate(-50, 0, 0), now.AddDate(30, 0, 0)} {
		// 100 ms there and back, both ways alike.
		s, err := parse(packet(question(nonce), at, nil), nonce, now.Add(-50*time.Millisecond), now.Add(50*time.Millisecond))
		if err != nil || (s.Offset-at.Sub(now)).Abs() > time.Microsecond || s.Error != 50*time.Millisecond {
			t.Errorf("at %v: %+v, %v", at, s, err)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 47), make([]byte, 48)} {
		if _, err := parse(b, nonce, now, now); !errors.Is(err, errStranger) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	good := packet(make([]byte, 48), now, nil)
	f.Add(good)
	f.Add(packet(make([]byte, 48), now, func(b []byte) { b[1] = 0; copy(b[12:], "RATE") }))
	f.Add([]byte{})
	f.Add(append(good, 1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parse(b, [8]byte{}, now, now.Add(time.Second))
		if err == nil && (s.Error < 0 || s.Error > maxDistance+time.Second || s.Offset.Abs() > 80*366*24*time.Hour) {
			t.Errorf("%+v", s)
		}
	})
}

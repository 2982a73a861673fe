package timesync

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// queryLimit is how long a server may take.
const queryLimit = 4 * time.Second

// Of a message (RFC 5905, 7.3).
const (
	messageSize = 48
	modeClient  = 3
	modeServer  = 4
	version     = 4
	leapUnknown = 3  // the server's clock is not synchronized
	maxStratum  = 15 // 16: not synchronized
	maxDistance = 16 * time.Second
)

// kiss is a server's word that it is not to be asked (RFC 5905, 7.4).
type kiss struct{ code string }

func (k *kiss) Error() string { return fmt.Sprintf("the server answers %q: not to be asked", k.code) }

// forGood reports whether the server never wants to be asked.
func (k *kiss) forGood() bool { return k.code == "DENY" || k.code == "RSTR" }

// errStranger is an answer to another question: somebody guesses, or it is late.
var errStranger = errors.New("not the answer to this question")

// NTP asks a server, a name or an address, by the protocol of that name
// (RFC 5905; port 123).
func NTP(ctx context.Context, server string) (Sample, error) {
	return query(ctx, net.JoinHostPort(server, "123"), server)
}

func query(ctx context.Context, address, server string) (Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", address)
	if err != nil {
		return Sample{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })()
	// What the server returns to prove that it saw the question is random, and
	// not the time: that is nobody's business.
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return Sample{}, err
	}
	sent := time.Now()
	if _, err := c.Write(question(nonce)); err != nil {
		return Sample{}, err
	}
	b := make([]byte, 1024)
	for {
		n, err := c.Read(b)
		if ctx.Err() != nil {
			return Sample{}, errors.New("no answer")
		}
		if err != nil {
			return Sample{}, err
		}
		s, err := parse(b[:n], nonce, sent, time.Now())
		if !errors.Is(err, errStranger) {
			s.Server = server
			return s, err
		}
	}
}

// question is a client's message.
func question(nonce [8]byte) []byte {
	b := make([]byte, messageSize)
	b[0] = version<<3 | modeClient
	copy(b[40:], nonce[:])
	return b
}

// parse judges an answer to the question of that nonce, which was sent and whose
// answer was received at these times of the own clock.
func parse(b []byte, nonce [8]byte, sent, received time.Time) (Sample, error) {
	if len(b) < messageSize || b[0]&7 != modeServer || [8]byte(b[24:32]) != nonce {
		return Sample{}, errStranger
	}
	if stratum := b[1]; stratum == 0 {
		return Sample{}, &kiss{kissCode(b[12:16])}
	} else if stratum > maxStratum || b[0]>>6 == leapUnknown {
		return Sample{}, errors.New("the server's own clock is not synchronized")
	}
	distance := short(b[4:])/2 + short(b[8:]) // root delay, root dispersion
	if distance > maxDistance {
		return Sample{}, fmt.Errorf("the server's own clock may be wrong by %v", distance)
	}
	arrived, left := timestamp(b[32:]), timestamp(b[40:])
	if binary.BigEndian.Uint64(b[40:]) == 0 || left.Before(arrived) {
		return Sample{}, errors.New("the server's times make no sense")
	}
	// The own clock may be moved meanwhile: how long it took says its monotonic
	// part.
	took := received.Sub(sent)
	sent = sent.Round(0)
	there := max(took-left.Sub(arrived), 0)
	return Sample{
		Offset: (arrived.Sub(sent) + left.Sub(sent.Add(took))) / 2,
		Error:  there/2 + distance,
	}, nil
}

// timestamp reads a time (RFC 5905, 6). Its seconds wrap in 2036: they are taken
// for those from 1968 to 2104.
func timestamp(b []byte) time.Time {
	const (
		epoch = 2208988800 // from 1900 to 1970, seconds
		era   = 1 << 32
	)
	s := int64(binary.BigEndian.Uint32(b))
	if s < era/2 {
		s += era
	}
	return time.Unix(s-epoch, int64(uint64(binary.BigEndian.Uint32(b[4:]))*1e9>>32))
}

// short reads a duration of 16 bits of seconds and 16 of their fraction.
func short(b []byte) time.Duration {
	return time.Duration(uint64(binary.BigEndian.Uint32(b)) * 1e9 >> 16)
}

// kissCode returns the code's letters, "?" for what is none.
func kissCode(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		if out[i] = c; c < 'A' || c > 'Z' {
			out[i] = '?'
		}
	}
	return string(out)
}

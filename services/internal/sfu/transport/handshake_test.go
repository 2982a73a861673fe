package transport

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/pion/dtls/v2/pkg/crypto/selfsign"
	"github.com/pion/logging"
)

// quietly is a log of the library that nobody reads.
func quietly() logging.LoggerFactory {
	f := logging.NewDefaultLoggerFactory()
	f.DefaultLogLevel = logging.LogLevelDisabled
	return f
}

// answering says what is sent to a handshake, datagrams with their lengths before
// them, and gives up soon.
func answering(data []byte, begin func(context.Context, net.Conn) (*dtls.Conn, error)) {
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := begin(ctx, theirs); err == nil {
			c.Close()
		}
	}()
	go func() { // what it answers
		b := make([]byte, 4096)
		for {
			if _, err := ours.Read(b); err != nil {
				return
			}
		}
	}()
	ours.SetWriteDeadline(time.Now().Add(time.Second))
	for n := 0; len(data) >= 2 && n < 16; n++ {
		l := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
		if _, err := ours.Write(data[2 : 2+l]); err != nil {
			break
		}
		data = data[2+l:]
	}
	cancel()
	ours.Close()
	theirs.Close()
	select {
	case <-done:
	case <-time.After(8 * time.Second):
		panic("the handshake does not end")
	}
}

// Whatever comes instead of a handshake, the library does not fall over it, as the
// server and as the client.
func FuzzHandshake(f *testing.F) {
	cert, err := selfsign.GenerateSelfSigned()
	if err != nil {
		f.Fatal(err)
	}
	cfg := &dtls.Config{
		Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, InsecureSkipVerifyHello: true, ClientAuth: dtls.RequireAnyClientCert,
		SRTPProtectionProfiles: []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80},
		FlightInterval:         time.Minute, LoggerFactory: quietly(),
	}
	framed := func(list ...[]byte) (out []byte) {
		for _, b := range list {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(b))), b...)
		}
		return out
	}
	hello := greet(f, 1200, dtls.SRTP_AEAD_AES_128_GCM)
	f.Add(true, framed(hello...))
	f.Add(true, framed(append(hello, hello...)...))
	f.Add(true, framed(greet(f, 60, dtls.SRTP_AES128_CM_HMAC_SHA1_80)...))
	f.Add(false, framed(hello...))
	f.Add(false, framed([]byte{22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 3, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3, 0xfe, 0xff, 0}))
	f.Add(true, framed([]byte{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 40}, []byte{20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1}))
	f.Fuzz(func(t *testing.T, server bool, data []byte) {
		answering(data, func(ctx context.Context, c net.Conn) (*dtls.Conn, error) {
			if server {
				return dtls.ServerWithContext(ctx, c, cfg)
			}
			return dtls.ClientWithContext(ctx, c, cfg)
		})
	})
}

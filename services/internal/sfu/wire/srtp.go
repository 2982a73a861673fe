package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pion/srtp/v2"
)

// Profile is a protection profile of DTLS-SRTP (RFC 5764, 4.1.2; RFC 7714, 14.2).
type Profile uint16

// The profiles that are taken.
const (
	AES128CM  Profile = 0x0001 // AES_128_CM_HMAC_SHA1_80, for peers that have no GCM
	AES128GCM Profile = 0x0007
)

// Key material of a profile (RFC 5764, 4.2; RFC 7714, 12), bytes.
const (
	keyLen     = 16
	saltLenCM  = 14
	saltLenGCM = 12
	tagLen     = 16 // of GCM
	// Overhead is the most that protection adds to an RTP packet.
	Overhead = tagLen
)

func (p Profile) saltLen() int {
	if p == AES128GCM {
		return saltLenGCM
	}
	return saltLenCM
}

// KeyingLen is how many bytes the DTLS exporter gives for a profile.
func (p Profile) KeyingLen() int { return 2 * (keyLen + p.saltLen()) }

// KeyingLabel is the label of the exporter (RFC 5764, 4.2).
const KeyingLabel = "EXTRACTOR-dtls_srtp"

// ErrReuse says that a packet would be sealed with a number that was used before,
// or that is too old to know. Under GCM that would give the key away.
var ErrReuse = errors.New("seal: this sequence number was used before")

// Crypt protects what goes to a peer and opens what comes from it. It is the only
// owner of the peer's keys. Sealing and opening may run beside each other, two
// calls of the same kind may not.
type Crypt struct {
	seal  cipher.AEAD
	salt  [saltLenGCM]byte
	nonce [saltLenGCM]byte // kept here, so that it need not be allocated
	cm    *srtp.Context    // instead of seal, with AES128CM
	rtcp  *srtp.Context    // out
	in    *srtp.Context
	heard map[uint32]struct{} // SSRCs that in keeps state of
}

// maxHeard bounds the SSRCs that a peer may use in its life: state is kept of each
// before it is known whether the packet is genuine.
const maxHeard = 256

// ErrSources says that a peer sends more SSRCs than anybody needs.
var ErrSources = errors.New("srtp: too many SSRCs")

// NewCrypt takes what the exporter gave; server says which half is ours.
func NewCrypt(p Profile, keying []byte, server bool) (*Crypt, error) {
	if p != AES128CM && p != AES128GCM {
		return nil, fmt.Errorf("srtp: profile %#04x", uint16(p))
	}
	if len(keying) != p.KeyingLen() {
		return nil, fmt.Errorf("srtp: %d bytes of keying material for profile %#04x", len(keying), uint16(p))
	}
	clientKey, serverKey := keying[:keyLen], keying[keyLen:2*keyLen]
	salts := keying[2*keyLen:]
	clientSalt, serverSalt := salts[:p.saltLen()], salts[p.saltLen():]
	ourKey, ourSalt, theirKey, theirSalt := clientKey, clientSalt, serverKey, serverSalt
	if server {
		ourKey, ourSalt, theirKey, theirSalt = serverKey, serverSalt, clientKey, clientSalt
	}
	profile := srtp.ProtectionProfileAes128CmHmacSha1_80
	if p == AES128GCM {
		profile = srtp.ProtectionProfileAeadAes128Gcm
	}
	c := &Crypt{heard: map[uint32]struct{}{}}
	var err error
	// A window of two seconds of a fast stream: retransmissions come that late.
	if c.in, err = srtp.CreateContext(theirKey, theirSalt, profile, srtp.SRTPReplayProtection(1024), srtp.SRTCPReplayProtection(64)); err != nil {
		return nil, fmt.Errorf("srtp: %w", err)
	}
	if c.rtcp, err = srtp.CreateContext(ourKey, ourSalt, profile); err != nil {
		return nil, fmt.Errorf("srtp: %w", err)
	}
	if p == AES128CM {
		if c.cm, err = srtp.CreateContext(ourKey, ourSalt, profile); err != nil {
			return nil, fmt.Errorf("srtp: %w", err)
		}
		return c, nil
	}
	const labelKey, labelSalt = 0, 2
	block, err := aes.NewCipher(derive(ourKey, ourSalt, labelKey, keyLen))
	if err != nil {
		return nil, fmt.Errorf("srtp: %w", err)
	}
	if c.seal, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("srtp: %w", err)
	}
	copy(c.salt[:], derive(ourKey, ourSalt, labelSalt, saltLenGCM))
	return c, nil
}

// derive is the key derivation of RFC 3711, 4.3, with AES-CM and a rate of zero.
func derive(key, salt []byte, label byte, n int) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // keys are 16 bytes
	}
	var iv [aes.BlockSize]byte
	copy(iv[:14], salt)
	iv[7] ^= label
	out := make([]byte, n)
	cipher.NewCTR(block, iv[:]).XORKeyStream(out, out)
	return out
}

// Stream is an SSRC that we send: it knows which numbers have been used.
type Stream struct {
	SSRC uint32
	// Numbers of 48 bits (RFC 3711, 3.3.1): newest is the largest that was sealed,
	// and bit n of used says the same of newest-n.
	newest uint64
	used   [window / 64]uint64
	any    bool
}

// window is how far behind the newest number a packet may be sealed.
const window = 1024

// Claim takes a number for good. It says no if the number was taken, or is so old
// that nobody knows.
func (s *Stream) Claim(index uint64) bool {
	switch {
	case index >= 1<<48:
		return false
	case !s.any:
		s.any, s.newest = true, index
		s.used = [window / 64]uint64{}
		s.used[index%window/64] |= 1 << (index % 64)
		return true
	case index > s.newest:
		if index-s.newest >= window {
			s.used = [window / 64]uint64{}
		} else {
			for i := s.newest + 1; i <= index; i++ {
				s.used[i%window/64] &^= 1 << (i % 64)
			}
		}
		s.newest = index
		s.used[index%window/64] |= 1 << (index % 64)
		return true
	case s.newest-index >= window:
		return false
	}
	word, bit := &s.used[index%window/64], uint64(1)<<(index%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// Newest is the largest number that was taken.
func (s *Stream) Newest() uint64 { return s.newest }

// SealRTP protects a packet in place: b holds a header of headerLen bytes and the
// payload, and room for Overhead bytes more in its capacity. The header's SSRC and
// sequence number are written here, from s and index. It returns the packet as it
// goes out, or ErrReuse.
func (c *Crypt) SealRTP(s *Stream, index uint64, b []byte, headerLen int) ([]byte, error) {
	if !s.Claim(index) {
		return nil, ErrReuse
	}
	binary.BigEndian.PutUint16(b[2:], uint16(index))
	binary.BigEndian.PutUint32(b[8:], s.SSRC)
	if c.cm != nil {
		return c.sealCM(s, index, b)
	}
	n := &c.nonce
	*n = c.salt
	// RFC 7714, 8.1: two zero bytes, SSRC, rollover counter, sequence number.
	x := binary.BigEndian.Uint32(n[2:]) ^ s.SSRC
	binary.BigEndian.PutUint32(n[2:], x)
	x = binary.BigEndian.Uint32(n[6:]) ^ uint32(index>>16)
	binary.BigEndian.PutUint32(n[6:], x)
	n[10] ^= byte(index >> 8)
	n[11] ^= byte(index)
	return c.seal.Seal(b[:headerLen], n[:], b[headerLen:], b[:headerLen]), nil
}

func (c *Crypt) sealCM(s *Stream, index uint64, b []byte) ([]byte, error) {
	// The library keeps a rollover counter of its own, from the order in which it
	// sees packets. Ours is the truth: they are the same as long as no packet is
	// 2^15 behind, which Claim sees to.
	c.cm.SetROC(s.SSRC, uint32(index>>16))
	out, err := c.cm.EncryptRTP(nil, b, nil)
	if err != nil {
		return nil, fmt.Errorf("srtp: %w", err)
	}
	return append(b[:0], out...), nil
}

// OpenRTP opens a packet into dst, which grows if it must, and refuses one that
// came before.
func (c *Crypt) OpenRTP(dst, b []byte) ([]byte, error) {
	if len(b) < 12 {
		return nil, fmt.Errorf("srtp: %d bytes", len(b))
	}
	ssrc := binary.BigEndian.Uint32(b[8:])
	if _, ok := c.heard[ssrc]; !ok {
		if len(c.heard) == maxHeard {
			return nil, ErrSources
		}
		c.heard[ssrc] = struct{}{}
	}
	return c.in.DecryptRTP(dst, b, nil)
}

// SealRTCP protects a compound packet; its index is one more at each call.
func (c *Crypt) SealRTCP(b []byte) ([]byte, error) { return c.rtcp.EncryptRTCP(nil, b, nil) }

// OpenRTCP opens a compound packet.
func (c *Crypt) OpenRTCP(b []byte) ([]byte, error) { return c.in.DecryptRTCP(nil, b, nil) }

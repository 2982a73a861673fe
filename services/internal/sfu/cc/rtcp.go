package cc

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Types and formats of RTCP that a router acts on.
const (
	TypeSenderReport   = 200
	TypeReceiverReport = 201
	TypeTransport      = 205 // format 1 is NACK, 15 transport-wide feedback
	TypePayload        = 206 // format 1 is PLI, 4 FIR, 15 REMB

	FormatNack      = 1
	FormatTransport = 15
	FormatPLI       = 1
	FormatFIR       = 4
	FormatREMB      = 15
)

// Packet is one RTCP packet of a compound: a view of the caller's bytes.
type Packet struct {
	Type   uint8
	Format uint8  // or the count of report blocks
	Sender uint32 // SSRC of who sent it, 0 when the packet has none
	Body   []byte // what follows the sender, without padding
}

// Split takes the first packet off a compound (RFC 3550 section 6.1). It accepts
// reduced-size compounds (RFC 5506). After an error the rest cannot be read.
func Split(b []byte) (p Packet, rest []byte, err error) {
	if len(b) < 4 {
		return p, nil, fmt.Errorf("rtcp: %d bytes, want a header of 4", len(b))
	}
	if b[0]>>6 != 2 {
		return p, nil, fmt.Errorf("rtcp: version %d, want 2", b[0]>>6)
	}
	n := 4 * (int(binary.BigEndian.Uint16(b[2:])) + 1)
	if n > len(b) {
		return p, nil, fmt.Errorf("rtcp: length says %d bytes, there are %d", n, len(b))
	}
	p.Type, p.Format = b[1], b[0]&31
	body := b[4:n]
	if b[0]&0x20 != 0 {
		pad := 0
		if len(body) > 0 {
			pad = int(body[len(body)-1])
		}
		if pad == 0 || pad > len(body) {
			return p, nil, fmt.Errorf("rtcp: padding of %d bytes in a body of %d", pad, len(body))
		}
		body = body[:len(body)-pad]
	}
	if len(body) >= 4 {
		p.Sender = binary.BigEndian.Uint32(body)
		body = body[4:]
	}
	p.Body = body
	return p, b[n:], nil
}

// Media is the SSRC that a feedback packet (types 205 and 206) is about.
func (p Packet) Media() (ssrc uint32, ok bool) {
	if p.Type != TypeTransport && p.Type != TypePayload || len(p.Body) < 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(p.Body), true
}

// PLI reports whether the packet is a picture loss indication; Media says of what.
func (p Packet) PLI() bool {
	return p.Type == TypePayload && p.Format == FormatPLI && len(p.Body) >= 4
}

// FIR gives the i-th SSRC of a full intra request (RFC 5104 section 4.3.1) and
// its sequence number: the same number again is the same request.
func (p Packet) FIR(i int) (ssrc uint32, seq uint8, ok bool) {
	at := 4 + 8*i
	if p.Type != TypePayload || p.Format != FormatFIR || i < 0 || len(p.Body) < at+8 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(p.Body[at:]), p.Body[at+4], true
}

// Nacks appends the sequence numbers that a generic NACK asks for (RFC 4585
// section 6.2.1). It stops at limit of them: one datagram can name 6,000.
func (p Packet) Nacks(dst []uint16, limit int) []uint16 {
	if p.Type != TypeTransport || p.Format != FormatNack || len(p.Body) < 4 {
		return dst
	}
	for b := p.Body[4:]; len(b) >= 4; b = b[4:] {
		seq, mask := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		for ; ; seq, mask = seq+1, mask>>1 {
			if limit--; limit < 0 {
				return dst
			}
			dst = append(dst, seq)
			for mask != 0 && mask&1 == 0 {
				seq, mask = seq+1, mask>>1
			}
			if mask == 0 {
				break
			}
		}
	}
	return dst
}

// REMB gives the bitrate of a receiver's estimate (draft-alvestrand-rmcat-remb-03
// section 2.2), bits per second.
func (p Packet) REMB() (bps int64, ok bool) {
	if p.Type != TypePayload || p.Format != FormatREMB || len(p.Body) < 12 || string(p.Body[4:8]) != "REMB" {
		return 0, false
	}
	exp := uint(p.Body[9] >> 2)
	mantissa := int64(p.Body[9]&3)<<16 | int64(binary.BigEndian.Uint16(p.Body[10:]))
	if exp > 40 {
		return 1 << 58, true // more than any link carries
	}
	return mantissa << exp, true
}

// SenderReport is what a sender says of its clock (RFC 3550 section 6.4.1).
type SenderReport struct {
	SSRC    uint32
	NTP     uint64 // seconds since 1900, 32.32
	RTP     uint32 // the same moment on the stream's clock
	Packets uint32
	Bytes   uint32 // of payload
}

// SenderReport gives the sender's part of a sender report.
func (p Packet) SenderReport() (r SenderReport, ok bool) {
	if p.Type != TypeSenderReport || len(p.Body) < 20 {
		return r, false
	}
	return SenderReport{
		SSRC:    p.Sender,
		NTP:     binary.BigEndian.Uint64(p.Body),
		RTP:     binary.BigEndian.Uint32(p.Body[8:]),
		Packets: binary.BigEndian.Uint32(p.Body[12:]),
		Bytes:   binary.BigEndian.Uint32(p.Body[16:]),
	}, true
}

// SenderReportSize is how many bytes Append adds.
const SenderReportSize = 28

// Append adds the report as an RTCP packet without report blocks.
func (r SenderReport) Append(b []byte) []byte {
	b = append(b, 0x80, TypeSenderReport, 0, SenderReportSize/4-1)
	b = binary.BigEndian.AppendUint32(b, r.SSRC)
	b = binary.BigEndian.AppendUint64(b, r.NTP)
	b = binary.BigEndian.AppendUint32(b, r.RTP)
	b = binary.BigEndian.AppendUint32(b, r.Packets)
	return binary.BigEndian.AppendUint32(b, r.Bytes)
}

// Report is one report block of a sender or receiver report (RFC 3550 section
// 6.4.1).
type Report struct {
	SSRC     uint32 // of the stream that is reported on
	Fraction uint8  // lost since the last report, of 256
	Lost     int32  // since the beginning; 24 bits, negative with duplicates
	Highest  uint32 // extended highest sequence number
	Jitter   uint32 // in units of the stream's clock
	LSR      uint32 // middle 32 bits of the last sender report's NTP time
	DLSR     uint32 // since that arrived, 1/65536 s
}

const reportSize = 24

// Report gives the i-th report block.
func (p Packet) Report(i int) (r Report, ok bool) {
	at := reportSize * i
	switch p.Type {
	case TypeSenderReport:
		at += 20
	case TypeReceiverReport:
	default:
		return r, false
	}
	if i < 0 || i >= int(p.Format) || len(p.Body) < at+reportSize {
		return r, false
	}
	b := p.Body[at:]
	return Report{
		SSRC:     binary.BigEndian.Uint32(b),
		Fraction: b[4],
		Lost:     int32(binary.BigEndian.Uint32(b[4:])<<8) >> 8,
		Highest:  binary.BigEndian.Uint32(b[8:]),
		Jitter:   binary.BigEndian.Uint32(b[12:]),
		LSR:      binary.BigEndian.Uint32(b[16:]),
		DLSR:     binary.BigEndian.Uint32(b[20:]),
	}, true
}

// RTT is the round trip that the block shows at the NTP time of its arrival, and
// false when it shows none or one that cannot be (RFC 3550 section 6.4.1).
func (r Report) RTT(ntp uint64) (time.Duration, bool) {
	if r.LSR == 0 {
		return 0, false
	}
	d := int32(uint32(ntp>>16) - r.LSR - r.DLSR)
	if d < 0 || d > 60<<16 {
		return 0, false
	}
	return time.Duration(int64(d) * int64(time.Second) >> 16), true
}

// AppendReports adds a receiver report with the blocks, 31 at most.
func AppendReports(b []byte, sender uint32, blocks []Report) []byte {
	blocks = blocks[:min(len(blocks), 31)]
	b = append(b, 0x80|byte(len(blocks)), TypeReceiverReport, 0, byte(1+6*len(blocks)))
	b = binary.BigEndian.AppendUint32(b, sender)
	for _, r := range blocks {
		b = binary.BigEndian.AppendUint32(b, r.SSRC)
		b = binary.BigEndian.AppendUint32(b, uint32(r.Fraction)<<24|uint32(r.Lost)&0xffffff)
		b = binary.BigEndian.AppendUint32(b, r.Highest)
		b = binary.BigEndian.AppendUint32(b, r.Jitter)
		b = binary.BigEndian.AppendUint32(b, r.LSR)
		b = binary.BigEndian.AppendUint32(b, r.DLSR)
	}
	return b
}

// AppendPLI adds a picture loss indication (RFC 4585 section 6.3.1).
func AppendPLI(b []byte, sender, media uint32) []byte {
	b = append(b, 0x80|FormatPLI, TypePayload, 0, 2)
	b = binary.BigEndian.AppendUint32(b, sender)
	return binary.BigEndian.AppendUint32(b, media)
}

package codec

import "errors"

var (
	errOpusEmpty  = errors.New("codec: opus: empty payload")
	errREDShort   = errors.New("codec: red: header or block cut short (RFC 2198, section 3)")
	errREDPrimary = errors.New("codec: red: no primary encoding")
)

// inspectOpus reads the table-of-contents byte (RFC 6716, section 3.1). Every
// packet is a frame of its own. In DTX an encoder sends now and then a packet
// whose frames are empty: nothing but that byte, or one more for their count.
func inspectOpus(p []byte) (Info, error) {
	if len(p) == 0 {
		return Info{}, errOpusEmpty
	}
	return Info{Kind: Opus, Start: true, End: true, Keyframe: true, Silence: len(p) <= 2}, nil
}

// inspectRED judges by the primary encoding.
func inspectRED(p []byte) (Info, error) {
	_, primary, err := Primary(p)
	if err != nil {
		return Info{}, err
	}
	in, err := inspectOpus(primary)
	in.Kind = RED
	return in, err
}

// Primary returns the primary encoding within a RED payload (RFC 2198): its
// payload type and the part of payload that holds it.
func Primary(payload []byte) (pt uint8, data []byte, err error) {
	at, skip := 0, 0
	for {
		if at >= len(payload) {
			return 0, nil, errREDShort
		}
		if payload[at]&0x80 == 0 {
			break
		}
		if at+4 > len(payload) {
			return 0, nil, errREDShort
		}
		skip += int(payload[at+2]&3)<<8 | int(payload[at+3])
		at += 4
	}
	data = payload[at+1:]
	if skip > len(data) {
		return 0, nil, errREDShort
	}
	if skip == len(data) {
		return 0, nil, errREDPrimary
	}
	return payload[at] & 0x7f, data[skip:], nil
}

// SetRED sets the payload type of all encodings within a RED payload, in place:
// the number that a receiver knows Opus by differs from the sender's.
func SetRED(payload []byte, pt uint8) error {
	if _, _, err := Primary(payload); err != nil {
		return err
	}
	at := 0
	for ; payload[at]&0x80 != 0; at += 4 {
		payload[at] = 0x80 | pt&0x7f
	}
	payload[at] = pt & 0x7f
	return nil
}

package sdp

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/parley-meet/parley/services/internal/sfu/codec"
)

// Format is a codec together with what makes its streams different from others
// of the same name. It can be compared: a stream of a format can be sent to
// whoever takes that format.
type Format struct {
	Kind codec.Kind
	// Profile: of VP9 profile-id, of AV1 profile, of H.264 one of the constants
	// ConstrainedBaseline to High444, else 0.
	Profile uint8
	// Mode: of H.264 packetization-mode, else 0.
	Mode uint8
}

// String is for logs and errors.
func (f Format) String() string {
	switch f.Kind {
	case codec.H264:
		return fmt.Sprintf("H264 profile %d mode %d", f.Profile, f.Mode)
	case codec.VP9, codec.AV1:
		return fmt.Sprintf("%s profile %d", f.Kind, f.Profile)
	}
	return f.Kind.String()
}

// Profiles of H.264 (RFC 6184, table 5), for Format.Profile.
const (
	ConstrainedBaseline uint8 = 1 + iota
	Baseline
	Main
	ConstrainedHigh
	High
	High444 // predictive
)

// formatOf returns the format of an offered codec and whether a router can do
// anything with it.
func formatOf(c *OfferedCodec, kind string) (Format, bool) {
	f := Format{Kind: codec.Named(c.Name)}
	switch f.Kind {
	case codec.Opus, codec.RED:
		return f, kind == "audio" && c.Clock == 48000 && c.Channels == 2
	case codec.None:
		return f, false
	}
	if kind != "video" || c.Clock != 90000 {
		return f, false
	}
	ok := true
	switch f.Kind {
	case codec.VP9:
		f.Profile, ok = small(parameter(c.Fmtp, "profile-id"), 3)
	case codec.AV1:
		f.Profile, ok = small(parameter(c.Fmtp, "profile"), 2)
	case codec.H264:
		id := parameter(c.Fmtp, "profile-level-id")
		if id == "" {
			id = "42000a" // RFC 6184, section 8.1: Baseline, level 1
		}
		if f.Profile, ok = h264Profile(id); ok {
			f.Mode, ok = small(parameter(c.Fmtp, "packetization-mode"), 1) // interleaved: no
		}
	}
	return f, ok
}

// small reads a number up to atMost; none is 0.
func small(s string, atMost uint8) (uint8, bool) {
	if s == "" {
		return 0, true
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err == nil && uint8(n) <= atMost
}

// h264Profile reads the profile of a profile-level-id. One profile has several
// spellings (RFC 6184, table 5), which are the same here.
func h264Profile(id string) (uint8, bool) {
	n, err := strconv.ParseUint(id, 16, 32)
	if err != nil || len(id) != 6 {
		return 0, false
	}
	idc, iop := n>>16, n>>8&0xff
	switch {
	case idc == 0x42 && iop&0x4f == 0x40, idc == 0x4d && iop&0x8f == 0x80, idc == 0x58 && iop&0xcf == 0xc0:
		return ConstrainedBaseline, true
	case idc == 0x42 && iop&0x4f == 0, idc == 0x58 && iop&0xcf == 0x80:
		return Baseline, true
	case idc == 0x4d && iop&0xaf == 0:
		return Main, true
	case idc == 0x64 && iop == 0x0c:
		return ConstrainedHigh, true
	case idc == 0x64 && iop == 0:
		return High, true
	case idc == 0xf4 && iop == 0:
		return High444, true
	}
	return 0, false
}

// covers reports whether a decoder of f decodes any stream of g.
func (f Format) covers(g Format) bool {
	if f.Kind != g.Kind {
		return false
	}
	if f.Kind != codec.H264 {
		return f == g
	}
	if f.Mode < g.Mode {
		return false // a mode 1 sender may use what mode 0 has not
	}
	switch g.Profile { // H.264, annex A.2
	case f.Profile:
		return true
	case ConstrainedBaseline:
		return f.Profile != High444
	case Main, ConstrainedHigh:
		return f.Profile == High
	}
	return false
}

// parameter returns the value of a name in "a=1;b=2".
func parameter(fmtp, name string) string {
	for p := range strings.SplitSeq(fmtp, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(k, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// without returns the parameters but for one name.
func without(fmtp, name string) string {
	var kept []string
	for p := range strings.SplitSeq(fmtp, ";") {
		p = strings.TrimSpace(p)
		if k, _, _ := strings.Cut(p, "="); p != "" && !strings.EqualFold(k, name) {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ";")
}

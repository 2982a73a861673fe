package codec

// IDs are the numbers of one frame as a receiver sees them. A caller that resends
// keeps them beside what it sent, and the resent packet gets the same ones.
type IDs struct {
	Picture uint16 // 15 bits; a payload with a 7-bit field takes the low ones
	TL0     uint8
	Key     uint8 // 5 bits
}

// Write sets the numbers in a payload that in was read from. It changes only
// fields that are there; the length stays.
func (ids IDs) Write(payload []byte, in *Info) {
	switch in.PictureBits {
	case 7:
		payload[in.pictureAt] = uint8(ids.Picture & 0x7f)
	case 15:
		payload[in.pictureAt] = 0x80 | uint8(ids.Picture>>8)
		payload[in.pictureAt+1] = uint8(ids.Picture)
	}
	if in.HasTL0 {
		payload[in.tl0At] = ids.TL0
	}
	if in.HasKeyIdx {
		payload[in.keyAt] = payload[in.keyAt]&0xe0 | ids.Key&0x1f
	}
}

// remembered is how many frames a Rewriter knows the numbers of: four seconds
// at 30 frames a second, longer than anybody waits for a resent packet.
const remembered = 128

// Rewriter keeps picture id, TL0PICIDX and KEYIDX of VP8 and VP9 continuous for
// one receiver's slot, while what is sent into it changes between sources and
// simulcast layers, and while frames are left out. The zero value is ready. One
// source alone, nothing left out, passes unchanged. Payloads without picture ids,
// and other kinds, pass unchanged always.
//
// VP8's numbers close over frames that were left out (libwebrtc's receiver waits
// for a missing picture id). VP9's do not: its reference distances and its group
// of pictures count picture ids, and its receivers skip absent higher layers by
// themselves. Frames that were lost on the way here stay gaps in both.
//
// It is not safe for concurrent use.
type Rewriter struct {
	source  uint32
	running bool // a frame of source was placed
	began   bool // a frame of any source was placed

	newest   uint16 // picture id of source, of its newest frame, left out ones too
	last     IDs    // highest numbers given
	tl0, key uint8  // what is added to those of source

	frames [remembered]frame // by picture id of the source
}

// frame is what became of a frame.
type frame struct {
	source  uint32
	picture uint16 // of the source
	state   state
	ids     IDs
}

type state uint8

const (
	unknown  state = iota
	reserved       // not seen yet; Picture alone is known
	placed
	dropped
)

// Switch says that from now on the slot is fed from another source or layer, or
// again from the same after a pause: the next frame placed, which has to be a
// keyframe for the receiver's sake, follows the last one. Source is any number of
// the caller's that no other source had within the last 128 frames.
func (r *Rewriter) Switch(source uint32) {
	if r.source == source { // a pause; frames before it are not to be found again
		for i := range r.frames {
			if r.frames[i].source == source {
				r.frames[i].state = unknown
			}
		}
	}
	r.source, r.running = source, false
}

// Place returns the numbers of the frame that the payload belongs to. It reports
// false when the payload must not be sent: its frame was left out, is older than
// the switch and not remembered, or is too old.
func (r *Rewriter) Place(source uint32, in *Info) (IDs, bool) {
	if in.PictureBits == 0 {
		return IDs{TL0: in.TL0, Key: in.KeyIdx}, true
	}
	if source == r.source && !r.running {
		r.start(in)
	}
	f := r.find(source, in)
	if f == nil || f.state == dropped {
		return IDs{}, false
	}
	if f.state == placed {
		return f.ids, true
	}
	f.state = placed
	f.ids.TL0, f.ids.Key = in.TL0+r.tl0, (in.KeyIdx+r.key)&0x1f
	if in.HasTL0 && int8(f.ids.TL0-r.last.TL0) > 0 {
		r.last.TL0 = f.ids.TL0
	}
	if in.HasKeyIdx && (f.ids.Key-r.last.Key)&0x1f < 16 {
		r.last.Key = f.ids.Key
	}
	return f.ids, true
}

// Drop says that the frame which the payload belongs to is left out. It has no
// effect on a frame of which something was placed already, nor before the first
// frame after a switch.
func (r *Rewriter) Drop(source uint32, in *Info) {
	if in.PictureBits == 0 || source != r.source || !r.running {
		return
	}
	f := r.find(source, in)
	if f == nil || f.state != reserved {
		return
	}
	f.state = dropped
	if in.Kind == VP8 && f.ids.Picture == r.last.Picture {
		// Nothing newer has a number, so the next frame may have this one.
		r.last.Picture = (r.last.Picture - 1) & 0x7fff
	}
}

// start makes the next frame of the source follow the last one placed.
func (r *Rewriter) start(in *Info) {
	if r.began {
		r.tl0, r.key = r.last.TL0+1-in.TL0, (r.last.Key+1-in.KeyIdx)&0x1f
	} else {
		r.last = IDs{(in.PictureID - 1) & 0x7fff, in.TL0, in.KeyIdx}
	}
	r.running, r.began = true, true
	r.newest = in.PictureID - 1
}

// find returns what is known of the frame, nil if it is too old. It makes room
// for a new one, and for those between it and the newest, which may still come.
func (r *Rewriter) find(source uint32, in *Info) *frame {
	f := &r.frames[in.PictureID%remembered]
	known := f.state != unknown && f.source == source && f.picture == in.PictureID
	if source != r.source {
		if !known || f.state == reserved {
			return nil
		}
		return f
	}
	half := uint16(1) << (in.PictureBits - 1)
	mask := 2*half - 1
	d := (in.PictureID - r.newest) & mask
	if d == 0 || d >= half {
		if !known {
			return nil
		}
		return f
	}
	for back := min(d, remembered); back > 0; back-- {
		picture := (in.PictureID - back + 1) & mask
		r.frames[picture%remembered] = frame{source, picture, reserved, IDs{Picture: (r.last.Picture + d - back + 1) & 0x7fff}}
	}
	r.newest = in.PictureID
	r.last.Picture = (r.last.Picture + d) & 0x7fff
	return f
}

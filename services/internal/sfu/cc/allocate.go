package cc

// Layers that are none.
const (
	None  = -1 // paused
	Fresh = -2 // as Current: the slot shows something else than before
)

// Layer is one encoding that a source offers.
type Layer struct {
	Width, Height int
	Rate          int64 // bit/s, measured, or expected of a layer that sleeps; 0 is not to be had
}

// Slot is one place on a subscriber's screen.
type Slot struct {
	Width, Height int     // as shown, in pixels; 0 is not shown
	Priority      int     // higher is more important
	Layers        []Layer // low to high
	Current       int     // index of the layer that is sent, None or Fresh
}

// raiseMargin is how much of the budget must be enough before a slot gets more
// than it has, in hundredths: an estimate that sways by less changes nothing.
const raiseMargin = 90

// Allocate chooses a layer for each slot so that their rates together are within
// the budget (bit/s), writes it to out (as long as slots), and gives their sum.
//
// The lowest layer of all comes first, the important slots first; a slot is
// paused (None) only when its lowest does not fit beside those of more important
// ones. Then, from the highest priority down, slots of one priority rise in turn
// by a layer each, up to the smallest that covers what is shown. What a slot has
// already may fill the budget; more than that may only while a tenth stays free.
func Allocate(budget int64, slots []Slot, out []int) (used int64) {
	out = out[:len(slots)]
	for i := range out {
		out[i] = None
	}
	for i := next(slots, -1); i >= 0; i = next(slots, i) {
		s := &slots[i]
		low := s.above(None)
		if low == None {
			continue
		}
		limit := budget
		if s.Current == None {
			limit = budget / 100 * raiseMargin
		}
		if rate := s.Layers[low].Rate; used+rate <= limit {
			out[i], used = low, used+rate
		}
	}
	for i := next(slots, -1); i >= 0; {
		// Slots first..last in order of importance have one priority.
		used = raise(budget, used, slots, out, i, true)
		used = raise(budget/100*raiseMargin, used, slots, out, i, false)
		p := slots[i].Priority
		for i >= 0 && slots[i].Priority == p {
			i = next(slots, i)
		}
	}
	return used
}

// raise gives the slots of one priority, which begins with slot from, a layer each
// in turn until nothing more fits. With kept no slot gets more than it has.
func raise(limit, used int64, slots []Slot, out []int, from int, kept bool) int64 {
	for again := true; again; {
		again = false
		for i := from; i >= 0 && slots[i].Priority == slots[from].Priority; i = next(slots, i) {
			s := &slots[i]
			if out[i] == None {
				continue
			}
			up := s.above(out[i])
			if up == None || up > s.target() || kept && up > s.Current {
				continue
			}
			if more := s.Layers[up].Rate - s.Layers[out[i]].Rate; used+more <= limit {
				out[i], used, again = up, used+more, true
			}
		}
	}
	return used
}

// next gives the slot that follows in importance: lower priority, or the same and
// a higher index. It saves a sorted copy; slots are few.
func next(slots []Slot, i int) int {
	best := -1
	for j := range slots {
		after := i < 0 || slots[j].Priority < slots[i].Priority ||
			slots[j].Priority == slots[i].Priority && j > i
		if after && (best < 0 || slots[j].Priority > slots[best].Priority) {
			best = j
		}
	}
	return best
}

// above is the next layer that is to be had, None when there is none.
func (s *Slot) above(layer int) int {
	for i := max(layer, None) + 1; i < len(s.Layers); i++ {
		if s.Layers[i].Rate > 0 && s.Width > 0 && s.Height > 0 {
			return i
		}
	}
	return None
}

// target is the smallest layer that covers what is shown, give or take a tenth;
// else the highest. Covering one side is enough: the other is cropped or black.
func (s *Slot) target() int {
	for i, l := range s.Layers {
		if l.Rate > 0 && (l.Width*10 >= s.Width*9 || l.Height*10 >= s.Height*9) {
			return i
		}
	}
	return len(s.Layers) - 1
}

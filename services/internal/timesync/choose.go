package timesync

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Sample is what one server said.
type Sample struct {
	Server string
	Offset time.Duration // of the own clock: positive when it is behind
	Error  time.Duration // half the round trip, and the server's own distance
}

// minError is how far servers that are right may be apart at least: virtual
// machines stamp packets late.
const minError = 10 * time.Millisecond

// choose returns the best sample of the largest group of servers whose times
// agree, that of the smallest error, and how many they are. Of three or more
// servers it is the majority, of two both; else nothing is decided.
func choose(samples []Sample) (best Sample, agree int, err error) {
	if len(samples) == 0 {
		return Sample{}, 0, errors.New("no time server answers")
	}
	var group []Sample
	for _, s := range samples {
		if g := agreeing(samples, s); len(g) > len(group) {
			group = g
		}
	}
	if 2*len(group) <= len(samples) {
		return Sample{}, 0, fmt.Errorf("the time servers disagree: %s", describe(samples))
	}
	return slices.MinFunc(group, func(a, b Sample) int { return cmp.Compare(a.Error, b.Error) }), len(group), nil
}

// agreeing returns the samples whose intervals have s's offset within.
func agreeing(samples []Sample, s Sample) (out []Sample) {
	for _, o := range samples {
		if apart := o.Offset - s.Offset; max(apart, -apart) <= max(o.Error, minError)+max(s.Error, minError) {
			out = append(out, o)
		}
	}
	return out
}

// describe names the servers and what they say, for people.
func describe(samples []Sample) string {
	text := ""
	for i, s := range samples {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s %+.3f s", s.Server, s.Offset.Seconds())
	}
	return text
}

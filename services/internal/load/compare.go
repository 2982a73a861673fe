package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Comparison is what a benchmark of interleaved rounds ends with: medians.
type Comparison struct {
	Ratio   float64 `json:"cpu_per_packet_vs_livekit"`
	CPU     float64 `json:"us_per_packet"`
	Peer    float64 `json:"livekit_us_per_packet"`
	Loss    float64 `json:"loss"`
	P99     float64 `json:"p99_ms"`
	PeerP99 float64 `json:"livekit_p99_ms"`
	RSS     float64 `json:"rss_mib"`
	Resent  uint64  `json:"resent"`
	Rounds  int     `json:"rounds"`
}

// Compare reads lines of "ROUND WHO RESULT", of parley and of livekit.
func Compare(r io.Reader) (Comparison, error) {
	by := map[string][]Result{}
	for in := bufio.NewScanner(r); in.Scan(); {
		f := strings.SplitN(in.Text(), " ", 3)
		if len(f) != 3 {
			return Comparison{}, fmt.Errorf("compare: %q is no round", in.Text())
		}
		var x Result
		if err := json.Unmarshal([]byte(f[2]), &x); err != nil {
			return Comparison{}, fmt.Errorf("compare: %q: %w", in.Text(), err)
		}
		if x.Packets == 0 {
			return Comparison{}, fmt.Errorf("compare: %s delivered nothing in round %s", f[1], f[0])
		}
		by[f[1]] = append(by[f[1]], x)
	}
	ours, peers := by["parley"], by["livekit"]
	if len(ours) == 0 || len(ours) != len(peers) {
		return Comparison{}, errors.New("compare: there must be as many rounds of parley as of livekit")
	}
	median := func(list []Result, of func(Result) float64) float64 {
		var v []float64
		for _, x := range list {
			v = append(v, of(x))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	cpu := func(x Result) float64 { return x.CPU }
	c := Comparison{
		CPU:     median(ours, cpu),
		Peer:    median(peers, cpu),
		Loss:    median(ours, func(x Result) float64 { return x.Loss }),
		P99:     median(ours, func(x Result) float64 { return x.P99 }),
		PeerP99: median(peers, func(x Result) float64 { return x.P99 }),
		RSS:     median(ours, func(x Result) float64 { return x.RSS }),
		Rounds:  len(ours),
	}
	for _, x := range ours {
		c.Resent += x.Resent
	}
	if c.Peer > 0 {
		c.Ratio = c.CPU / c.Peer
	}
	return c, nil
}

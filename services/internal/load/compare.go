package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Comparison is what a benchmark of interleaved rounds ends with: medians.
type Comparison struct {
	Ratio    float64 `json:"cpu_per_packet_vs_livekit"`
	CPU      float64 `json:"us_per_packet"`
	Loss     float64 `json:"loss"`   // the worst of Work A
	P99      float64 `json:"p99_ms"` // of Work A
	W200CPU  float64 `json:"w200_us_per_packet"`
	W200Each float64 `json:"w200_kib_per_subscriber"`
}

// Who was measured in a round.
const (
	roundParley  = "parley"  // Work A
	roundLiveKit = "livekit" // Work A
	roundW200    = "w200"    // Work B, of Parley
)

// Round is one measurement.
type Round struct {
	Number string
	Who    string
	Result
}

// Rounds are those of a benchmark.
type Rounds []Round

// ReadRounds reads lines of "ROUND WHO RESULT".
func ReadRounds(r io.Reader) (Rounds, error) {
	var list Rounds
	in := bufio.NewScanner(r)
	for in.Scan() {
		f := strings.SplitN(in.Text(), " ", 3)
		if len(f) != 3 {
			return nil, fmt.Errorf("compare: %q is no round", in.Text())
		}
		x := Round{Number: f[0], Who: f[1]}
		if !slices.Contains([]string{roundParley, roundLiveKit, roundW200}, x.Who) {
			return nil, fmt.Errorf("compare: round %s is of %q: want %s, %s or %s", x.Number, x.Who, roundParley, roundLiveKit, roundW200)
		}
		if err := json.Unmarshal([]byte(f[2]), &x.Result); err != nil {
			return nil, fmt.Errorf("compare: %q: %w", in.Text(), err)
		}
		if x.Packets == 0 {
			return nil, fmt.Errorf("compare: %s delivered nothing in round %s", x.Who, x.Number)
		}
		list = append(list, x)
	}
	return list, in.Err()
}

// median of a figure of one who was measured.
func (l Rounds) median(who string, of func(Result) float64) float64 {
	var v []float64
	for _, x := range l {
		if x.Who == who {
			v = append(v, of(x.Result))
		}
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func (l Rounds) count(who string) (n int) {
	for _, x := range l {
		if x.Who == who {
			n++
		}
	}
	return n
}

// Compare sums up. There must be as many rounds of the one as of the other.
func (l Rounds) Compare() (Comparison, error) {
	if n := l.count(roundParley); n == 0 || n != l.count(roundLiveKit) {
		return Comparison{}, errors.New("compare: there must be as many rounds of parley as of livekit")
	}
	cpu := func(x Result) float64 { return x.CPU }
	c := Comparison{
		CPU:      l.median(roundParley, cpu),
		P99:      l.median(roundParley, func(x Result) float64 { return x.P99 }),
		W200CPU:  l.median(roundW200, cpu),
		W200Each: l.median(roundW200, func(x Result) float64 { return x.Each }),
	}
	for _, x := range l {
		if x.Who == roundParley {
			c.Loss = max(c.Loss, x.Loss)
		}
	}
	if peer := l.median(roundLiveKit, cpu); peer > 0 {
		c.Ratio = c.CPU / peer
	}
	return c, nil
}

// Table shows each round: what it cost, and that nothing was switched off.
func (l Rounds) Table() string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "round\tserver\tpackets/s\tshare\tloss %\tp50 ms\tp99 ms\tµs/packet\tcores\tload's\tRSS MiB\tKiB each\tNACKs\tresent\tTWCC\t")
	for _, x := range l {
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.3f\t%.4f\t%.1f\t%.1f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%d\t%d\t%d\t\n", x.Number, x.Who, x.PerSecond, x.Share, 100*x.Loss, x.P50, x.P99, x.CPU, x.Cores, x.Own, x.RSS, x.Each, x.Nacks, x.Resent, x.Feedback)
	}
	fmt.Fprintln(t, "\nround\trouter\tasked again\tresent\task senders\trecovered\tTWCC in\tTWCC out\tprobes\tswitches\tkeyframes\tpaced out\tper send\tper read\tGSO %\trefused\t")
	for _, x := range l {
		if w := x.Work; w != nil {
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%.0f\t%d\t\n", x.Number, x.Who, w.Nacked, w.Resent, w.NacksSent, w.Recovered, w.Feedback, w.Told, w.Probes, w.Switches, w.Keyframes, w.Dropped, w.PerCall, w.PerRead, 100*w.Segmented, w.Refused)
		}
	}
	t.Flush()
	return b.String()
}

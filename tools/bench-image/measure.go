package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// input is something that both programs read.
type input struct {
	name  string
	path  string
	bytes int64
}

// program is one side: its command line for an output file.
type program struct {
	name string
	argv func(out string) []string
}

// result is one run.
type result struct {
	cpu  time.Duration // user and system time of the process and its children
	wall time.Duration
	size int64 // bytes written
}

// comparison is all runs of both programs on one input.
type comparison struct {
	in           input
	ours, theirs []result
	names        [2]string
}

// compare runs ours and theirs on i in turns. verify is given our output once and has to succeed.
func compare(ctx context.Context, runs int, work string, i input, ours, theirs program, verify func(out string) []string) (comparison, error) {
	c := comparison{in: i, names: [2]string{ours.name, theirs.name}}
	for n := range runs {
		// Who goes first changes, so that warm caches and clock changes favour nobody.
		order := []program{ours, theirs}
		if n%2 == 1 {
			slices.Reverse(order)
		}
		for _, p := range order {
			out := filepath.Join(work, "out")
			r, err := measure(ctx, p.argv(out), out)
			if err != nil {
				return c, err
			}
			if p.name == ours.name {
				c.ours = append(c.ours, r)
				if n == 0 {
					argv := verify(out)
					if msg, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
						return c, fmt.Errorf("%s refuses what %s made of %s: %w\n%s", argv[0], ours.name, i.path, err, msg)
					}
				}
			} else {
				c.theirs = append(c.theirs, r)
			}
			if err := os.Remove(out); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

func measure(ctx context.Context, argv []string, out string) (result, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	start := time.Now()
	if msg, err := cmd.CombinedOutput(); err != nil {
		return result{}, fmt.Errorf("%q: %w\n%s", argv, err, msg)
	}
	wall := time.Since(start)
	st, err := os.Stat(out)
	if err != nil {
		return result{}, err
	}
	return result{cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), wall, st.Size()}, nil
}

// median is the middle of x, or the mean of the middle two. x is not empty.
func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	n := len(x)
	return (x[(n-1)/2] + x[n/2]) / 2
}

// ratio is the median over the pairs of runs of of(a)/of(b).
func ratio(a, b []result, of func(result) float64) float64 {
	var x []float64
	for i := range a {
		x = append(x, of(a[i])/of(b[i]))
	}
	return median(x)
}

func cpuSeconds(r result) float64 { return r.cpu.Seconds() }
func bytesOut(r result) float64   { return float64(r.size) }

// cpuRatio is our CPU time by theirs, sizeRatio our size by theirs.
func (c comparison) cpuRatio() float64  { return ratio(c.ours, c.theirs, cpuSeconds) }
func (c comparison) sizeRatio() float64 { return ratio(c.ours, c.theirs, bytesOut) }

// summary is the JSON line. The input's size cancels out of the ratio of MB per CPU second.
type summary struct {
	VMDKSpeed    float64 `json:"vmdk_mb_per_core_s_vs_qemu_img"`
	VMDKSize     float64 `json:"vmdk_size_vs_qemu_img"`
	SquashfsSize float64 `json:"squashfs_size_vs_mksquashfs"`
	SquashfsCPU  float64 `json:"squashfs_cpu_vs_mksquashfs"`
}

// summarize takes the worse of the inputs everywhere.
func summarize(vmdks, trees []comparison) summary {
	var s summary
	for i, c := range vmdks {
		speed := 1 / c.cpuRatio()
		if i == 0 || speed < s.VMDKSpeed {
			s.VMDKSpeed = speed
		}
		s.VMDKSize = max(s.VMDKSize, c.sizeRatio())
	}
	for _, c := range trees {
		s.SquashfsSize = max(s.SquashfsSize, c.sizeRatio())
		s.SquashfsCPU = max(s.SquashfsCPU, c.cpuRatio())
	}
	for _, f := range []*float64{&s.VMDKSpeed, &s.VMDKSize, &s.SquashfsSize, &s.SquashfsCPU} {
		*f = float64(int64(*f*1000+0.5)) / 1000
	}
	return s
}

func report(w io.Writer, notes []string, vmdks, trees []comparison) error {
	for _, n := range notes {
		fmt.Fprintln(w, n)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "input\tMB\tprogram\tCPU s\tMB/s per core\twall s\toutput MB\tCPU, ours/theirs\tsize, ours/theirs")
	for _, c := range slices.Concat(vmdks, trees) {
		for side, runs := range [][]result{c.ours, c.theirs} {
			var cpu, wall, size []float64
			for _, r := range runs {
				cpu, wall, size = append(cpu, r.cpu.Seconds()), append(wall, r.wall.Seconds()), append(size, float64(r.size)/1e6)
			}
			mb := float64(c.in.bytes) / 1e6
			fmt.Fprintf(t, "%s\t%.0f\t%s\t%.2f\t%.1f\t%.2f\t%.2f\t", c.in.name, mb, c.names[side], median(cpu), mb/median(cpu), median(wall), median(size))
			if side == 0 {
				fmt.Fprintf(t, "%.3f\t%.3f\n", c.cpuRatio(), c.sizeRatio())
			} else {
				fmt.Fprint(t, "\t\n")
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	line, err := json.Marshal(summarize(vmdks, trees))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s\n", line)
	return err
}

package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress shows what is being done: a bar that is redrawn on a terminal, a
// line for each stage elsewhere.
type progress struct {
	mu       sync.Mutex
	out      *os.File
	terminal bool
	stage    string
	shown    time.Time
	width    int
}

func newProgress(out *os.File) *progress {
	return &progress{out: out, terminal: term.IsTerminal(int(out.Fd()))}
}

// titles are the stages as people read them.
var titles = map[string]string{
	"parts":   "reading kernel and boot loaders",
	"compile": "compiling PID 1 and the services",
	"root":    "packing the root file system",
	"disk":    "writing the disk",
	"vmdk":    "compressing the VMDK",
	"pack":    "packing OVF and OVA",
	"legal":   "collecting licences and the bill of materials",
	"formats": "writing other formats",
}

// redraw is how often a bar is drawn at most.
const redraw = 50 * time.Millisecond

// update says that a stage began or went on; total is 0 where it is not known.
func (p *progress) update(stage string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := stage != p.stage
	p.stage = stage
	title := titles[stage]
	if title == "" {
		title = stage
	}
	if !p.terminal {
		if fresh {
			fmt.Fprintf(p.out, "mkovf: %s\n", title)
		}
		return
	}
	if !fresh && done < total && time.Since(p.shown) < redraw {
		return
	}
	p.shown = time.Now()
	line := title
	if total > 0 {
		const cells = 24
		n := int(done * cells / total)
		line = fmt.Sprintf("[%s%s] %3d %%  %s", strings.Repeat("█", n), strings.Repeat("·", cells-n), done*100/total, title)
	}
	p.draw(line)
}

// say prints a line of its own.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.width > 0 {
		p.draw("")
		fmt.Fprint(p.out, "\r")
	}
	fmt.Fprintf(p.out, "mkovf: "+format+"\n", args...)
}

func (p *progress) draw(line string) {
	n := len([]rune(line))
	fmt.Fprintf(p.out, "\r%s%s", line, strings.Repeat(" ", max(0, p.width-n)))
	p.width = n
}

// close takes the bar away.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.width > 0 {
		p.draw("")
		fmt.Fprint(p.out, "\r")
	}
}

package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// progress prints how the client stands: one line that changes on a terminal, otherwise a line now and then.
type progress struct {
	// set at construction, then read only
	out      io.Writer
	terminal bool
	lines    uint64

	mu      sync.Mutex // guards the fields below
	last    report     // of the client process that runs
	before  report     // what the processes before it added up to
	printed time.Time
	answers uint64 // when it was printed
}

func newProgress(out io.Writer, lines uint64) *progress {
	return &progress{out: out, terminal: isTerminal(out), lines: lines, printed: time.Now()}
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// update takes in a report of the client, and prints it if it is time to.
func (p *progress) update(r report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = r
	interval := time.Second
	if p.terminal {
		interval = 100 * time.Millisecond
	}
	if passed := time.Since(p.printed); passed >= interval {
		rate := float64(r.Answers-min(p.answers, r.Answers)) / passed.Seconds()
		p.printed, p.answers = time.Now(), r.Answers
		p.print(fmt.Sprintf("%d of %d lines, %.0f/s, %s, %s, %d unacknowledged",
			r.Answers, p.lines, rate, r.State, count(p.before.Breaks+r.Breaks, "break"), r.Unacked))
	}
}

// print prints a progress line. The caller holds mu.
func (p *progress) print(line string) {
	if p.terminal {
		_, _ = fmt.Fprintf(p.out, "\r%s\x1b[K", line) // a terminal that is gone is no reason to stop
		return
	}
	_, _ = fmt.Fprintln(p.out, line)
}

// note prints a line that stays.
func (p *progress) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	_, _ = fmt.Fprintf(p.out, format+"\n", args...)
}

// nextProcess says that the reports to come are of another client process.
func (p *progress) nextProcess() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before.Resumes += p.last.Resumes
	p.before.Breaks += p.last.Breaks
	p.last = report{}
}

// resumes returns how often the clients have resumed.
func (p *progress) resumes() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.before.Resumes + p.last.Resumes
}

// finish makes room for what others print.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// clear removes the line that changes. The caller holds mu.
func (p *progress) clear() {
	if p.terminal {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// breaks returns how many attempts the clients have lost.
func (p *progress) breaks() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.before.Breaks + p.last.Breaks
}

// lastAnswer returns the number of the last answer reported.
func (p *progress) lastAnswer() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last.Answers
}

// count says how many there are of a thing.
func count(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

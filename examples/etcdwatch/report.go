package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// result is how it went for one contestant.
type result struct {
	verdict

	contestant contestant
	err        error           // that ended the watcher before its time
	recover    []time.Duration // by fault
}

// outcome is how a run went.
type outcome struct {
	results []result // the first is the one that the run is about
	stopped int      // members
	cuts    int
}

// ok reports whether the first contestant has seen everything once, in order.
func (o outcome) ok() bool { return o.results[0].ok() && o.results[0].err == nil }

// write prints the table and the last line.
func (o outcome) write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "watcher\tevents\tlost\tduplicated\treordered\tunknown\tgaps\thit by\trecover: median\tlongest\tresume code\t") // Flush tells
	for _, r := range o.results {
		recovered, longest := thatTouched(r.recover), time.Duration(0)
		if len(recovered) > 0 {
			longest = slices.Max(recovered)
		}
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d faults\t%s\t%s\t%d lines\t\n", r.contestant.name, r.events, r.lost, r.duplicated,
			r.reordered, r.unknown, r.gaps, len(recovered), lasted(median(recovered)), lasted(longest), r.contestant.lines)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range o.results {
		if r.err != nil {
			_, _ = fmt.Fprintf(w, "%s gave up: %v\n", r.contestant.name, r.err) // the last line tells
		}
	}
	first := o.results[0]
	_, err := fmt.Fprintf(w, "events=%d members_stopped=%d cuts=%d lost=%d duplicated=%d reordered=%d\n", first.events,
		o.stopped, o.cuts, first.lost, first.duplicated, first.reordered)
	return err
}

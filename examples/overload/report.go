package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// report prints the floods side by side. The error is that of the writer.
func report(out io.Writer, s settings, results []result) error {
	w := &bytes.Buffer{} // takes all; so does the table on top of it
	_, _ = fmt.Fprintf(w, "tap: at most %d calls inside, the others come again after %v\n%s\n\n", limit(s), s.try/2, preset(s))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(title string, cell func(r result) any) {
		_, _ = fmt.Fprintf(t, "%s\t", title)
		for _, r := range results {
			_, _ = fmt.Fprintf(t, "%v\t", cell(r))
		}
		_, _ = fmt.Fprintln(t)
	}
	row("", func(r result) any { return r.name })
	row("calls", func(r result) any { return r.calls })
	row("answered in time", func(r result) any { return len(r.good) })
	row("  per second", func(r result) any { return int(r.goodput(s)) })
	for _, q := range []int{50, 95, 99} {
		row(fmt.Sprintf("  p%d", q), func(r result) any { return r.quantile(q).Round(time.Millisecond) })
	}
	row("tries refused at the door", func(r result) any { return r.refused })
	row("calls worked on", func(r result) any { return r.done })
	row("  that nobody waited for", func(r result) any { return r.inVain })
	_ = t.Flush()
	_, _ = fmt.Fprintf(w, "\ncapacity=%.0f/s offered=%d/s", s.capacity(), s.rate)
	for _, r := range results {
		_, _ = fmt.Fprintf(w, " %s=%d/s", r.name, int(r.goodput(s)))
	}
	_, _ = fmt.Fprintln(w)
	_, err := out.Write(w.Bytes())
	return err
}

// goodput is the calls answered in time, for each second of the flood.
func (r result) goodput(s settings) float64 { return float64(len(r.good)) / s.duration.Seconds() }

// quantile is the duration that q of a hundred good calls did not exceed; zero where there are none.
func (r result) quantile(q int) time.Duration {
	if len(r.good) == 0 {
		return 0
	}
	slices.Sort(r.good)
	return r.good[(len(r.good)-1)*q/100]
}

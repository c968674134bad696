package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/streamsafe/streamsafe/bench"
)

// recoveryPlan is how much to measure of what comes after an outage.
type recoveryPlan struct {
	runs     int // of each outage and black hole
	streams  int // that come back at once
	patience time.Duration
}

// run measures recovery with DialOptions beside grpc's defaults, taking turns.
func (p recoveryPlan) run(ctx context.Context) error {
	if err := p.outages(ctx); err != nil {
		return err
	}
	if err := p.blackHoles(ctx); err != nil {
		return err
	}
	return p.herds(ctx)
}

func (p recoveryPlan) outages(ctx context.Context) error {
	fmt.Fprintln(os.Stdout, "\n| from the server listening again to the next message | outage | median | best | worst | dials a second |\n|---|---|---|---|---|---|")
	for _, outage := range []time.Duration{200 * time.Millisecond, 2 * time.Second, 5 * time.Second, 30 * time.Second} {
		times, dials := map[bench.Dial][]float64{}, map[bench.Dial]float64{}
		for run := range p.runs {
			ways := []bench.Dial{bench.Defaults, bench.Dialled}
			if run%2 == 1 {
				slices.Reverse(ways)
			}
			for _, d := range ways {
				r, err := bench.Recover(ctx, d, outage)
				if err != nil {
					return fmt.Errorf("outage, %s: %w", d, err)
				}
				times[d] = append(times[d], r.Time.Seconds())
				dials[d] += float64(r.Dials) / outage.Seconds() / float64(p.runs)
			}
		}
		for _, d := range []bench.Dial{bench.Defaults, bench.Dialled} {
			fmt.Fprintf(os.Stdout, "| %s | %v | %v | %v | %v | %.1f |\n", d, outage,
				seconds(median(times[d])), seconds(slices.Min(times[d])), seconds(slices.Max(times[d])), dials[d])
		}
	}
	return nil
}

func (p recoveryPlan) blackHoles(ctx context.Context) error {
	const idle = time.Second
	fmt.Fprintf(os.Stdout, "\n| from a black hole to the next message, idle limit %v | median | best | worst |\n|---|---|---|---|\n", idle)
	for _, d := range []bench.Dial{bench.Defaults, bench.Keepalive, bench.Dialled} {
		runs := p.runs
		if d != bench.Dialled {
			runs = min(runs, 3) // each takes its time
		}
		times := make([]float64, 0, runs)
		for range runs {
			took, back, err := bench.BlackHole(ctx, d, idle, p.patience)
			if err != nil {
				return fmt.Errorf("black hole, %s: %w", d, err)
			}
			if back {
				times = append(times, took.Seconds())
			}
		}
		if len(times) < runs {
			fmt.Fprintf(os.Stdout, "| %s | not within %v, in %d of %d runs | | |\n", d, p.patience, runs-len(times), runs)
			continue
		}
		fmt.Fprintf(os.Stdout, "| %s | %v | %v | %v |\n", d, seconds(median(times)), seconds(slices.Min(times)), seconds(slices.Max(times)))
	}
	return nil
}

func (p recoveryPlan) herds(ctx context.Context) error {
	if p.streams == 0 {
		return nil
	}
	fmt.Fprintf(os.Stdout, "\n| %d streams of one connection come back, by 100 ms | all are back after | most opens in a window | mean | ratio |\n|---|---|---|---|---|\n", p.streams)
	for _, d := range []bench.Dial{bench.Defaults, bench.Dialled} {
		h, err := bench.Stampede(ctx, d, p.streams, 2*time.Second)
		if err != nil {
			return fmt.Errorf("streams, %s: %w", d, err)
		}
		most, mean := h.Most()
		fmt.Fprintf(os.Stdout, "| %s | %v | %d | %.0f | %.2f |\n", d, h.Took.Round(10*time.Millisecond), most, mean, float64(most)/mean)
		fmt.Fprintf(os.Stderr, "%s: %v\n", d, h.Windows)
	}
	return nil
}

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/streamsafe/streamsafe/bench"
)

// cutsPerTurn is the number of cuts before it is the other client's turn.
const cutsPerTurn = 10

// reconnects measures the time from a cut to the next message. Both clients draw the same delays.
func (p plan) reconnects(ctx context.Context) error {
	times, rests := map[bench.Client][]float64{}, map[bench.Client][]float64{}
	clients := []bench.Client{bench.Bare, bench.Checkpoint}
	for turn := range (p.cuts + cutsPerTurn - 1) / cutsPerTurn {
		for i := range clients {
			c := clients[(turn+i)%len(clients)]
			outages, err := bench.Reconnect(ctx, c, min(cutsPerTurn, p.cuts), uint64(turn))
			if err != nil {
				return fmt.Errorf("reconnect, %s: %w", c, err)
			}
			for _, o := range outages {
				times[c] = append(times[c], o.Time.Seconds())
				rests[c] = append(rests[c], (o.Time - o.Delay).Seconds())
			}
		}
	}
	fmt.Fprintln(os.Stdout, "\n| | loop by hand | resilient | ratio |\n|---|---|---|---|")
	compare := func(name string, values map[bench.Client][]float64) {
		hand, ours := median(values[bench.Bare]), median(values[bench.Checkpoint])
		fmt.Fprintf(os.Stdout, "| %s | %v | %v | %.3f |\n", name, seconds(hand), seconds(ours), ours/hand)
	}
	compare("from a cut to the next message", times)
	compare("the same, without the backoff", rests)
	return nil
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Microsecond)
}

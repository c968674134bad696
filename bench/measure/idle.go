package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/streamsafe/streamsafe/bench"
)

// idleFor is how long the processor time of idle streams is measured.
const idleFor = 3 * time.Second

// idle prints what an idle stream takes more than a bare one.
func (p plan) idle(ctx context.Context) error {
	fmt.Fprintln(os.Stdout, "\n| idle stream | heap | stack | goroutines | processor, all of them |\n|---|---|---|---|---|")
	var bare bench.Footprint
	for _, c := range []bench.Client{bench.Bare, bench.Checkpoint, bench.Replay, bench.Idle, bench.Stored} {
		server, err := bench.NewServer()
		if err != nil {
			return err
		}
		var used time.Duration
		f, err := bench.IdleStreams(ctx, server, c, p.idleStreams, func() {
			began := cpuTime()
			time.Sleep(idleFor)
			used = cpuTime() - began
		})
		server.Close()
		if err != nil {
			return err
		}
		sign := ""
		if c == bench.Bare {
			bare = f
		} else {
			f, sign = f.Minus(bare), "+"
		}
		fmt.Fprintf(os.Stdout, "| %s | %s%.1f KB | %s%.1f KB | %s%.1f | %.1f %% |\n", c, sign, f.Heap/1000, sign, f.Stack/1000,
			sign, f.Goroutines, 100*float64(used)/float64(idleFor))
	}
	return nil
}

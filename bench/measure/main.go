// Command measure runs the benchmarks of package bench with the clients taking turns, and prints the tables of
// RESULTS.md.
//
//	go run ./bench/measure
//	go run ./bench/measure -recovery
//
// A run of a workload has many short blocks, one client after the other, and a client's time is the median of its
// blocks. What is printed is the median over the runs of the ratio to the bare client of the same run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/streamsafe/streamsafe/bench"
)

// plan is how much to measure.
type plan struct {
	runs, blocks int
	block        time.Duration // length of a block, about
	only         string        // part of the name of the workloads to run
	cuts         int
	idleStreams  int
}

func main() {
	var p plan
	flag.IntVar(&p.runs, "runs", 10, "runs of each workload")
	flag.IntVar(&p.blocks, "blocks", 9, "blocks of each client in a run")
	flag.DurationVar(&p.block, "block", 20*time.Millisecond, "length of a block, about")
	flag.StringVar(&p.only, "only", "", "workloads and sizes with this in their name, Recv/16B say")
	flag.IntVar(&p.cuts, "cuts", 100, "cuts of each client, in tens")
	flag.IntVar(&p.idleStreams, "idle", 5000, "idle streams of each client")
	recovery := flag.Bool("recovery", false, "measure what comes after outages, black holes and cuts of many streams, and nothing else")
	r := recoveryPlan{patience: 20 * time.Second}
	flag.IntVar(&r.streams, "streams", 10_000, "streams of one connection, with -recovery")
	flag.Parse()
	if *recovery {
		r.runs = p.runs
		if err := r.run(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := p.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (p plan) run(ctx context.Context) error {
	fmt.Fprintf(os.Stdout, "%s, %d cores, %s\n", cpuModel(), runtime.GOMAXPROCS(0), runtime.Version())
	for _, f := range bench.Fields() {
		if err := p.field(ctx, f); err != nil {
			return err
		}
	}
	if p.cuts > 0 {
		if err := p.reconnects(ctx); err != nil {
			return err
		}
	}
	if p.idleStreams > 0 {
		return p.idle(ctx)
	}
	return nil
}

// field prints the table of a field.
func (p plan) field(ctx context.Context, f bench.Field) error {
	header := fmt.Sprintf("\n| | %s ns | %s |\n|---|%s\n",
		f.Variants[0], strings.Join(f.Variants[1:], " | "), strings.Repeat("---|", len(f.Variants)))
	for _, w := range f.Workloads {
		for _, size := range bench.Sizes() {
			name := w.Name + "/" + bench.SizeName(size)
			if !strings.Contains(name, p.only) {
				continue
			}
			row, err := p.measure(ctx, f, w, size)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Fprintf(os.Stdout, "%s| %s | %s |\n", header, name, row)
			header = ""
		}
	}
	return nil
}

// cost is what one message has cost.
type cost struct{ wall, cpu float64 }

// measure runs one workload and returns its row of the table.
func (p plan) measure(ctx context.Context, f bench.Field, w bench.Workload, size int) (string, error) {
	runs := make([][]cost, len(f.Variants))
	for range p.runs {
		costs, err := p.once(ctx, f, w, size)
		if err != nil {
			return "", err
		}
		for i, c := range costs {
			runs[i] = append(runs[i], c)
		}
	}
	return row(runs), nil
}

// messages returns how many messages make a block.
func (p plan) messages(w bench.Workload, s *bench.Session) (int, error) {
	for n := 16; ; n *= 2 {
		began := time.Now()
		if err := w.Run(s, n); err != nil {
			return 0, err
		}
		if took := time.Since(began); took >= p.block {
			return max(1, int(float64(n)*float64(p.block)/float64(took))), nil
		}
	}
}

// once is one run, on new connections. It returns the cost of a message by variant.
func (p plan) once(ctx context.Context, f bench.Field, w bench.Workload, size int) ([]cost, error) {
	var sessions []*bench.Session
	defer func() {
		for _, s := range sessions {
			s.Close()
		}
	}()
	for _, variant := range f.Variants {
		s, err := f.Open(ctx, variant, size)
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, s)
	}
	messages, err := p.messages(w, sessions[0])
	if err != nil {
		return nil, err
	}
	walls := make([][]float64, len(sessions))
	cpus := make([][]float64, len(sessions))
	for block := range p.blocks + 1 {
		for turn := range sessions {
			i := (block + turn) % len(sessions)
			began, used := time.Now(), cpuTime()
			if err := w.Run(sessions[i], messages); err != nil {
				return nil, err
			}
			wall, cpu := time.Since(began), cpuTime()-used
			if block == 0 {
				continue // buffers grow
			}
			walls[i] = append(walls[i], float64(wall)/float64(messages))
			cpus[i] = append(cpus[i], float64(cpu)/float64(messages))
		}
	}
	costs := make([]cost, len(sessions))
	for i := range sessions {
		costs[i] = cost{wall: median(walls[i]), cpu: median(cpus[i])}
	}
	return costs, nil
}

// row renders the medians over the runs: the bare client's time, and for the others the ratio of time, and of processor
// time, to it.
func row(runs [][]cost) string {
	bare := make([]float64, 0, len(runs[0]))
	for _, c := range runs[0] {
		bare = append(bare, c.wall)
	}
	cells := make([]string, 0, len(runs))
	cells = append(cells, fmt.Sprintf("%.0f", median(bare)))
	for _, costs := range runs[1:] {
		walls, cpus := make([]float64, 0, len(costs)), make([]float64, 0, len(costs))
		for run, c := range costs {
			walls = append(walls, c.wall/runs[0][run].wall)
			cpus = append(cpus, c.cpu/runs[0][run].cpu)
		}
		cells = append(cells, fmt.Sprintf("%.3f (%.3f–%.3f), cpu %.3f", median(walls), slices.Min(walls), slices.Max(walls), median(cpus)))
	}
	return strings.Join(cells, " | ")
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

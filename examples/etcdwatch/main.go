// Command etcdwatch watches a real etcd cluster while its members and the network fail, and shows that every change was
// seen once, in order.
//
// In one process it runs three etcd members, each behind a proxy that cuts connections, lets them go silent or refuses
// them. Writers, which are not behind the proxies, change keys all the time. Members crash, are stopped and restarted,
// and history is compacted while nobody can watch. Two watchers keep the same watches beside each other: one is etcd's
// generated Watch method wrapped in stream.Resilient, the other is the watch of etcd's own client. In the end what each
// has seen is compared with the history that is read back from etcd, revision by revision. The last line printed is about
// the first:
//
//	events=N members_stopped=M cuts=C lost=0 duplicated=0 reordered=0
//
// The exit status is 0 where nothing was lost, duplicated or reordered, 1 where something was or the run failed, and 2
// where it could not begin (of the built program: go run makes it 1).
//
// The watcher is in safe.go, and what it tells stream.Resilient in resume.go. Read these first.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGPIPE) // a write fails then, and the files are removed
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// contestants returns the watchers of a run. The first is the one that the last line is about.
func contestants() []contestant {
	return []contestant{
		{name: "streamsafe", run: safe, lines: codeLines(resumeCode)},
		{name: "clientv3", run: etcdClient, lines: clientLines},
	}
}

// settings are what the flags say.
type settings struct {
	seed   uint64
	faults int
}

// run returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := readFlags(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "etcdwatch:", err)
		return 2
	}
	dir, err := os.MkdirTemp("", "etcdwatch-")
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "etcdwatch:", err)
		return 2
	}
	defer func() { _ = os.RemoveAll(dir) }()   // it is temporary anyway
	random := rand.New(rand.NewPCG(s.seed, 0)) //nolint:gosec // repeatable on purpose
	o, err := match{
		contestants: contestants(), seed: s.seed, faults: plan(random, s.faults), dir: dir, out: stdout,
	}.play(ctx)
	if ctx.Err() != nil {
		_, _ = fmt.Fprintln(stderr, "etcdwatch: interrupted")
		return 1
	}
	if err == nil {
		err = o.write(stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "etcdwatch:", err)
		return 1
	}
	if !o.ok() {
		return 1
	}
	return 0
}

// maxFaults bounds the time that a run takes.
const maxFaults = 1000

// readFlags reads the flags.
func readFlags(args []string, stdout io.Writer) (s settings, err error) {
	flags := flag.NewFlagSet("etcdwatch", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Uint64Var(&s.seed, "seed", 1, "where the random numbers start")
	flags.IntVar(&s.faults, "faults", len(faults()), "how often something goes wrong")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(stdout)
		flags.Usage()
		return s, err
	case err != nil:
		return s, err
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.faults < 0 || s.faults > maxFaults:
		return s, fmt.Errorf("-faults %d: it has to be from 0 to %d", s.faults, maxFaults)
	}
	return s, nil
}

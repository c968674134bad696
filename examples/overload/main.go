// Command overload floods a server with more calls than it can serve, three times, and prints side by side what comes of
// it: with bare gRPC and the retry loop that every team writes, with package tap at the server's door, and with
// package unary in the clients too.
//
// Everything runs in one process. The server has a number of workers, and a call keeps one busy for a while; calls queue
// for a worker. Clients have a time limit for each try and for the call. The bare server goes on working for callers
// that have given up, their retries come on top, and soon nothing is answered in time. The last line printed is
//
//	capacity=N/s offered=N/s bare=N/s tap=N/s unary=N/s
//
// with the calls answered in time by each. The exit status is 0, or 1 where it was interrupted or could not go on, or 2
// where it could not begin (of the built program: go run makes it 1).
//
// What the packages are told is in guard.go. Read that first.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// settings are what the flags say.
type settings struct {
	workers  int
	work     time.Duration // that a worker needs for a call
	rate     int           // calls per second
	duration time.Duration // of each flood
	try      time.Duration // limit of one try
	patience time.Duration // limit of a call
	retries  int
}

// capacity is the calls per second that the workers can do.
func (s settings) capacity() float64 { return float64(s.workers) / s.work.Seconds() }

// run returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "overload:", err)
		return 2
	}
	_, _ = fmt.Fprintf(stdout, "%d workers, %v a call: capacity %.0f/s, offered %d/s for %v\n", s.workers, s.work,
		s.capacity(), s.rate, s.duration)
	var results []result
	for _, side := range sides() {
		r, err := flood(ctx, s, side)
		if ctx.Err() != nil {
			_, _ = fmt.Fprintln(stderr, "overload: interrupted")
			return 1
		}
		if err != nil {
			_, _ = fmt.Fprintf(stderr, "overload: %s: %v\n", side.name, err)
			return 1
		}
		results = append(results, r)
	}
	if err := report(stdout, s, results); err != nil {
		_, _ = fmt.Fprintln(stderr, "overload:", err)
		return 1
	}
	return 0
}

func parse(args []string, stdout io.Writer) (s settings, err error) {
	flags := flag.NewFlagSet("overload", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&s.workers, "workers", 8, "how many calls the server works on at a time")
	flags.DurationVar(&s.work, "work", 20*time.Millisecond, "how long a call keeps a worker busy")
	flags.IntVar(&s.rate, "rate", 1200, "calls per second")
	flags.DurationVar(&s.duration, "duration", 3*time.Second, "how long each flood lasts")
	flags.DurationVar(&s.try, "try", 100*time.Millisecond, "time limit of one try")
	flags.DurationVar(&s.patience, "patience", 300*time.Millisecond, "time limit of a call")
	flags.IntVar(&s.retries, "retries", 2, "how often a client tries again")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(stdout)
		flags.Usage()
		return s, err
	case err != nil:
		return s, err
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	default:
		return s, s.check()
	}
}

// check returns an error for the first setting that is out of bounds.
func (s settings) check() error {
	for _, bound := range []struct {
		holds bool
		flag  string
		value any
		is    string
	}{
		{s.workers > 0, "workers", s.workers, "above zero"},
		{s.work > 0, "work", s.work, "above zero"},
		{s.rate > 0, "rate", s.rate, "above zero"},
		{s.rate <= 100_000, "rate", s.rate, "at most 100000"},
		{s.duration >= 500*time.Millisecond, "duration", s.duration, "at least 500ms"},
		{s.duration <= time.Hour, "duration", s.duration, "at most 1h"},
		{s.try > 0, "try", s.try, "above zero"},
		{s.patience > 0, "patience", s.patience, "above zero"},
		{s.retries >= 0, "retries", s.retries, "zero or more"},
	} {
		if !bound.holds {
			return fmt.Errorf("-%s %v: it has to be %s", bound.flag, bound.value, bound.is)
		}
	}
	return nil
}

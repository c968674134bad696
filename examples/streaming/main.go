// Command streaming sends the lines of a text file over one gRPC stream while the connection below keeps breaking, and
// shows that every line was answered once, in order.
//
// In one process it runs a server, a proxy before it that cuts and stalls connections, and a client that uses
// stream.Resilient. The client writes the answers to a file and keeps its position in a checkpoint store. With -restart
// it is a process of its own, which is killed half-way and started again. In the end the file is compared with what
// is computed from the input directly. The last line printed is
//
//	lines=N cuts=C resumes=R lost=0 duplicated=0 reordered=0 elapsed=T
//
// With -deploy the server is drained half-way, and replaced by another one, while the job runs. A line tells how long that took,
// and that GracefulStop alone never ends while a stream is open.
//
// There may be fewer resumes than cuts: a stall may heal before it breaks anything, and a cut may hit a connection that
// the client has given up already.
//
// The exit status is 0 where nothing was lost, duplicated or reordered, 1 where something was or the job failed, and 2
// where it could not begin (of the built program: go run makes it 1).
//
// The client is in client.go. Read that first.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if address := os.Getenv(addressVariable); address != "" {
		return runChild(ctx, address, stdout, stderr)
	}
	began := time.Now()
	job, err := prepare(ctx, args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "streaming:", err)
		return 2
	}
	defer job.cleanUp()
	resumes, cuts, failure := job.run(ctx, stdout)
	if ctx.Err() != nil {
		_, _ = fmt.Fprintln(stderr, "streaming: interrupted")
		return 1
	}
	result, err := verify(job.input, job.lines, job.journal)
	if err = errors.Join(failure, err, result.firstWrong); err != nil {
		_, _ = fmt.Fprintln(stderr, "streaming:", err)
	}
	if result.compared {
		_, writeErr := fmt.Fprintf(stdout, "lines=%d cuts=%d resumes=%d lost=%d duplicated=%d reordered=%d elapsed=%v\n",
			job.lines, cuts, resumes, result.lost, result.duplicated, result.reordered, time.Since(began).Round(time.Millisecond))
		if writeErr != nil {
			_, _ = fmt.Fprintln(stderr, "streaming:", writeErr)
			return 1
		}
	}
	if err != nil || !result.ok() {
		return 1
	}
	return 0
}

// job is what the flags ask for.
type job struct {
	input   string
	lines   uint64
	cuts    int
	seed    uint64
	restart bool
	deploy  bool
	dir     string           // of the store
	store   *checkpoint.File // open, so that nobody else takes it
	journal string           // file
	temp    string           // to be removed; empty: nothing
}

// cleanUp gives back what prepare took.
func (j *job) cleanUp() {
	if j.store != nil {
		_ = j.store.Close() // all that matters is committed
	}
	if j.temp != "" {
		_ = os.RemoveAll(j.temp) // it is temporary anyway
	}
}

// prepare reads the flags and checks that the job can begin.
func prepare(ctx context.Context, args []string, stdout io.Writer) (j *job, err error) {
	j = &job{}
	flags := flag.NewFlagSet("streaming", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&j.input, "input", "", "text `file` to send (default: a large source file of the Go installation)")
	flags.IntVar(&j.cuts, "cuts", 20, "how often the network breaks")
	flags.Uint64Var(&j.seed, "seed", 1, "where the random numbers for the cuts start")
	flags.BoolVar(&j.restart, "restart", false, "kill the client process half-way and start another one")
	flags.BoolVar(&j.deploy, "deploy", false, "drain the server half-way and start another one")
	flags.StringVar(&j.dir, "store", "", "`directory` of the checkpoint store, for a new job; the answers go to a file\n"+
		"beside it, with the same name and .answers; both are started anew: what an earlier job left there is lost\n"+
		"(default: a temporary directory)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(stdout)
		flags.Usage()
		return nil, err
	case err != nil:
		return nil, err
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case j.restart && j.deploy:
		return nil, errors.New("-restart and -deploy exclude each other")
	case j.cuts < 0:
		return nil, fmt.Errorf("-cuts %d is less than zero", j.cuts)
	case j.cuts > maxCuts:
		return nil, fmt.Errorf("-cuts %d: at most %d", j.cuts, maxCuts)
	}
	if j.input == "" {
		if j.input, err = defaultInput(ctx); err != nil {
			return nil, err
		}
	}
	if j.lines, err = countLines(j.input); err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	if err := j.prepareStore(ctx); err != nil {
		j.cleanUp()
		return nil, fmt.Errorf("store: %w", err)
	}
	return j, nil
}

// prepareStore opens the store and starts it anew: the server of an earlier run is gone, and its sessions with it.
func (j *job) prepareStore(ctx context.Context) (err error) {
	if j.dir == "" {
		if j.temp, err = os.MkdirTemp("", "streaming-"); err != nil {
			return err
		}
		j.dir = filepath.Join(j.temp, "checkpoints")
	}
	if j.dir, err = filepath.Abs(j.dir); err != nil {
		return err
	}
	if filepath.Dir(j.dir) == j.dir {
		return fmt.Errorf("the answers cannot go beside %s", j.dir)
	}
	j.journal = j.dir + ".answers"
	if err := checkJournal(j.journal, j.input); err != nil {
		return err
	}
	if j.store, err = checkpoint.OpenFile(j.dir); err != nil {
		return err
	}
	return j.store.Delete(ctx, storeKey)
}

// run does the job, first over a bare stream and then over one that survives.
func (j *job) run(ctx context.Context, stdout io.Writer) (resumes uint64, cuts int, err error) {
	progress := newProgress(stdout, j.lines)
	defer progress.finish()
	faults := plan(j.seed, j.cuts, j.lines)
	bare, err := runBare(ctx, j.input, j.lines, faults)
	if err != nil {
		return 0, 0, err
	}
	progress.note("%s", bare)

	network, err := testnet.NewTCP("") //nolint:contextcheck // it lives until it is closed
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = network.Close() }() // only ever the listener's error
	listener, err := network.Listen()
	if err != nil {
		return 0, 0, err
	}
	saboteur := newSaboteur(network.Network, j.cuts, j.lines)
	saboteur.restart, saboteur.deploy = j.restart, j.deploy
	service := &counter{} // in place of a database, which all servers share
	first := serve(listener, service, saboteur.intercept)
	defer first.stop()
	network.ArmInOrder(faults...)
	switch {
	case j.restart:
		err = errors.Join(j.store.Close(), j.runProcesses(ctx, network.Addr(), saboteur, progress))
	case j.deploy:
		err = j.runDeploy(ctx, network, first, service, saboteur, progress)
	default:
		err = j.client(network.Addr(), progress.update).run(ctx)
	}
	if err == nil {
		progress.note("client done: %s, %s; the network: %s", count(progress.breaks(), "break"),
			count(progress.resumes(), "resume"), describe(network.Cuts()))
	}
	return progress.resumes(), len(network.Cuts()), err
}

// client returns a client that reports how it goes.
func (j *job) client(address string, tell func(report)) *client {
	return &client{
		input: j.input, lines: j.lines, address: address, store: j.store, journal: j.journal, report: tell,
	}
}

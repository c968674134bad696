// Package rig is what the small examples have in common: a server behind a proxy that cuts its connections, and a journal of
// what each end has seen.
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

// Example is a server, a client, and the faults between them.
type Example struct {
	Serve      func(*grpc.Server)                           // registers the service
	Run        func(ctx context.Context, addr string) error // is the client
	Journals   []*Journal                                   // what was seen, at either end
	Cuts       int                                          // how many connections are to break
	Every      int                                          // a connection breaks after about so many messages
	Directions []testnet.Direction                          // that the messages are counted in, in turns; default: to the client
}

// limit is how long an example may take.
const limit = time.Minute

// Main runs the example and ends the process: with status 0 if everything was seen once, in order, and all cuts happened.
func (e Example) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithTimeout(ctx, limit)
	err := e.run(ctx, os.Stdout)
	cancel()
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (e Example) run(ctx context.Context, out io.Writer) error {
	network, err := testnet.NewTCP("") //nolint:contextcheck // it ends with Close
	if err != nil {
		return err
	}
	defer func() { _ = network.Close() }()
	listener, err := network.Listen()
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	defer server.Stop()
	e.Serve(server)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	network.ArmInOrder(e.faults()...)

	err = e.Run(ctx, network.Addr())
	cuts := len(network.Cuts())
	total := Count{}
	for _, j := range e.Journals {
		total = total.plus(j.Count())
	}
	_, _ = fmt.Fprintf(out, "messages=%d cuts=%d lost=%d duplicated=%d reordered=%d\n",
		total.Messages, cuts, total.Lost, total.Duplicated, total.Reordered)
	switch {
	case err != nil:
		return err
	case cuts < e.Cuts:
		return fmt.Errorf("only %d of %d connections were cut", cuts, e.Cuts)
	case total.Lost+total.Duplicated+total.Reordered > 0:
		return errors.New("not everything was seen once, in order")
	default:
		return nil
	}
}

// faults are the cuts, of three kinds, before, inside and after a message.
func (e Example) faults() []testnet.Fault {
	kinds := []testnet.Kind{testnet.RST, testnet.FIN, testnet.Truncate}
	directions := e.Directions
	if len(directions) == 0 {
		directions = []testnet.Direction{testnet.ToClient}
	}
	faults := make([]testnet.Fault, e.Cuts)
	for i := range faults {
		faults[i] = testnet.Fault{
			Kind: kinds[i%len(kinds)], Direction: directions[i%len(directions)],
			Message: e.Every + i%7, Where: testnet.Where(i / 2 % 3), Total: true,
		}
	}
	return faults
}

// Journal notes the numbers of messages: 1 to Want, each once, in order. It is safe for concurrent use.
type Journal struct {
	Want uint64

	mu    sync.Mutex // guards the fields below
	seen  map[uint64]bool
	last  uint64
	count Count
}

// Count is what a journal has found.
type Count struct{ Messages, Lost, Duplicated, Reordered uint64 }

func (c Count) plus(other Count) Count {
	return Count{
		c.Messages + other.Messages, c.Lost + other.Lost, c.Duplicated + other.Duplicated, c.Reordered + other.Reordered,
	}
}

// Saw notes that message n was seen.
func (j *Journal) Saw(n uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.seen == nil {
		j.seen = make(map[uint64]bool)
	}
	switch {
	case j.seen[n]:
		j.count.Duplicated++
	case n < j.last:
		j.count.Reordered++
	}
	j.seen[n], j.last = true, max(j.last, n)
	j.count.Messages++
}

// Count returns what was found so far.
func (j *Journal) Count() Count {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.count
	for n := uint64(1); n <= j.Want; n++ {
		if !j.seen[n] {
			c.Lost++
		}
	}
	return c
}

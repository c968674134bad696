package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/examples/streaming/countpb"
	"github.com/streamsafe/streamsafe/internal/testnet"
)

// bareLimit is how long the bare stream may take: without a time limit of its own it would wait for ever where a
// connection is dead and looks alive.
const bareLimit = 5 * time.Second

// runBare sends the same lines over a gRPC stream as it is, through the same faults, and tells how far that came.
func runBare(ctx context.Context, input string, total uint64, faults []testnet.Fault) (string, error) {
	network, err := testnet.NewTCP("") //nolint:contextcheck // it lives until it is closed
	if err != nil {
		return "", err
	}
	defer func() { _ = network.Close() }() // only ever the listener's error
	listener, err := network.Listen()
	if err != nil {
		return "", err
	}
	s := serve(listener, &counter{})
	defer s.stop()
	network.ArmInOrder(faults...)

	conn, err := dial(network.Addr())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // it may be dead
	ctx, cancel := context.WithTimeout(ctx, bareLimit)
	defer cancel()
	sent, answered, err := bareExchange(ctx, countpb.NewCounterClient(conn), input)
	if err != nil {
		return fmt.Sprintf("bare gRPC: died after answer %d of %d, with %d lines sent: %v", answered, total, sent, err), nil
	}
	return fmt.Sprintf("bare gRPC: survived, with %d cuts and %d answers", len(network.Cuts()), answered), nil
}

// bareExchange sends lines in one goroutine and receives answers in this one, until the stream ends.
func bareExchange(ctx context.Context, client countpb.CounterClient, input string) (sent, answered uint64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := client.Count(ctx)
	if err != nil {
		return 0, 0, err
	}
	hello := &countpb.Request{Kind: &countpb.Request_Hello{Hello: &countpb.Hello{Session: rand.Text()}}}
	if err := s.Send(hello); err != nil && !errors.Is(err, io.EOF) { // io.EOF: Recv tells
		return 0, 0, err
	}
	var lines atomic.Uint64
	done := make(chan struct{})
	go func() { // ends with the input or the stream; the end of this function waits
		defer close(done)
		sendBare(s, input, &lines)
	}()
	for {
		m, recvErr := s.Recv()
		if recvErr != nil {
			if !errors.Is(recvErr, io.EOF) {
				err = recvErr
			}
			break
		}
		if a := m.GetAnswer(); a != nil {
			answered = a.GetNumber()
		}
	}
	cancel()
	<-done
	return lines.Load(), answered, err
}

// sendBare sends lines until there are no more, or the stream is dead.
func sendBare(s grpc.BidiStreamingClient[countpb.Request, countpb.Response], input string, sent *atomic.Uint64) {
	number := uint64(0)
	for text, err := range lines(input) {
		if err != nil {
			break // the input was read before, and will be again
		}
		number++
		// Answers that this stream has missed it cannot ask for: all are confirmed.
		line := &countpb.Line{Number: number, Text: text, Confirmed: number - 1}
		if err := s.Send(&countpb.Request{Kind: &countpb.Request_Line{Line: line}}); err != nil {
			return // Recv tells
		}
		sent.Store(number)
	}
	_ = s.CloseSend() // always nil
}

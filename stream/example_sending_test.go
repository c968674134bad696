package stream_test

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/streamsafe/streamsafe/stream"
)

// The server wants an answer to each message, on the connection that it sent it on. An answer for a connection that is gone
// must not reach the next one.
func ExampleClientStream_SendOn() {
	client, stop := startServer(numbersTo(2, errRestart), numbersTo(3, nil))
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			return r.Send(resumeFrom(r.Position()))
		},
		Checkpoint: position,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for m, err := s.Recv(); err == nil; m, err = s.Recv() {
		fmt.Println(describe(m), "came on attempt", s.Attempt())
		if err := s.SendOn(s.Attempt(), answering(m)); err != nil && !errors.Is(err, stream.ErrAttemptOver) {
			fmt.Println(err)
		}
	}
	// Output:
	// number 1 came on attempt 1
	// number 2 came on attempt 1
	// number 3 came on attempt 2
}

// A worker confirms each task of its queue when the server has what came of it. The connection breaks after task 2, and the server
// has acknowledged only task 1.
func ExampleClientStream_SendTracked() {
	client, stop := startServer(collects(1, 2, errRestart), collects(3, 0, nil))
	defer stop()
	ctx := context.Background()

	s, err := stream.Resilient(ctx, client.FullDuplexCall, stream.Callbacks[request, response]{
		Acked:   func(m *response) (uint64, bool) { return acknowledged(m), acknowledged(m) > 0 },
		Control: func(m *response) bool { return acknowledged(m) > 0 },
	}, stream.WithReplay(stream.ReplayLimits{}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	var receipts []*stream.Receipt
	for n := range uint64(3) {
		r, err := s.SendTracked(item(n + 1))
		if err != nil {
			fmt.Println(err)
			return
		}
		receipts = append(receipts, r)
	}
	for _, r := range receipts {
		if err := r.Wait(ctx); err != nil {
			fmt.Println("not confirmed:", err)
		}
	}
	fmt.Println("confirmed:", len(receipts))
	// Output:
	// server got 1
	// server got 2
	// server got 2
	// server got 3
	// confirmed: 3
}

// The client subscribes to topics, and changes its mind while the connection breaks. It keeps no list, and Resume does nothing:
// each new attempt gets what is subscribed to then.
func ExampleCallbacks_key() {
	client, stop := startServer(subscribers(2, errRestart), subscribers(1, nil))
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Key: func(m *request) (key string, last bool) { return topic(m), isUnsubscribe(m) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	if err := s.Send(subscribe("oil")); err != nil {
		fmt.Println(err)
	}
	if err := s.Send(unsubscribe("oil")); err != nil { // the server goes away after that
		fmt.Println(err)
	}
	if err := s.Send(subscribe("tea")); err != nil {
		fmt.Println(err)
	}
	_, err = s.Recv()
	fmt.Println("end:", err)
	// Output:
	// server got subscribe oil
	// server got unsubscribe oil
	// server got subscribe tea
	// end: EOF
}

// An upload from a source that can be read again. The server breaks after three parts, of which it has acknowledged two. So the
// stream reads the source again, from the third part. No part is kept in memory.
func ExampleClientStream_SendFrom() {
	client, stop := startServer(collects(2, 3, errRestart), collects(5, 5, nil))
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Acked: func(m *response) (uint64, bool) {
			seq := acknowledged(m)
			return seq, seq > 0
		},
		Control: func(m *response) bool { return number(m) == 0 },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	parts := func(after uint64) iter.Seq2[*request, error] { // in a real program: seek to part after+1 in a file
		fmt.Println("read from part", after+1)
		return func(yield func(*request, error) bool) {
			for n := after + 1; n <= 5; n++ {
				if !yield(item(n), nil) {
					return
				}
			}
		}
	}
	fmt.Println("error:", s.SendFrom(parts))
	// Unordered output:
	// read from part 1
	// server got 1
	// server got 2
	// server got 3
	// read from part 3
	// server got 3
	// server got 4
	// server got 5
	// error: <nil>
}

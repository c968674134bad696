package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// The position survives the process: the second one continues where the first one stopped.
func ExampleWithStore() {
	client, stop := startServer(numbersTo(5, nil), numbersTo(5, nil))
	defer stop()
	ctx := context.Background()
	var store checkpoint.Memory // use checkpoint.OpenFile to keep positions on disk

	for process := range 2 { // two processes, one after the other
		s, err := stream.Resilient(ctx, client.FullDuplexCall, stream.Callbacks[request, response]{
			Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
				return r.Send(resumeFrom(r.Position()))
			},
			Checkpoint: position,
		}, stream.WithStore(&store, "orders"))
		if err != nil {
			fmt.Println(err)
			return
		}
		for range 3 {
			m, err := s.Recv()
			if err != nil {
				fmt.Println("process", process, "ends:", err)
				break
			}
			fmt.Println("process", process, "got", describe(m))
		}
		_ = s.Commit(ctx) // without it, the newest message does not count as processed
		_ = s.Close()
	}
	// Output:
	// process 0 got number 1
	// process 0 got number 2
	// process 0 got number 3
	// process 1 got number 4
	// process 1 got number 5
	// process 1 ends: EOF
}

// The application keeps the position itself.
func ExampleWithPosition() {
	client, stop := startServer(numbersTo(5, nil))
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			return r.Send(resumeFrom(r.Position()))
		},
		Checkpoint: position,
	}, stream.WithPosition(checkpoint.Position{Seq: 3}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for m, err := s.Recv(); err == nil; m, err = s.Recv() {
		fmt.Println(describe(m))
	}
	// Output:
	// number 4
	// number 5
}

// Only the last message of each group has a position. The stream breaks in the middle of group 2, so the server sends that
// group again. The application gets each message once.
func ExampleHoldUntilCheckpoint() {
	client, stop := startServer(
		sends(errRestart, part(1), part(1), groupEnd(1), part(2)),
		sends(nil, part(2), part(2), groupEnd(2)),
	)
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			return r.Send(resumeFrom(r.Position()))
		},
		Checkpoint: position,
	}, stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for m, err := s.Recv(); err == nil; m, err = s.Recv() {
		fmt.Println(describe(m))
	}
	// Output:
	// part of 1
	// part of 1
	// number 1
	// part of 2
	// part of 2
	// number 2
}

// The server no longer has what follows number 2. The application learns that in the right place, between 2 and 101: the
// new position has a Token that makes Resume deliver a notice, and the position of the notice has none.
func ExampleCallbacks_lost() {
	client, stop := startServer(numbersTo(2, status.Error(codes.OutOfRange, "compacted up to 100")), numbersTo(102, nil))
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Lost: func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
			return stream.RestartFrom(checkpoint.Position{Token: "give notice"}), nil
		},
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			from := r.Position()
			if from.Token == "give notice" {
				from = checkpoint.Position{Seq: 100}
				r.Deliver(notice(100))
			}
			return r.Send(resumeFrom(from))
		},
		Checkpoint: position, // that of the notice is Seq 100
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for m, err := s.Recv(); err == nil; m, err = s.Recv() {
		fmt.Println(describe(m))
	}
	// Output:
	// number 1
	// number 2
	// lost: everything up to 100
	// number 101
	// number 102
}

// The server reports an error in a message, and not in a status. The stream resumes as it would after the status.
func ExampleCallbacks_err() {
	client, stop := startServer(
		sends(nil, groupEnd(1), overloaded()),
		numbersTo(3, nil),
	)
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Err: func(m *response) error {
			if frameOf(m) == overloaded() {
				return status.Error(codes.Unavailable, "overloaded")
			}
			return nil
		},
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			if r.Cause() != nil {
				fmt.Println("resuming after:", r.Cause())
			}
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
		fmt.Println(describe(m))
	}
	// Output:
	// number 1
	// resuming after: rpc error: code = Unavailable desc = overloaded
	// number 2
	// number 3
}

// The server ends the stream with OK, but it has acknowledged only 2 of 3 messages. Flush says so, and Unacked has the rest.
func ExampleClientStream_Flush() {
	client, stop := startServer(collects(2, 3, nil))
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
	for n := range uint64(3) {
		if err := s.Send(item(n + 1)); err != nil {
			fmt.Println(err)
		}
	}
	if e, ok := errors.AsType[*stream.Error](s.Flush(ctx)); ok {
		fmt.Println("flush:", e.Reason)
	}
	_ = s.Close()
	for seq := range s.Unacked() { // and its message
		fmt.Println("to be stored:", seq)
	}
	// Output:
	// server got 1
	// server got 2
	// server got 3
	// flush: not everything is acknowledged
	// to be stored: 3
}

// The server breaks the stream after message 2, and has acknowledged only message 1. So message 2 is sent again.
func ExampleWithReplay() {
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
	for n := range uint64(3) {
		if err := s.Send(item(n + 1)); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("flushed:", s.Flush(ctx))
	// Output:
	// server got 1
	// server got 2
	// server got 2
	// server got 3
	// flushed: <nil>
}

// A watch has no end. If the server ends it with OK, as a server does before a deployment, the stream goes on.
func ExampleWithEndless() {
	client, stop := startServer(numbersTo(2, nil), numbersTo(3, nil))
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			return r.Send(resumeFrom(r.Position()))
		},
		Checkpoint: position,
	}, stream.WithEndless())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for range 3 {
		m, err := s.Recv()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(describe(m))
	}
	// Output:
	// number 1
	// number 2
	// number 3
}

// The reason says what is in doubt. Its documentation names the option that decides.
func ExampleError() {
	client, stop := startServer(collects(0, 1, errRestart))
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	_ = s.Send(item(1))
	_, err = s.Recv()
	if errors.Is(err, io.EOF) {
		return // the server has ended the stream with OK
	}
	if e, ok := errors.AsType[*stream.Error](err); ok && e.Reason == stream.ReasonSendsInDoubt {
		fmt.Println("use WithReplay or WithAtMostOnceSends:", e.Cause)
	}
	// Output:
	// server got 1
	// use WithReplay or WithAtMostOnceSends: rpc error: code = Unavailable desc = the server restarts
}

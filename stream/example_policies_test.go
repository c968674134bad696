package stream_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/timeout"

	"github.com/streamsafe/streamsafe/stream"
)

// numberedFeed opens a stream whose server sends three messages, and no end.
func numberedFeed(opts ...stream.ClientOption) (s *client, stop func(), err error) {
	client, stop := startServer(stays(numbered(1, 2, 3)...))
	s, err = stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			return r.Send(resumeFrom(r.Position()))
		},
		Checkpoint: position,
	}, opts...)
	return s, stop, err
}

// At most two messages an hour are received. A denial is an error of that one Recv: nothing was received by it, and the stream goes
// on.
func ExampleWithRecvPolicies() {
	limiter := ratelimiter.NewBursty[any](2, time.Hour)
	s, stop, err := numberedFeed(stream.WithRecvPolicies(limiter))
	defer stop()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for range 3 {
		m, err := s.Recv()
		if e, ok := errors.AsType[*stream.Error](err); ok && e.Reason == stream.ReasonDenied {
			fmt.Println("denied:", errors.Is(err, ratelimiter.ErrExceeded), s.State())
			continue
		}
		fmt.Println(describe(m))
	}
	// Output:
	// number 1
	// number 2
	// denied: true attached
}

// While the circuit breaker is open, nothing is sent. The application may open it by hand, for maintenance say.
func ExampleWithSendPolicies() {
	breaker := stream.NewCircuitBreakerBuilder().Build()
	s, stop, err := numberedFeed(stream.WithAtMostOnceSends(), stream.WithSendPolicies(breaker))
	defer stop()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	breaker.Open()
	err = s.Send(item(1))
	fmt.Println(errors.Is(err, circuitbreaker.ErrOpen), s.Stats().Sent)
	breaker.Close()
	fmt.Println(s.Send(item(1)), s.Stats().Sent)
	// Output:
	// true 0
	// <nil> 1
}

// An executor of the application's own, with its listeners. If no message comes for a minute, the timeout gives the attempt up, and the
// stream resumes.
func ExampleWithRecvExecutor() {
	patience := timeout.New[any](time.Minute)
	executor := failsafe.With[any](patience).OnSuccess(func(failsafe.ExecutionDoneEvent[any]) { fmt.Println("one Recv is done") })
	s, stop, err := numberedFeed(stream.WithRecvExecutor(executor))
	defer stop()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	m, err := s.Recv()
	fmt.Println(describe(m), err)
	// Output:
	// one Recv is done
	// number 1 <nil>
}

// One executor around each Send.
func ExampleWithSendExecutor() {
	limiter := ratelimiter.NewBursty[any](1, time.Hour)
	s, stop, err := numberedFeed(stream.WithAtMostOnceSends(), stream.WithSendExecutor(failsafe.With[any](limiter)))
	defer stop()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	fmt.Println(s.Send(item(1)))
	fmt.Println(errors.Is(s.Send(item(2)), ratelimiter.ErrExceeded))
	// Output:
	// <nil>
	// true
}

// A breaker that counts faults of the server only. The methods of failsafe-go's builder are there, too.
func ExampleNewCircuitBreakerBuilder() {
	breaker := stream.NewCircuitBreakerBuilder().
		WithFailureThresholdRatio(5, 10).
		WithDelay(30 * time.Second).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) { fmt.Println(e.OldState, "to", e.NewState) }).
		Build()
	breaker.Open()
	fmt.Println(breaker.TryAcquirePermit())
	// Output:
	// closed to open
	// false
}

// A preset prints itself, for a log or a review.
func ExampleFeedOptions() {
	fmt.Println(stream.FeedOptions())
	// Output:
	// feed
	//   WithEndless()
	//   WithGapDetection()
	//   WithIdleTimeout(1m0s)
	//   WithOpenTimeout(20s)
	//   WithStableFor(10s)
}

func ExampleUploadOptions() {
	fmt.Println(stream.UploadOptions())
	// Output:
	// upload
	//   WithReplay(ReplayLimits{Messages: -1, Bytes: 67108864})
	//   WithAckTimeout(1m0s)
	//   WithSendTimeout(30s)
	//   WithOpenTimeout(20s)
	//   WithMaxOutage(10m0s)
	//   WithStableFor(10s)
}

// A team's own bundle, from a preset and what its servers need.
func ExampleOptions() {
	ours := stream.Options(
		stream.FeedOptions(),
		stream.WithIdleTimeout(15*time.Second), // our servers send a heartbeat each 5 s
		stream.WithMaxOutage(time.Hour),
	)
	s, stop, err := numberedFeed(ours)
	defer stop()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	m, err := s.Recv()
	fmt.Println(describe(m), err)
	// Output: number 1 <nil>
}

package stream_test

import (
	"context"
	"fmt"

	"github.com/streamsafe/streamsafe/stream"
)

func ExampleHooks() {
	client, stop := startServer(numbersTo(2, errRestart), numbersTo(4, nil))
	defer stop()

	closed := make(chan struct{})
	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			return r.Send(resumeFrom(r.Position()))
		},
		Checkpoint: position,
	}, stream.WithName("numbers"), stream.WithObserver(stream.Hooks{
		OnDetached: func(info stream.Info, cause error) {
			fmt.Println("attempt", info.Attempt, "of", info.Name, "is lost:", cause)
		},
		OnClosed: func(stream.Info, error) { close(closed) },
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for err == nil {
		_, err = s.Recv()
	}
	<-closed // observers have a goroutine of their own
	// Output:
	// attempt 1 of numbers is lost: rpc error: code = Unavailable desc = the server restarts
}

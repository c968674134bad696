package stream_test

import (
	"context"
	"fmt"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// observer prints what happens to a stream. The lines below make the compiler check the names of its methods.
type observer struct{ closed chan struct{} }

var (
	_ stream.AttachedObserver = observer{}
	_ stream.DetachedObserver = observer{}
	_ stream.ClosedObserver   = observer{}
)

func (o observer) OnAttached(info stream.Info, from checkpoint.Position) {
	fmt.Println("attempt", info.Attempt, "starts after number", from.Seq)
}

func (o observer) OnDetached(info stream.Info, cause error) {
	fmt.Println("attempt", info.Attempt, "is lost:", cause)
}

func (o observer) OnClosed(_ stream.Info, cause error) {
	fmt.Println("closed:", cause)
	close(o.closed)
}

func ExampleWithObserver() {
	client, stop := startServer(numbersTo(2, errRestart), numbersTo(4, nil))
	defer stop()

	o := observer{closed: make(chan struct{})}
	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			return r.Send(resumeFrom(r.Position()))
		},
		Checkpoint: position,
	}, stream.WithObserver(o))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for err == nil {
		_, err = s.Recv()
	}
	<-o.closed // observers have a goroutine of their own
	// Output:
	// attempt 1 starts after number 0
	// attempt 1 is lost: rpc error: code = Unavailable desc = the server restarts
	// attempt 2 starts after number 2
	// closed: EOF
}

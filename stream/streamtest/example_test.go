package streamtest_test

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// A proxy before a server that listens somewhere. The second connection is not touched.
func ExampleNewProxy() {
	proxy, err := streamtest.NewProxy("", streamtest.WithDelay(time.Millisecond))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = proxy.Close() }()
	proxy.Arm(streamtest.Fault{Kind: streamtest.RST, Direction: streamtest.ToClient, Message: 3, Where: streamtest.Before})

	listener, err := proxy.Listen() // or NewProxy("127.0.0.1:50051") for a server that is there
	if err != nil {
		fmt.Println(err)
		return
	}
	server := grpc.NewServer()
	defer server.Stop()
	testpb.RegisterTestServiceServer(server, echo{})
	go func() { _ = server.Serve(listener) }()

	conn, err := proxy.Client()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	s, err := testpb.NewTestServiceClient(conn).FullDuplexCall(context.Background())
	got := 0
	for err == nil {
		if err = s.Send(&request{}); err == nil {
			_, err = s.Recv()
		}
		if err == nil {
			got++
		}
	}
	fmt.Println(got, "messages, then", proxy.Report().Cuts[0])
	// Output: 2 messages, then RST before response 3
}

// Places for faults: messages, bytes, times.
func ExampleFault() {
	n := streamtest.NewNetwork()
	defer func() { _ = n.Close() }()
	n.Arm(
		streamtest.Fault{Kind: streamtest.RST, Direction: streamtest.ToClient, Message: 3, Where: streamtest.After},
		streamtest.Fault{Kind: streamtest.BlackHole, Bytes: 1 << 20, For: time.Minute},
		streamtest.Fault{Kind: streamtest.Refusal, Time: 10 * time.Second, For: time.Second},
	)
	n.Chaos(streamtest.Chaos{Seed: 1, Messages: 50})
	n.Cut(streamtest.FIN)
	fmt.Println(n.Report())
	// Output: connections 0, refused 0, live 0; to server 0 messages, 0 bytes; to client 0 messages, 0 bytes; faults 0
}

// Each end notes what it has sent and got.
func ExampleJournal() {
	requests := &streamtest.Journal[string]{}
	requests.Sent("one")
	requests.Sent("two")
	requests.Got("one")
	requests.Got("one")
	fmt.Println(requests.Check())
	fmt.Println(requests.CheckNothingLost())
	requests.Got("two")
	fmt.Println(requests.CheckNothingLost(), requests.MaxInFlight())
	// Output:
	// lost "two"; twice "one"
	// lost "two"
	// <nil> 2
}

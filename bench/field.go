package bench

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/streamsafe/streamsafe/stream"
)

// Field is what is compared with each other: variants that do the same workloads, each on a server and a connection of its own.
type Field struct {
	Name      string
	Variants  []string // the first is what the others are compared with
	Workloads []Workload

	options func(variant string) (Client, []grpc.ServerOption, []grpc.DialOption)
}

// Open opens a session of a variant, with payloads of size bytes. It has a server of its own.
func (f Field) Open(ctx context.Context, variant string, size int) (*Session, error) {
	client, serverOptions, dialOptions := f.options(variant)
	server, err := NewServer(serverOptions...)
	if err != nil {
		return nil, err
	}
	s, err := Open(ctx, server, client, size, dialOptions...)
	if err != nil {
		server.Close()
		return nil, err
	}
	s.server = server
	return s, nil
}

// Fields returns all of them: the kinds of clients, the kinds of servers, and connections without and with
// stream.DialOptions.
func Fields() []Field {
	return []Field{clientField(), hostField(), dialField()}
}

func clientField() Field {
	f := Field{Name: "client", Workloads: Workloads()}
	for _, c := range Clients() {
		f.Variants = append(f.Variants, string(c))
	}
	f.options = func(variant string) (Client, []grpc.ServerOption, []grpc.DialOption) {
		return Client(variant), nil, nil
	}
	return f
}

func hostField() Field {
	f := Field{Name: "server", Workloads: []Workload{
		{Name: "ServerRecv", Run: (*Session).Send},
		{Name: "ServerSend", Run: (*Session).Recv},
	}}
	for _, h := range Hosts() {
		f.Variants = append(f.Variants, string(h))
	}
	f.options = func(variant string) (Client, []grpc.ServerOption, []grpc.DialOption) {
		return Bare, interceptorOf(Host(variant)), nil
	}
	return f
}

// interceptorOf returns the options of a server of kind h.
func interceptorOf(h Host) []grpc.ServerOption {
	if h == HostBare {
		return nil
	}
	return []grpc.ServerOption{grpc.StreamInterceptor(stream.ServerInterceptor(serverOptions(h)...))}
}

func dialField() Field {
	const plain, dialled = "grpc.NewClient", "stream.DialOptions"
	return Field{
		Name: "connection", Variants: []string{plain, dialled},
		Workloads: []Workload{
			{Name: "DialledRecv", Run: (*Session).Recv},
			{Name: "DialledSend", Run: (*Session).Send},
			{Name: "DialledStream", Run: (*Session).NewStreams},
		},
		options: func(variant string) (Client, []grpc.ServerOption, []grpc.DialOption) {
			if variant == plain {
				return Bare, nil, nil
			}
			return Bare, nil, stream.DialOptions(insecure.NewCredentials())
		},
	}
}

// NewStreams opens n streams on the session's connection, one after the other. Each sends a message, receives the answer, and ends.
func (s *Session) NewStreams(n int) error {
	for range n {
		ctx, cancel := context.WithCancel(context.Background())
		err := s.roundTrip(ctx)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

var errNoEnd = errors.New("the stream has not ended after its only answer")

func (s *Session) roundTrip(ctx context.Context) error {
	opened, err := s.open(ctx)
	if err != nil {
		return err
	}
	if err := opened.Send(newRequest(askAnswer, 0, s.size)); err != nil {
		return err
	}
	if _, err := opened.Recv(); err != nil {
		return err
	}
	if err := opened.CloseSend(); err != nil {
		return err
	}
	if _, err := opened.Recv(); err == nil {
		return errNoEnd
	}
	return nil
}

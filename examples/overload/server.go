package main

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// service does what many servers do: a call queues for a worker, and nobody asks whether its caller is still there.
type service struct {
	testpb.UnimplementedTestServiceServer
	workers chan struct{} // holds one for each worker that is busy
	work    time.Duration
	stopped chan struct{} // closed when the flood is over

	done, inVain atomic.Int64
}

// UnaryCall keeps a worker busy.
func (s *service) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	select {
	case s.workers <- struct{}{}:
	case <-s.stopped:
		return nil, status.Error(codes.Unavailable, "the flood is over")
	}
	defer func() { <-s.workers }()
	time.Sleep(s.work)
	s.done.Add(1)
	if ctx.Err() != nil {
		s.inVain.Add(1)
	}
	return &testpb.SimpleResponse{}, nil
}

// serve starts a server. stop waits for its handlers.
func serve(ctx context.Context, s settings, opts ...grpc.ServerOption) (sv *service, address string, stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	sv = &service{workers: make(chan struct{}, s.workers), work: s.work, stopped: make(chan struct{})}
	server := grpc.NewServer(append(opts, grpc.WaitForHandlers(true))...)
	testpb.RegisterTestServiceServer(server, sv)
	ended := make(chan struct{})
	go func() { // ends with server.Stop; stop waits for it
		defer close(ended)
		_ = server.Serve(listener) // only ever that it was stopped
	}()
	return sv, listener.Addr().String(), func() {
		close(sv.stopped)
		server.Stop()
		<-ended
	}, nil
}

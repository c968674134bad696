package stream_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
)

// tooOften is how often a call on one gRPC stream may fail. A test in which it fails for ever would last as long as the
// timeout of all tests: the time of its bubble stands still.
const tooOften = 1000

// noSpinning is an interceptor that ends the test, and the goroutine, if that asks a dead stream again and again.
func noSpinning(t *testing.T) grpc.DialOption {
	t.Helper()
	return grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
		next grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		s, err := next(ctx, desc, conn, method, opts...)
		if err != nil {
			return nil, err
		}
		return &countingStream{ClientStream: s, t: t}, nil
	})
}

// countingStream counts what fails on it.
type countingStream struct {
	grpc.ClientStream
	t            *testing.T
	recvs, sends atomic.Int64
}

func (s *countingStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		giveUpAfter(s.t, &s.recvs, "RecvMsg")
	}
	return err
}

func (s *countingStream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if err != nil {
		giveUpAfter(s.t, &s.sends, "SendMsg")
	}
	return err
}

// giveUpAfter ends the goroutine if the call has failed too often.
func giveUpAfter(t *testing.T, calls *atomic.Int64, name string) {
	t.Helper()
	if calls.Add(1) > tooOften {
		t.Errorf("%s has failed on one stream %d times: it is called again and again", name, tooOften)
		runtime.Goexit()
	}
}

package stream_test

import (
	"context"
	"runtime"
	"time"

	"google.golang.org/grpc"
)

type ownContext struct {
	grpc.ClientStream
	ctx context.Context
}

func (s ownContext) Context() context.Context { return s.ctx }

// opensWith asks check before each call is opened, counted from 1.
func opensWith(check func(call int) error) grpc.StreamClientInterceptor {
	call := 0 // opens come one after the other
	return func(
		ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer,
		opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		call++
		if err := check(call); err != nil {
			return nil, err
		}
		return streamer(ctx, desc, conn, method, opts...)
	}
}

// slow is a SendMsg that takes its time to log an error, so that Recv hears of it before Send does.
func slow(m any, next func(any) error) error {
	err := next(m)
	if err != nil {
		time.Sleep(time.Millisecond)
	}
	return err
}

// tooLate is an interceptor that may refuse a message after it was sent.
func tooLate(refuse func(frame) error) grpc.DialOption {
	return grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
		if err := next(m); err != nil {
			return err
		}
		return refuse(frameOf(asRequest(m)))
	}))
}

// wrapped makes an interceptor of what it does to each stream.
func wrapped(wrap func(context.Context, grpc.ClientStream) grpc.ClientStream) grpc.DialOption {
	return grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
		next grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		s, err := next(ctx, desc, conn, method, opts...)
		if err != nil {
			return nil, err
		}
		return wrap(ctx, s), nil
	})
}

type exitsInCloseSend struct{ grpc.ClientStream }

func (exitsInCloseSend) CloseSend() error { runtime.Goexit(); return nil }

// sendingStream has a SendMsg of its own.
type sendingStream struct {
	grpc.ClientStream
	send func(m any, next func(any) error) error
}

func (s sendingStream) SendMsg(m any) error { return s.send(m, s.ClientStream.SendMsg) }

// sendingWith gives each call's stream that SendMsg.
func sendingWith(send func(m any, next func(any) error) error) grpc.StreamClientInterceptor {
	return func(
		ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer,
		opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		s, err := streamer(ctx, desc, conn, method, opts...)
		if err != nil {
			return nil, err
		}
		return sendingStream{s, send}, nil
	}
}

// asRequest is m, which is a request.
func asRequest(m any) *request {
	r, _ := m.(*request)
	return r
}

package stream_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// exits is a Resume that ends its goroutine, as t.FailNow does.
func exits(context.Context, *resumption) error {
	runtime.Goexit()
	return nil
}

// errLastWord is what a server says that is not to be asked again.
var errLastWord = status.Error(codes.InvalidArgument, "the server's last word")

// acking are callbacks that know acknowledgements, too, and no handshake.
func acking() callbacks {
	cb := positions()
	cb.Acked = (&feed{}).callbacks().Acked
	return cb
}

var errCompacted = status.Error(codes.OutOfRange, "compacted")

// phases are where a server can say that the position is gone. lose makes it say so on the second attempt.
func phases() map[string]func(lose error) (handlers []func(bidi) error, resume func(context.Context, *resumption) error, dial []grpc.DialOption) {
	type handlers = []func(bidi) error
	type resume = func(context.Context, *resumption) error
	return map[string]func(error) (handlers, resume, []grpc.DialOption){
		"open": func(lose error) (handlers, resume, []grpc.DialOption) {
			n := 0
			return handlers{sends(errGone, numbered(1)...), sends(nil, numbered(1, 2)...)}, nil, []grpc.DialOption{
				grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
					streamer grpc.Streamer, opts ...grpc.CallOption,
				) (grpc.ClientStream, error) {
					if n++; n == 2 {
						return nil, lose
					}
					return streamer(ctx, desc, cc, method, opts...)
				}),
			}
		},
		"Resume": func(lose error) (handlers, resume, []grpc.DialOption) {
			return handlers{sends(errGone, numbered(1)...), stays(), sends(nil, numbered(1, 2)...)},
				func(_ context.Context, r *resumption) error {
					if r.Attempt() == 2 {
						return fmt.Errorf("handshake: %w", lose)
					}
					return nil
				}, nil
		},
		"the handshake": func(lose error) (handlers, resume, []grpc.DialOption) {
			return handlers{sends(errGone, numbered(1)...), sends(lose), sends(nil, numbered(1, 2)...)},
				func(_ context.Context, r *resumption) error {
					if r.Attempt() == 2 {
						if _, err := r.Recv(); err != nil {
							return errors.New("handshake failed") // what Recv said counts
						}
					}
					return nil
				}, nil
		},
		"mid-stream": func(lose error) (handlers, resume, []grpc.DialOption) {
			return handlers{sends(errGone, numbered(1)...), sends(lose), sends(nil, numbered(1, 2)...)}, nil, nil
		},
		"a message": func(error) (handlers, resume, []grpc.DialOption) {
			return handlers{sends(errGone, numbered(1)...), stays(frame{kind: failure}), sends(nil, numbered(1, 2)...)}, nil, nil
		},
	}
}

// tells returns an Err callback to which a failure message says err.
func tells(err error) func(*response) error {
	return func(m *response) error {
		if frameOf(m).kind == failure {
			return err
		}
		return nil
	}
}

func isError(_ any, err error) bool { return err != nil }

// froms are the positions that the attempts of a stream were told to start from.
type froms []checkpoint.Position

func (f *froms) resume(next func(context.Context, *resumption) error) func(context.Context, *resumption) error {
	return func(ctx context.Context, r *resumption) error {
		*f = append(*f, r.Position())
		if next == nil {
			return nil
		}
		return next(ctx, r)
	}
}

func at(seq uint64) checkpoint.Position { return checkpoint.Position{Seq: seq} }

// errTaken is a server's last word about an open: there is one already.
var errTaken = status.Error(codes.AlreadyExists, "you are connecting")

// resumes are callbacks that know positions, with a Resume.
func resumes(resume func(context.Context, *resumption) error) callbacks {
	cb := positions()
	cb.Resume = resume
	return cb
}

// hangs is a Resume that waits for its end.
func hangs(ctx context.Context, _ *resumption) error {
	<-ctx.Done()
	return ctx.Err()
}

// takes waits for d, and returns err; or ctx is done before that.
func takes(ctx context.Context, d time.Duration, err error) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// never is a condition of policies that does not hold.
func never(any, error) bool { return false }

// errGone is what a server says that is going away: it may be resumed.
var errGone = status.Error(codes.Unavailable, "going away")

// positions are callbacks that know positions and protocol messages. The server knows by itself where to go on.
func positions() callbacks {
	cb := (&feed{}).callbacks()
	return callbacks{
		Checkpoint: cb.Checkpoint, Control: cb.Control,
		Resume: saysNothing,
	}
}

// greets returns a Resume that tells the server the position, in a hello, and waits for no answer.
func greets(_ context.Context, r *resumption) error {
	return r.Send(frame{kind: hello, seq: r.Position().Seq}.request())
}

// delivers returns a Resume that receives n messages and gives them to Deliver.
func delivers(n int) func(context.Context, *resumption) error {
	return func(_ context.Context, r *resumption) error {
		for range n {
			m, err := r.Recv()
			if err != nil {
				return err
			}
			r.Deliver(m)
		}
		return nil
	}
}

package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 33: first who made an error, then its code, in every phase alike.

// withinASecond opens each attempt with a deadline of its own. The contexts are released with the stream.
func withinASecond(w *world) func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[request, response], error) {
	return func(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[request, response], error) {
		limited, cancel := context.WithTimeout(ctx, time.Second)
		context.AfterFunc(ctx, cancel)
		return testpb.NewTestServiceClient(w.conn).FullDuplexCall(limited, opts...)
	}
}

// tardy is a handler that takes a minute to see that its context has ended.
func tardy(s bidi) error {
	<-s.Context().Done()
	time.Sleep(time.Minute)
	return status.FromContextError(s.Context().Err()).Err()
}

// A deadline that open gives each attempt is a limit for that attempt, whichever end is the first to see it pass.
func TestADeadlineOfEachAttempt(t *testing.T) {
	t.Parallel()
	early := func(d time.Duration, err error) func(bidi) error {
		return func(s bidi) error {
			if err := s.Send(frame{kind: hello}.response()); err != nil {
				return err
			}
			return lasts(d, err)(s)
		}
	}
	past := status.Error(codes.DeadlineExceeded, "context deadline exceeded")
	for name, handler := range map[string]func(bidi) error{
		"both at once": stays(frame{kind: hello}), "the client": tardy,
		"the server, just before": early(999*time.Millisecond, past), "the server's fast clock": early(600*time.Millisecond, past),
		"the server, CANCELLED": early(999*time.Millisecond, status.Error(codes.Canceled, "context canceled")),
	} {
		for phase, cb := range map[string]callbacks{"in mid-stream": acking(), "in Resume": resumes(delivers(2))} {
			t.Run(name+", "+phase, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := scripted(t, handler)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					var attempts atomic.Int32
					open := withinASecond(w)
					s, err := stream.Resilient(ctx, func(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[request, response], error) {
						if attempts.Add(1) > 40 {
							cancel()
						}
						return open(ctx, opts...)
					}, cb, stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithDelay(time.Second).Build()))
					if err == nil {
						err = drain(s)
					}
					requireReason(t, err, stream.ReasonContext, "the test has seen enough")
					rest(2 * time.Minute) // for the handlers that take their time
					require.Greater(t, attempts.Load(), int32(40), "attempts: each is resumed")
				})
			})
		}
	}
}

// The same while there is no server, and grpc waits for one.
func TestADeadlineOfEachAttemptWithoutAServer(t *testing.T) {
	t.Parallel()
	for _, attached := range []bool{false, true} {
		t.Run(fmt.Sprintf("attached before: %v", attached), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, lasts(500*time.Millisecond, errGone, numbered(1)...))
				gone := func() { w.Refuse(true); w.Cut(testnet.RST) }
				if !attached {
					gone()
				}
				time.AfterFunc(10*time.Minute, func() { w.Refuse(false) })
				s, err := stream.Resilient(t.Context(), withinASecond(w), acking(), stream.WithCallOptions(grpc.WaitForReady(true)),
					stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithDelay(10*time.Second).Build()))
				require.NoError(t, err, "after ten minutes there is a server")
				mustReceive(t, s, 1)
				ended := receiving(s)
				if attached {
					gone()
					rest(11 * time.Minute)
				}
				require.GreaterOrEqual(t, s.Stats().Attempts, uint64(40))
				goesOn(t, ended)
				require.NoError(t, s.Close())
			})
		})
	}
}

// An open may also cancel its own context when it has waited long enough.
func TestAnOpenThatCancelsItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1)...))
		w.Refuse(true)
		time.AfterFunc(10*time.Minute, func() { w.Refuse(false) })
		s, err := stream.Resilient(t.Context(),
			func(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[request, response], error) {
				ctx, cancel := context.WithCancel(ctx)
				defer time.AfterFunc(time.Second, cancel).Stop()
				return testpb.NewTestServiceClient(w.conn).FullDuplexCall(ctx, opts...)
			}, acking(), stream.WithCallOptions(grpc.WaitForReady(true)))
		require.NoError(t, err, "after ten minutes there is a server")
		mustReceive(t, s, 1)
		require.Greater(t, s.Stats().Attempts, uint64(40))
		require.NoError(t, s.Close())
	})
}

// The caller's own deadline is the end, with ReasonContext, whichever end is the first to see it pass.
func TestTheCallersOwnDeadline(t *testing.T) {
	t.Parallel()
	past := status.Error(codes.DeadlineExceeded, "context deadline exceeded")
	for name, handler := range map[string]func(bidi) error{
		"both at once": stays(numbered(1)...), "the client": tardy,
		"the server, just before": lasts(9999*time.Millisecond, past, numbered(1)...), "the server's fast clock": lasts(9200*time.Millisecond, past, numbered(1)...),
	} {
		for _, limited := range []bool{false, true} { // open has a limit of its own, too, which is longer
			t.Run(fmt.Sprintf("%s, limited %v", name, limited), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := scripted(t, handler)
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					s, err := stream.Resilient(ctx, func(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[request, response], error) {
						if limited {
							var cancel func()
							ctx, cancel = context.WithTimeout(ctx, time.Minute)
							context.AfterFunc(ctx, cancel)
						}
						return testpb.NewTestServiceClient(w.conn).FullDuplexCall(ctx, opts...)
					}, acking())
					require.NoError(t, err)
					err = drain(s)
					wantEnd(t, err, stream.ReasonContext, codes.DeadlineExceeded, "Recv")
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.Equal(t, uint64(1), s.Stats().Attempts)
					rest(2 * time.Minute)
				})
			})
		}
	}
	t.Run("a server's DEADLINE_EXCEEDED long before is its last word", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, lasts(5*time.Second, past, numbered(1)...))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			s, err := w.dial(ctx, acking())
			require.NoError(t, err)
			wantEnd(t, drain(s), stream.ReasonServer, codes.DeadlineExceeded, "Recv")
		})
	})
}

// receivingStream has a RecvMsg of its own.
type receivingStream struct {
	grpc.ClientStream
	received func(error) error
}

func (s receivingStream) RecvMsg(m any) error { return s.received(s.ClientStream.RecvMsg(m)) }

// An interceptor may say in its own words that RecvMsg has failed.
func TestAnInterceptorThatRewordsALoss(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]error{
		"its context's end": context.Canceled, "its deadline": context.DeadlineExceeded, "a plain error": errors.New("the audit log is full"),
		"wrapped": fmt.Errorf("audit: %w", context.Canceled), "unexpected EOF": io.ErrUnexpectedEOF,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &feed{handler: inOrder(stays(numbered(1)...), stays(numbered(2)...))}, grpc.WithStreamInterceptor(
					func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
						s, err := streamer(ctx, desc, conn, method, opts...)
						if err != nil {
							return nil, err
						}
						return receivingStream{s, func(err error) error {
							if err != nil {
								return says
							}
							return nil
						}}, nil
					}))
				s := w.mustDial(acking(), withReplay())
				mustReceive(t, s, 1)
				ended := receiving(s)
				w.Cut(testnet.RST)
				rest(time.Minute)
				require.Equal(t, uint64(2), s.Stats().Deliveries, "the stream goes on")
				goesOn(t, ended)
			})
		})
	}
}

// OUT_OF_RANGE is a lost position, unless an option says otherwise.
func TestOutOfRange(t *testing.T) {
	t.Parallel()
	outOfRange := status.Error(codes.OutOfRange, "compacted")
	yes := func(error) bool { return true }
	no := func(err error) bool { return codeOf(err) == codes.Unavailable }
	isNever := func(error) bool { return false }
	tests := map[string]struct {
		opts   []stream.ClientOption
		reason stream.Reason // unknown: resumed
	}{
		"by default":                      {nil, stream.ReasonPositionLost},
		"WithResumable says yes":          {[]stream.ClientOption{stream.WithResumable(yes)}, stream.ReasonUnknown},
		"WithResumable says no":           {[]stream.ClientOption{stream.WithResumable(no)}, stream.ReasonPositionLost},
		"WithResumable asks Resumable":    {[]stream.ClientOption{stream.WithResumable(stream.Resumable)}, stream.ReasonPositionLost},
		"WithAlsoResumable":               {[]stream.ClientOption{stream.WithAlsoResumable(codes.OutOfRange)}, stream.ReasonUnknown},
		"WithAlsoResumable of others":     {[]stream.ClientOption{stream.WithAlsoResumable(codes.NotFound)}, stream.ReasonPositionLost},
		"WithPositionLost says no":        {[]stream.ClientOption{stream.WithPositionLost(isNever)}, stream.ReasonServer},
		"WithPositionLost, and resumable": {[]stream.ClientOption{stream.WithPositionLost(isNever), stream.WithResumable(yes)}, stream.ReasonUnknown},
		"WithPositionLost beats both": {[]stream.ClientOption{
			stream.WithPositionLost(yes), stream.WithResumable(yes), stream.WithAlsoResumable(codes.OutOfRange),
		}, stream.ReasonPositionLost},
	}
	phases := map[string]func() ([]func(bidi) error, callbacks){
		"in mid-stream": func() ([]func(bidi) error, callbacks) {
			return []func(bidi) error{sends(outOfRange, numbered(1)...), stays(numbered(2)...)}, acking()
		},
		"in Resume": func() ([]func(bidi) error, callbacks) {
			cb := acking()
			cb.Resume = func(_ context.Context, r *resumption) error {
				if r.Attempt() == 1 {
					return nil
				}
				_, err := r.Recv()
				return err
			}
			return []func(bidi) error{sends(errGone, numbered(1)...), sends(outOfRange), stays(numbered(2, 2)...)}, cb
		},
		"in a message": func() ([]func(bidi) error, callbacks) {
			cb := acking()
			cb.Err = func(m *response) error {
				if frameOf(m).kind == failure {
					return outOfRange
				}
				return nil
			}
			return []func(bidi) error{stays(append(numbered(1), frame{kind: failure})...), stays(numbered(2)...)}, cb
		},
	}
	for phase, script := range phases {
		for name, test := range tests {
			t.Run(phase+", "+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					handlers, cb := script()
					s := scripted(t, handlers...).mustDial(cb, test.opts...)
					mustReceive(t, s, 1)
					ended := receiving(s)
					rest(time.Minute)
					if test.reason == stream.ReasonUnknown {
						if phase != "in Resume" {
							require.Equal(t, uint64(2), s.Stats().Deliveries, "resumed")
						}
						goesOn(t, ended)
						return
					}
					wantEnd(t, <-ended, test.reason, codes.OutOfRange, "Recv")
				})
			})
		}
	}
	t.Run("ErrPositionLost is lost, whatever may be resumed", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			cb := resumes(func(_ context.Context, r *resumption) error {
				if r.Attempt() > 1 {
					return stream.ErrPositionLost
				}
				return nil
			})
			asked := false
			cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
				asked = true
				return stream.Recovery{}, nil
			}
			s := scripted(t, sends(errGone, numbered(1)...)).mustDial(cb, stream.WithResumable(yes), stream.WithAlsoResumable(codes.OutOfRange))
			wantEnd(t, drain(s), stream.ReasonPositionLost, codes.OutOfRange, "Recv")
			require.True(t, asked)
		})
	})
}

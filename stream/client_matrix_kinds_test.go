package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// The matrix of cuts for the three kinds of methods: holding on and off, with and without rotations, with and without policies of the
// application's, for outages and for messages, on streams that were opened by this package and by a stock client through the
// interceptor.

// matrixed is how many messages go one way in the matrices of all faults, or of one cut. fewer is that of the others.
const (
	matrixed = 12
	fewer    = 6
)

// matrixMode is how the streams of a matrix are used.
type matrixMode struct {
	name    string
	options func() []stream.ClientOption // made anew for each run: policies have a state, which belongs to one bubble
	rotates bool                         // often, while a server takes its time
	few     bool                         // one kind of fault is enough, and fewer messages
	stock   bool                         // for stock clients, too
}

func matrixModes() []matrixMode {
	breaks := func() []stream.ClientOption {
		return []stream.ClientOption{stream.WithStreamPolicies(
			stream.NewRetryPolicyBuilder().WithMaxRetries(5).WithBackoff(10*time.Millisecond, time.Second).Build(),
			circuitbreaker.NewBuilder[any]().WithFailureThreshold(20).Build(),
		)}
	}
	messages := func(more ...failsafe.Policy[any]) func() []stream.ClientOption {
		policies := func() []failsafe.Policy[any] {
			return append(more[:len(more):len(more)],
				circuitbreaker.NewBuilder[any]().WithFailureThreshold(1000).Build(), bulkhead.New[any](1),
				ratelimiter.NewSmoothBuilderWithMaxRate[any](time.Millisecond).WithMaxWaitTime(time.Minute).Build())
		}
		return func() []stream.ClientOption {
			return []stream.ClientOption{stream.WithSendPolicies(policies()...), stream.WithRecvPolicies(policies()...)}
		}
	}
	ages := func(opts func() []stream.ClientOption) func() []stream.ClientOption {
		return func() []stream.ClientOption {
			return append(opts(), stream.WithMaxAge(40*time.Millisecond, 20*time.Millisecond), stream.WithGrace(time.Second))
		}
	}
	none := func() []stream.ClientOption { return nil }
	return []matrixMode{
		{name: "default policy", options: none, stock: true},
		{name: "retry and breaker", options: breaks, few: true}, // limited retries do not survive a server that is away
		{name: "policies for messages", options: messages(), few: true},
		{name: "policies for messages, executor", options: messages(timeout.New[any](time.Minute)), few: true},
		{name: "rotation", options: ages(none), rotates: true, few: true},
		{name: "rotation, policies for messages", options: ages(messages()), rotates: true, few: true, stock: true},
	}
}

// cutOptions are the faults of the mode, and the pace of its server.
func (m matrixMode) cutOptions() []streamtest.CutOption {
	opts := []streamtest.CutOption{streamtest.WithKinds()} // all
	if m.few {
		opts = []streamtest.CutOption{streamtest.WithKinds(streamtest.RST)}
	}
	if m.rotates {
		opts = append(opts, streamtest.WithServerOptions(grpc.StreamInterceptor(
			func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				return handler(srv, &pacedStream{s})
			})))
	}
	return opts
}

// pacedStream takes its time for each message.
type pacedStream struct{ grpc.ServerStream }

func (s *pacedStream) SendMsg(m any) error {
	time.Sleep(30 * time.Millisecond)
	return s.ServerStream.SendMsg(m)
}

func (s *pacedStream) RecvMsg(m any) error {
	time.Sleep(30 * time.Millisecond)
	return s.ServerStream.RecvMsg(m)
}

// stockConn is a connection with an interceptor of this package.
type stockConn struct {
	grpc.ClientConnInterface
	intercept grpc.StreamClientInterceptor
}

// stockOn returns a stock client on cc.
func stockOn(cc grpc.ClientConnInterface, method stream.InterceptorOption) testpb.TestServiceClient {
	return testpb.NewTestServiceClient(&stockConn{cc, stream.ClientInterceptor(method)})
}

func (c *stockConn) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	conn, ok := c.ClientConnInterface.(*grpc.ClientConn)
	if !ok {
		return nil, fmt.Errorf("the connection is a %T", c.ClientConnInterface)
	}
	return c.intercept(ctx, desc, conn, method,
		func(ctx context.Context, desc *grpc.StreamDesc, _ *grpc.ClientConn, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return conn.NewStream(ctx, desc, method, opts...)
		}, opts...)
}

// matrixRun is one matrix: a mode, on streams of this package, or on those of a stock client. Its runs come one after the other.
type matrixRun struct {
	matrixMode
	stock     bool   // in place of the mode's
	messages  uint64 // one way
	rotations uint64 // of streams of this package, in all runs
}

// eachMode cuts a scenario everywhere, in each mode.
func eachMode(t *testing.T, scenario func(*matrixRun) streamtest.Scenario) {
	t.Helper()
	for _, mode := range matrixModes() {
		for _, stock := range []bool{false, true} {
			if stock && !mode.stock {
				continue
			}
			t.Run(fmt.Sprintf("%s, stock client %v", mode.name, stock), func(t *testing.T) {
				t.Parallel()
				r := &matrixRun{matrixMode: mode, stock: stock, messages: matrixed}
				if r.few = r.few || stock; r.few {
					r.messages = fewer
				}
				streamtest.CutEverywhere(t, scenario(r), r.cutOptions()...)
				require.Equal(t, mode.rotates && !stock, r.rotations > 0, "rotations")
			})
		}
	}
}

// ended is the end of a run on a stream of this package, if s is one.
func (r *matrixRun) ended(s any) error {
	own, ok := s.(interface {
		Stats() stream.Stats
		io.Closer
	})
	if !ok || r.stock {
		return nil
	}
	r.rotations += own.Stats().Rotations
	return own.Close()
}

func TestMatrixOfServerStreaming(t *testing.T) {
	t.Parallel()
	for _, holding := range []bool{false, true} {
		wants, hold := upTo, []stream.ClientOption(nil)
		if holding {
			wants, hold = wholeUnits, []stream.ClientOption{stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail)}
		}
		t.Run(fmt.Sprintf("holding %v", holding), func(t *testing.T) {
			t.Parallel()
			eachMode(t, func(r *matrixRun) streamtest.Scenario {
				var h *warehouse
				return streamtest.Scenario{
					Serve: func(s *grpc.Server) {
						h = &warehouse{total: r.messages, units: holding}
						testpb.RegisterTestServiceServer(s, h)
					},
					Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
						s, err := r.download(ctx, cc, append(r.options(), hold...))
						if err != nil {
							return err
						}
						got, err := useDownload(s)
						if !errors.Is(err, io.EOF) {
							return err
						}
						return errors.Join(streamtest.Same(wants(r.messages), got), h.notRising(), r.ended(s))
					},
				}
			})
		})
	}
}

func (r *matrixRun) download(
	ctx context.Context, cc grpc.ClientConnInterface, opts []stream.ClientOption,
) (grpc.ServerStreamingClient[response], error) {
	if r.stock {
		return stockOn(cc, stream.ForMethod(outputCall, asksAgain(), opts...)).StreamingOutputCall(ctx, frame{kind: hello}.request())
	}
	return stream.ResilientServerStreaming(ctx, testpb.NewTestServiceClient(cc).StreamingOutputCall, ask, downloads(), opts...)
}

func TestMatrixOfClientStreaming(t *testing.T) {
	t.Parallel()
	for _, asking := range []bool{false, true} {
		t.Run(fmt.Sprintf("Resume asks %v", asking), func(t *testing.T) {
			t.Parallel()
			eachMode(t, func(r *matrixRun) streamtest.Scenario {
				var h *warehouse
				return streamtest.Scenario{
					Serve: func(s *grpc.Server) {
						h = &warehouse{}
						testpb.RegisterTestServiceServer(s, h)
					},
					Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
						var cb uploads
						if asking {
							cb.Resume = h.asks
						}
						s, err := r.upload(ctx, cc, cb, append(r.options(), withReplay()))
						if err != nil {
							return err
						}
						return errors.Join(uploaded(s, h, r.messages), r.ended(s))
					},
				}
			})
		})
	}
}

func (r *matrixRun) upload(
	ctx context.Context, cc grpc.ClientConnInterface, cb uploads, opts []stream.ClientOption,
) (grpc.ClientStreamingClient[uploadPart, answer], error) {
	if r.stock {
		return stockOn(cc, stream.ForMethod(inputCall, cb, opts...)).StreamingInputCall(ctx)
	}
	return stream.ResilientClientStreaming(ctx, testpb.NewTestServiceClient(cc).StreamingInputCall, cb, opts...)
}

// uploaded uploads, and says what is wrong then.
func uploaded(s grpc.ClientStreamingClient[uploadPart, answer], h *warehouse, n uint64) error {
	stored, err := upload(s, n)
	switch {
	case err != nil:
		return err
	case stored != n:
		return fmt.Errorf("the answer is that the server has %d", stored)
	}
	if own, ok := s.(*uploader); ok {
		if kept := own.Stats().Unacked; kept > 0 {
			return fmt.Errorf("%d messages are still kept", kept)
		}
		if _, err = own.Recv(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("after the answer: %w", err)
		}
	}
	return h.wrongUploads(n)
}

// Both ways at once. See client_matrix_test.go, too.
func TestMatrixOfBidi(t *testing.T) {
	t.Parallel()
	for _, holding := range []bool{false, true} {
		opts := []stream.ClientOption{withReplay()}
		if holding {
			opts = append(opts, stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
		}
		t.Run(fmt.Sprintf("holding %v", holding), func(t *testing.T) {
			t.Parallel()
			eachMode(t, func(r *matrixRun) streamtest.Scenario {
				var f *feed
				var j *journal
				return streamtest.Scenario{
					Serve: func(s *grpc.Server) {
						f, j = journaled(r.messages)()
						j.overlaps = r.rotates
						testpb.RegisterTestServiceServer(s, f)
					},
					Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
						s, err := r.exchange(ctx, cc, f.callbacks(), append(r.options(), opts...))
						if err != nil {
							return err
						}
						return errors.Join(conversed(s, j, r.messages), r.ended(s))
					},
				}
			})
		})
	}
}

func (r *matrixRun) exchange(
	ctx context.Context, cc grpc.ClientConnInterface, cb callbacks, opts []stream.ClientOption,
) (grpc.BidiStreamingClient[request, response], error) {
	if r.stock {
		return stockOn(cc, stream.ForMethod(duplexCall, cb, opts...)).FullDuplexCall(ctx)
	}
	return stream.Resilient(ctx, testpb.NewTestServiceClient(cc).FullDuplexCall, cb, opts...)
}

// everywhere runs f with a fault at each of so many messages in a direction, in every way.
func everywhere(t *testing.T, name string, messages map[testnet.Direction]int, f func(t *testing.T, fault testnet.Fault)) {
	t.Helper()
	for _, direction := range []testnet.Direction{testnet.ToServer, testnet.ToClient} {
		for _, fault := range cutPlaces() {
			fault.Direction = direction
			t.Run(fmt.Sprintf("%s, %v %v %v", name, fault.Kind, fault.Where, direction), func(t *testing.T) {
				t.Parallel()
				for fault.Message = 1; fault.Message <= messages[direction]; fault.Message++ {
					synctest.Test(t, func(t *testing.T) { f(t, fault) })
				}
			})
		}
	}
}

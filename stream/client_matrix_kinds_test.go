package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// The matrix of cuts for the three kinds of methods, holding on and off, with and without policies of the application's, on
// streams that were opened by this package and by a stock client through the interceptor.

// matrixed is how many messages go one way in these matrices.
const matrixed = 12

// underPolicies are the variants of a stream's policies.
func underPolicies() map[string][]stream.ClientOption {
	return map[string][]stream.ClientOption{
		"default policy": nil,
		"retry and breaker": {stream.WithStreamPolicies(
			stream.NewRetryPolicyBuilder().WithMaxRetries(5).WithBackoff(10*time.Millisecond, time.Second).Build(),
			circuitbreaker.NewBuilder[any]().WithFailureThreshold(20).Build(),
		)},
	}
}

// faultsUnder are the kinds of faults for streams under these policies. Limited retries do not survive a server that is away.
func faultsUnder(policies string) streamtest.CutOption {
	if policies == "default policy" {
		return streamtest.WithKinds() // all
	}
	return streamtest.WithKinds(streamtest.RST)
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

func TestMatrixOfServerStreaming(t *testing.T) {
	t.Parallel()
	for name, opts := range underPolicies() {
		for _, holding := range []bool{false, true} {
			want, opts := upTo(matrixed), opts
			if holding {
				want = wholeUnits(matrixed)
				opts = append(opts[:len(opts):len(opts)], stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
			}
			t.Run(fmt.Sprintf("%s, holding %v", name, holding), func(t *testing.T) {
				t.Parallel()
				var h *warehouse
				streamtest.CutEverywhere(t, streamtest.Scenario{
					Serve: func(s *grpc.Server) {
						h = &warehouse{total: matrixed, units: holding}
						testpb.RegisterTestServiceServer(s, h)
					},
					Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
						s, err := stream.ResilientServerStreaming(
							ctx, testpb.NewTestServiceClient(cc).StreamingOutputCall, ask, downloads(), opts...)
						if err != nil {
							return err
						}
						got, err := receiveAll(s)
						if !errors.Is(err, io.EOF) {
							return err
						}
						return errors.Join(streamtest.Same(want, got), h.notRising(), s.Close())
					},
				}, faultsUnder(name))
			})
		}
	}
}

func TestMatrixOfClientStreaming(t *testing.T) {
	t.Parallel()
	for name, opts := range underPolicies() {
		for _, asking := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, Resume asks %v", name, asking), func(t *testing.T) {
				t.Parallel()
				var h *warehouse
				streamtest.CutEverywhere(t, streamtest.Scenario{
					Serve: func(s *grpc.Server) {
						h = &warehouse{}
						testpb.RegisterTestServiceServer(s, h)
					},
					Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
						var cb uploads
						if asking {
							cb.Resume = h.asks
						}
						s, err := stream.ResilientClientStreaming(
							ctx, testpb.NewTestServiceClient(cc).StreamingInputCall, cb, append(opts[:len(opts):len(opts)], withReplay())...)
						if err != nil {
							return err
						}
						return errors.Join(uploaded(s, h), s.Close())
					},
				}, faultsUnder(name))
			})
		}
	}
}

// uploaded uploads, and says what is wrong then.
func uploaded(s *uploader, h *warehouse) error {
	stored, err := upload(s, matrixed)
	switch {
	case err != nil:
		return err
	case stored != matrixed:
		return fmt.Errorf("the answer is that the server has %d", stored)
	case s.Stats().Unacked > 0:
		return fmt.Errorf("%d messages are still kept", s.Stats().Unacked)
	}
	if _, err = s.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the answer: %w", err)
	}
	return h.wrongUploads(matrixed)
}

// Bidi streams with holding, and with policies. The larger matrix of them is in client_matrix_test.go.
func TestMatrixOfBidi(t *testing.T) {
	t.Parallel()
	for name, opts := range underPolicies() {
		for _, holding := range []bool{false, true} {
			opts := opts
			if !holding && opts == nil {
				continue // TestMatrixOfCuts
			}
			if holding {
				opts = append(opts[:len(opts):len(opts)], stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
			}
			t.Run(fmt.Sprintf("%s, holding %v", name, holding), func(t *testing.T) {
				t.Parallel()
				streamtest.CutEverywhere(t, exchanges(matrixed, journaled(matrixed), opts...), faultsUnder(name))
			})
		}
	}
}

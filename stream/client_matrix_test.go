package stream_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// exchanges is a scenario in which n messages go each way, and n acknowledgements. f makes the server of a run.
func exchanges(n uint64, f func() (*feed, *journal), opts ...stream.ClientOption) streamtest.Scenario {
	var server *feed
	var j *journal
	return streamtest.Scenario{
		Serve: func(s *grpc.Server) {
			server, j = f()
			testpb.RegisterTestServiceServer(s, server)
		},
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			s, err := stream.Resilient(ctx, testpb.NewTestServiceClient(cc).FullDuplexCall, server.callbacks(),
				append(opts[:len(opts):len(opts)], withReplay())...)
			if err != nil {
				return err
			}
			err = conversed(s, j, n)
			return errors.Join(err, s.Close())
		},
	}
}

// journaled makes feeds of n messages.
func journaled(n uint64) func() (*feed, *journal) {
	return func() (*feed, *journal) {
		f := &feed{total: n}
		return f, keepJournal(f)
	}
}

// TestMatrixOfCuts cuts before, inside and after every message, both ways, in every way, and again while the client resumes.
func TestMatrixOfCuts(t *testing.T) {
	t.Parallel()
	const n = 12
	streamtest.CutEverywhere(t, exchanges(n, journaled(n)))
}

// TestMatrixOfStalls has faults that last longer than the time limits of the stream.
func TestMatrixOfStalls(t *testing.T) {
	t.Parallel()
	const n, limit = 12, 2 * time.Second
	streamtest.CutEverywhere(t, exchanges(n, journaled(n),
		stream.WithIdleTimeout(limit), stream.WithSendTimeout(limit), stream.WithOpenTimeout(limit),
	), streamtest.WithKinds(streamtest.BlackHole, streamtest.StallToServer, streamtest.StallToClient), streamtest.WithFaultsFor(7*time.Second))
}

// TestMatrixOfCutsDuringReplay has a server take all messages and acknowledge none. So each message is sent again, and the replay is
// cut everywhere.
func TestMatrixOfCutsDuringReplay(t *testing.T) {
	t.Parallel()
	const n = 12
	streamtest.CutEverywhere(t, exchanges(n, func() (*feed, *journal) {
		f, j := journaled(n)()
		forgetsFirst(f, n)
		return f, j
	}), streamtest.WithKinds(streamtest.RST))
}

// Three cuts, one after the other: of the exchange, of the handshake that follows, and of the next one.
func TestMatrixOfThreeCuts(t *testing.T) {
	t.Parallel()
	for _, direction := range []testnet.Direction{testnet.ToServer, testnet.ToClient} {
		for _, fault := range cutPlaces() {
			fault.Direction, fault.Message, fault.Connection = direction, 1, 2
			t.Run(fault.String(), func(t *testing.T) {
				t.Parallel()
				first := testnet.Fault{Kind: testnet.FIN, Direction: testnet.ToServer, Message: 25, Where: testnet.After}
				third := fault
				third.Connection = 3
				runExchange(t, []testnet.Fault{first, fault, third})
			})
		}
	}
}

// exchanged is how many messages go each way in the matrices.
const exchanged = 50

// cutPlaces are all ways to cut a connection at a message.
func cutPlaces() []testnet.Fault {
	var faults []testnet.Fault
	for _, kind := range []testnet.Kind{testnet.FIN, testnet.RST} {
		for _, where := range []testnet.Where{testnet.Before, testnet.Inside, testnet.After} {
			faults = append(faults, testnet.Fault{Kind: kind, Where: where})
		}
	}
	return append(faults, testnet.Fault{Kind: testnet.Truncate})
}

// runExchange runs an exchange in a bubble of its own under the given faults, each armed when the one before has
// happened. All have to happen.
func runExchange(t *testing.T, faults []testnet.Fault, opts ...stream.ClientOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{total: exchanged}
		j := keepJournal(f)
		w := newWorld(t, f)
		w.ArmInOrder(faults...)
		s := w.mustOpen(append([]stream.ClientOption{withReplay()}, opts...)...)
		converse(t, s, j, exchanged)
		require.Len(t, w.Cuts(), len(faults), "faults that happened, of %v", faults)
	})
}

func TestExchangeWithoutFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{total: 50})
		s := w.mustOpen(stream.WithReplay(stream.ReplayLimits{}))
		got, sendErr, recvErr := exchange(s, 50)
		require.NoError(t, sendErr)
		require.ErrorIs(t, recvErr, io.EOF)
		require.Equal(t, upTo(50), got)
		require.Equal(t, upTo(50), w.feed.stored)
	})
}

func TestExchangeWithOneCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{total: 50})
		w.Arm(testnet.Fault{Kind: testnet.RST, Direction: testnet.ToClient, Message: 20, Where: testnet.Inside})
		s := w.mustOpen(stream.WithReplay(stream.ReplayLimits{}))
		got, sendErr, recvErr := exchange(s, 50)
		require.NoError(t, sendErr)
		require.ErrorIs(t, recvErr, io.EOF)
		require.Equal(t, upTo(50), got)
		require.Equal(t, upTo(50), w.feed.stored)
		require.Equal(t, uint64(1), s.Stats().Resumes)
	})
}

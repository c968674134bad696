package stream_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

// handshakeFaults are all ways to cut the second connection during the hello and its answer.
func handshakeFaults() []testnet.Fault {
	faults := make([]testnet.Fault, 0, 2*len(cutPlaces()))
	for _, direction := range []testnet.Direction{testnet.ToServer, testnet.ToClient} {
		for _, fault := range cutPlaces() {
			fault.Direction, fault.Message, fault.Connection = direction, 1, 2
			faults = append(faults, fault)
		}
	}
	return faults
}

// TestMatrixOfCutsDuringResume cuts at every message, and again in the handshake of the attempt that follows: all
// ways of the second cut in turn.
func TestMatrixOfCutsDuringResume(t *testing.T) {
	t.Parallel()
	second := handshakeFaults()
	for _, direction := range []testnet.Direction{testnet.ToServer, testnet.ToClient} {
		t.Run(direction.String(), func(t *testing.T) {
			t.Parallel()
			for n := 1; n <= messagesOf(direction); n++ {
				first := testnet.Fault{Kind: testnet.RST, Direction: direction, Message: n, Where: testnet.Inside}
				runExchange(t, []testnet.Fault{first, second[n%len(second)]})
			}
		})
	}
	for _, fault := range second {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			first := testnet.Fault{Kind: testnet.FIN, Direction: testnet.ToServer, Message: 25, Where: testnet.After}
			third := fault
			third.Connection = 3
			runExchange(t, []testnet.Fault{first, fault, third})
		})
	}
}

// runReplay has a server take all messages and acknowledge none, and cuts the replay that follows.
func runReplay(t *testing.T, fault testnet.Fault) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{total: exchanged}
		j := keepJournal(f)
		w := newWorld(t, f)
		serve := f.handler
		var handlers atomic.Int32
		f.handler = func(s bidi) error {
			if handlers.Add(1) > 1 {
				return serve(s)
			}
			return swallow(s, exchanged)
		}
		fault.Connection = 1 // the first handler's end leaves it up
		s := w.mustOpen(withReplay())
		w.Arm(fault)
		converse(t, s, j, exchanged)
		require.Len(t, w.Cuts(), 1, "the fault happened: %v", fault)
		require.Len(t, j.handlers, 2, "handlers that resumed")
		require.GreaterOrEqual(t, s.Stats().Replayed, uint64(exchanged), "messages sent again")
	})
}

// swallow is a handler that receives n messages after the hello, tells nobody, and fails.
func swallow(s bidi, n int) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	if err := s.Send(frame{kind: hello}.response()); err != nil {
		return err
	}
	for range n {
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
	return status.Error(codes.Unavailable, "swallowed")
}

// TestMatrixOfCutsDuringReplay cuts at every message that is sent again, and at every answer to one.
func TestMatrixOfCutsDuringReplay(t *testing.T) {
	t.Parallel()
	before := map[testnet.Direction]int{
		testnet.ToServer: 1 + exchanged + 1, // hello, data, and the second attempt's hello
		testnet.ToClient: 1 + 1,
	}
	for _, direction := range []testnet.Direction{testnet.ToServer, testnet.ToClient} {
		for i, fault := range cutPlaces() {
			fault.Direction = direction
			t.Run(fmt.Sprintf("%v %v %v", fault.Kind, fault.Where, direction), func(t *testing.T) {
				t.Parallel()
				step := 1
				first := 1
				if direction == testnet.ToClient { // every message by one kind of cut or another
					step, first = len(cutPlaces()), 1+i
				}
				for n := first; n <= messagesOf(direction)-1; n += step {
					fault.Message = before[direction] + n
					runReplay(t, fault)
				}
			})
		}
	}
}

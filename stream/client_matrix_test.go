package stream_test

import (
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
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

// messagesOf is how many messages go one way in an exchange: a hello, the data, and to the client the acknowledgements.
func messagesOf(d testnet.Direction) int {
	if d == testnet.ToServer {
		return 1 + exchanged
	}
	return 1 + exchanged + exchanged
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

// TestMatrixOfCuts cuts before, inside and after every message, both ways.
func TestMatrixOfCuts(t *testing.T) {
	t.Parallel()
	for _, direction := range []testnet.Direction{testnet.ToServer, testnet.ToClient} {
		for _, fault := range cutPlaces() {
			fault.Direction = direction
			t.Run(fmt.Sprintf("%v %v %v", fault.Kind, fault.Where, direction), func(t *testing.T) {
				t.Parallel()
				for fault.Message = 1; fault.Message <= messagesOf(direction); fault.Message++ {
					runExchange(t, []testnet.Fault{fault})
				}
			})
		}
	}
}

// TestMatrixOfStalls stops the flow at every message, both ways, for longer than the time limits.
func TestMatrixOfStalls(t *testing.T) {
	t.Parallel()
	limits := []stream.ClientOption{
		stream.WithIdleTimeout(2 * time.Second), stream.WithSendTimeout(2 * time.Second), stream.WithOpenTimeout(2 * time.Second),
	}
	for _, direction := range []testnet.Direction{testnet.ToServer, testnet.ToClient} {
		for _, kind := range []testnet.Kind{testnet.BlackHole, testnet.StallToServer, testnet.StallToClient} {
			t.Run(fmt.Sprintf("%v at messages %v", kind, direction), func(t *testing.T) {
				t.Parallel()
				fault := testnet.Fault{Kind: kind, Direction: direction, Where: testnet.Inside, For: 7 * time.Second}
				for fault.Message = 1; fault.Message <= messagesOf(direction); fault.Message++ {
					runExchange(t, []testnet.Fault{fault}, limits...)
				}
			})
		}
	}
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

package stream_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

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

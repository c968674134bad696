//nolint:thelper // the functions that inBoth runs are tests, not helpers
package testnet

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// talk sends and receives on new streams, one after the other, until the given number has broken or limit messages
// were echoed. It returns how many echoes each stream got.
func talk(t *testing.T, open func() (clientStream, error), streams, limit int) []int {
	t.Helper()
	echoes := make([]int, 0, streams)
	for range streams {
		stream, err := open()
		require.NoError(t, err)
		n := 0
		for n < limit {
			if stream.Send(&request{}) != nil {
				break
			}
			if _, err := stream.Recv(); err != nil {
				break
			}
			n++
		}
		echoes = append(echoes, n)
		if n == limit {
			require.NoError(t, stream.CloseSend())
			_, err := stream.Recv()
			require.ErrorIs(t, err, io.EOF)
		}
	}
	return echoes
}

// opener opens streams that wait for a connection.
func (w *world) opener(t *testing.T) func() (clientStream, error) {
	t.Helper()
	service := w.serve(t, func(s serverStream) error {
		if err := echo(s); !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	})
	return func() (clientStream, error) {
		return service.FullDuplexCall(t.Context(), waitForReady)
	}
}

func TestArmedFaultsReachLaterConnections(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		f := Fault{Kind: FIN, Direction: ToClient, Message: 3, Where: Before}
		w.Arm(f, f)
		assert.Equal(t, []int{2, 2, 4}, talk(t, open, 3, 4), "one fault for each connection")
		assert.Equal(t, 3, w.Stats().Connections)
	})
}

func TestArmTakesTheNearestFirst(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		w.Arm(Fault{Kind: FIN, Direction: ToClient, Message: 4}, Fault{Kind: FIN, Direction: ToClient, Message: 2})
		assert.Equal(t, []int{1, 3, 5}, talk(t, open, 3, 5))
	})
}

func TestArmTakesTheNearestFirstInAMessage(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		for _, where := range []Where{After, Before, Inside} {
			w.Arm(Fault{Kind: FIN, Direction: ToClient, Message: 2, Where: where})
		}
		assert.Equal(t, []int{1, 1, 2, 5}, talk(t, open, 4, 5))
		places := make([]Where, 0, 3)
		for _, c := range w.Cuts() {
			places = append(places, c.Where)
		}
		assert.Equal(t, []Where{Before, Inside, After}, places)
	})
}

func TestArmInOrder(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		w.ArmInOrder(Fault{Kind: FIN, Direction: ToClient, Message: 4}, Fault{Kind: FIN, Direction: ToClient, Message: 2})
		assert.Equal(t, []int{3, 1, 5}, talk(t, open, 3, 5))
	})
}

func TestFaultOfOneConnection(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		w.Arm(
			Fault{Kind: FIN, Direction: ToClient, Message: 2, Connection: 2},
			Fault{Kind: FIN, Direction: ToClient, Message: 4, Connection: 1},
		)
		assert.Equal(t, []int{3, 1, 5}, talk(t, open, 3, 5))
	})
}

func TestFaultInTotal(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		assert.Equal(t, []int{3}, talk(t, open, 1, 3))
		w.ArmInOrder(
			Fault{Kind: FIN, Direction: ToClient, Message: 3, Where: After, Total: true},
			Fault{Kind: FIN, Direction: ToClient, Message: 1, Where: After, Total: true},
		)
		assert.Equal(t, []int{3, 1, 5}, talk(t, open, 3, 5), "counting starts when a fault is armed")
		assert.Equal(t, []int{6, 1}, []int{w.Cuts()[0].Message, w.Cuts()[1].Message}, "numbers on the connection")
	})
}

func TestDisarm(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		w.Arm(Fault{Kind: FIN, Direction: ToClient, Message: 2})
		w.Disarm()
		assert.Equal(t, []int{5}, talk(t, open, 1, 5))
	})
}

func TestFaultAtTheFirstByte(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		w.Arm(Fault{Kind: RST, Direction: ToClient}) // a server that never says a word
		assert.Equal(t, []int{2}, talk(t, open, 1, 2), "the client has connected again")
		assert.Equal(t, 2, w.Stats().Connections)
		assert.Equal(t, map[Kind]int{RST: 1}, w.Stats().Cuts)
	})
}

func TestFaultsEndByThemselves(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		const long = 20 * time.Millisecond
		w.Arm(Fault{Kind: StallToServer, Direction: ToServer, Message: 2, For: long})
		start := time.Now()
		assert.Equal(t, []int{3}, talk(t, open, 1, 3))
		assert.GreaterOrEqual(t, time.Since(start), long)
		w.Arm(Fault{Kind: BlackHole, Direction: ToServer, Message: 5, For: long})
		assert.Equal(t, []int{1}, talk(t, open, 1, 3), "a black hole ends with a reset")
		assert.GreaterOrEqual(t, time.Since(start), 2*long)
	})
}

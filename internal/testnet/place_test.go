//nolint:thelper // the functions that inBoth runs are tests, not helpers
package testnet

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Raw ends show what is on the wire, where gRPC would show what it makes of it.

// wire is the two ends of one connection through a world.
type wire struct{ client, server rawConn }

// rawConn is a net.Conn that can also close one direction, as those of both worlds can.
type rawConn struct{ net.Conn }

func (c rawConn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

func (w *world) wire(t *testing.T) wire {
	t.Helper()
	joined := w.Stats().Connections
	accepted := make(chan net.Conn, 1)
	go func() { // ends when the dial below has succeeded
		c, err := w.listener.Accept()
		assert.NoError(t, err)
		accepted <- c
	}()
	client, err := w.dial(t.Context())
	require.NoError(t, err)
	out := wire{client: rawConn{client}, server: rawConn{<-accepted}}
	for begin := time.Now(); w.Stats().Connections == joined; time.Sleep(time.Millisecond) { // the server may accept before the proxy joins
		require.Less(t, time.Since(begin), 10*time.Second, "waiting for the proxy to join the two ends")
	}
	t.Cleanup(func() {
		_ = out.client.Close()
		_ = out.server.Close()
		_ = w.listener.Close()
	})
	return out
}

// ends returns the sender and the receiver of a direction.
func (c wire) ends(d Direction) (from, to rawConn) {
	if d == ToServer {
		return c.client, c.server
	}
	return c.server, c.client
}

const messageSize = 40

// How messages lie in frames: some in each, one in each, and bits of one in each, the prefix in two.
var layouts = []int{3 * messageSize, messageSize, 3}

// sampleTraffic returns a direction's bytes: messages of messageSize bytes, in frames of frameSize bytes, between two
// frames of another kind.
func sampleTraffic(d Direction, messages, frameSize int) []byte {
	var out, data []byte
	if d == ToServer {
		out = append(out, clientPreface...)
	}
	out = frame(out, 4, 0, 0, nil)
	for range messages {
		data = body(data, messageSize-5)
	}
	for payload := range slices.Chunk(data, frameSize) {
		out = frame(out, 0, 0, 1, payload)
	}
	return frame(out, 8, 0, 0, make([]byte, 4))
}

// received decodes what a raw end has read.
func received(d Direction, in []byte) *seen {
	if d == ToServer && len(in) >= len(clientPreface) {
		in = in[len(clientPreface):]
	}
	return decode(in)
}

// messages is the number of whole messages in whole frames.
func (s *seen) messages() int { return len(s.data[1]) / messageSize }

// forEachPlace runs a test for every place in five messages, in both directions and worlds.
func forEachPlace(t *testing.T, test func(t *testing.T, w *world, f Fault, layout int)) {
	t.Helper()
	for _, d := range []Direction{ToServer, ToClient} {
		for _, where := range []Where{Before, Inside, After} {
			for n := 1; n <= 5; n++ {
				for _, layout := range layouts {
					f := Fault{Direction: d, Message: n, Where: where}
					t.Run(fmt.Sprintf("%v %v %d %v", d, where, n, layout), func(t *testing.T) {
						t.Parallel()
						inBoth(t, func(t *testing.T, w *world) { test(t, w, f, layout) })
					})
				}
			}
		}
	}
}

// bytesAt is how many bytes of messages come before a fault.
func bytesAt(f Fault) int {
	switch f.Where {
	case Before:
		return (f.Message - 1) * messageSize
	case Inside:
		return (f.Message-1)*messageSize + messageSize/2
	case After:
	}
	return f.Message * messageSize
}

// wholeAt is how many whole messages come before a fault.
func wholeAt(f Fault) int {
	if f.Where == After {
		return f.Message
	}
	return f.Message - 1
}

func TestFINIsExact(t *testing.T) {
	t.Parallel()
	forEachPlace(t, func(t *testing.T, w *world, f Fault, layout int) {
		f.Kind = FIN
		w.Arm(f)
		c := w.wire(t)
		from, to := c.ends(f.Direction)
		_, err := from.Write(sampleTraffic(f.Direction, 6, layout))
		require.NoError(t, err)

		in, err := io.ReadAll(to)
		require.NoError(t, err, "the receiver meets io.EOF")
		got := received(f.Direction, in)
		assert.Equal(t, wholeAt(f), got.messages(), "what the receiver can make use of")
		assert.Len(t, got.partial[1], bytesAt(f))
		rest, err := io.ReadAll(from)
		require.NoError(t, err, "the sender meets io.EOF")
		assert.Empty(t, rest)
		assert.Equal(t, []Cut{{Kind: FIN, Connection: 1, Direction: f.Direction, Message: f.Message, Where: f.Where}},
			timeless(w.Cuts()))
		s := w.Stats()
		assert.Equal(t, wholeAt(f), []Traffic{s.ToServer, s.ToClient}[f.Direction].Messages)
		assert.EqualValues(t, len(in), []Traffic{s.ToServer, s.ToClient}[f.Direction].Bytes)
	})
}

// The message of a fault may be lost with its connection. The next message has the fault then, or it would never happen, nor
// what is armed after it.
func TestFaultWhoseMessageIsLost(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		happened := make(chan Cut, 1)
		w.OnCut(func(c Cut) { happened <- c })
		w.Arm(Fault{Kind: RST, Direction: ToServer, Message: 2, Where: After, Total: true})
		first := w.wire(t)
		traffic := sampleTraffic(ToServer, 2, messageSize)
		inside := len(traffic) - messageSize
		_, err := first.client.Write(traffic[:inside])
		require.NoError(t, err)
		_, err = io.ReadFull(first.server, make([]byte, inside))
		require.NoError(t, err)
		require.NoError(t, first.client.Close())
		require.NoError(t, first.server.Close())
		require.Eventually(t, func() bool { return w.Stats().Live == 0 }, 10*time.Second, time.Millisecond)
		require.Empty(t, w.Cuts())

		second := w.wire(t)
		_, err = second.client.Write(sampleTraffic(ToServer, 3, messageSize))
		require.NoError(t, err)
		limit := time.NewTimer(10 * time.Second)
		defer limit.Stop()
		select {
		case c := <-happened:
			require.Equal(t, Cut{Kind: RST, Connection: 2, Direction: ToServer, Message: 1, Where: After}, timeless([]Cut{c})[0])
		case <-limit.C:
			t.Fatal("the fault is lost")
		}
	})
}

func TestRSTIsExactInMemory(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{RST, Truncate} {
		forEachPlace(t, func(t *testing.T, w *world, f Fault, layout int) {
			f.Kind = kind
			w.Arm(f)
			if kind == Truncate {
				f.Where = Inside // whatever was said
			}
			c := w.wire(t)
			from, to := c.ends(f.Direction)
			_, err := from.Write(sampleTraffic(f.Direction, 6, layout))
			require.NoError(t, err)

			in, err := io.ReadAll(to)
			require.ErrorContains(t, err, "connection reset by peer")
			got := received(f.Direction, in)
			if w.memory() {
				assert.Equal(t, wholeAt(f), got.messages())
				assert.Len(t, got.partial[1], bytesAt(f))
			}
			assert.LessOrEqual(t, got.messages(), wholeAt(f))
			_, err = io.ReadAll(from)
			require.ErrorContains(t, err, "connection reset by peer")
		})
	}
}

func TestBlackHoleIsExact(t *testing.T) {
	t.Parallel()
	forEachPlace(t, func(t *testing.T, w *world, f Fault, layout int) {
		f.Kind = BlackHole
		dark := make(chan Cut, 1)
		w.OnCut(func(c Cut) { dark <- c })
		w.Arm(f)
		c := w.wire(t)
		from, to := c.ends(f.Direction)
		_, err := from.Write(sampleTraffic(f.Direction, 6, layout))
		require.NoError(t, err)
		<-dark
		assert.Equal(t, 1, w.Stats().Live)
		_, err = to.Write(sampleTraffic(1-f.Direction, 1, messageSize))
		require.NoError(t, err, "writing goes on working, on the other side too")
		_, err = from.Write([]byte("more"))
		require.NoError(t, err)

		w.Heal()
		in, err := io.ReadAll(to)
		require.ErrorContains(t, err, "connection reset by peer", "after Heal the connection is of no use")
		if got := received(f.Direction, in); w.memory() {
			assert.Len(t, got.partial[1], bytesAt(f))
		}
		assert.LessOrEqual(t, len(received(f.Direction, in).partial[1]), bytesAt(f))
		back, err := io.ReadAll(from)
		require.Error(t, err)
		assert.Empty(t, back, "the other direction is as black")
	})
}

func TestStallIsExact(t *testing.T) {
	t.Parallel()
	forEachPlace(t, func(t *testing.T, w *world, f Fault, layout int) {
		f.Kind = []Kind{StallToServer, StallToClient}[f.Direction]
		stalled := make(chan Cut, 1)
		w.OnCut(func(c Cut) { stalled <- c })
		w.Arm(f)
		c := w.wire(t)
		from, to := c.ends(f.Direction)
		whole := sampleTraffic(f.Direction, 6, layout)
		_, err := from.Write(whole)
		require.NoError(t, err)
		<-stalled
		forwarded := func() Traffic { s := w.Stats(); return []Traffic{s.ToServer, s.ToClient}[f.Direction] }
		before := forwarded()
		assert.Equal(t, wholeAt(f), before.Messages)
		back := sampleTraffic(1-f.Direction, 3, layout)
		_, err = to.Write(back)
		require.NoError(t, err)
		_, err = from.Write(frame(nil, 0, 1, 1, nil))
		require.NoError(t, err)
		_, err = io.ReadFull(from, back[:len(back)/2])
		require.NoError(t, err, "the other direction flows")
		assert.Equal(t, before, forwarded(), "nothing moves in this one")

		w.Heal()
		require.NoError(t, from.CloseWrite())
		in, err := io.ReadAll(to)
		require.NoError(t, err)
		got := received(f.Direction, in)
		assert.Equal(t, received(f.Direction, whole).data[1], got.data[1], "everything arrives")
		assert.Contains(t, got.ended, uint32(1))
	})
}

func TestFaultByBytes(t *testing.T) {
	t.Parallel()
	whole := sampleTraffic(ToServer, 2, messageSize)
	for n := range whole {
		w := NewMemory()
		w.Arm(Fault{Kind: FIN, Direction: ToServer, Bytes: int64(n)})
		listener := w.Listener()
		accepted := make(chan net.Conn, 1)
		go func() { // ends when Dial below has succeeded
			c, err := listener.Accept()
			assert.NoError(t, err)
			accepted <- c
		}()
		client, err := w.Dial(t.Context(), "")
		require.NoError(t, err)
		_, err = client.Write(whole)
		require.NoError(t, err)
		in, err := io.ReadAll(<-accepted)
		require.NoError(t, err)
		assert.Equal(t, whole[:n], in)
		require.NoError(t, client.Close())
		require.NoError(t, w.Close())
	}
}
